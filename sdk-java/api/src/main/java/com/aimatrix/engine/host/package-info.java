/** The agents of this process at work: activations, turns, running handlers, their streams and effects; the link. */
package com.aimatrix.engine.host;
