/** Ways to test agents: alone and without sockets, or with a real engine in a process of its own. */
package com.aimatrix.engine.testing;
