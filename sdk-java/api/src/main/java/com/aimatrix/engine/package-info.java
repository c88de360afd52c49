/**
 * What applications use: annotations that make a class an agent, what handlers are given and return, and the builder of
 * an engine's link.
 */
package com.aimatrix.engine;
