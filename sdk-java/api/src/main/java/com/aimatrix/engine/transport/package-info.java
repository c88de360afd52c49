/** How frames travel: connections and who makes them; the thread of a link. */
package com.aimatrix.engine.transport;
