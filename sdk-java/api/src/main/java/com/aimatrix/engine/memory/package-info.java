/** What instances remember: collections that notice their changes, and values; loaded, committed and undone. */
package com.aimatrix.engine.memory;
