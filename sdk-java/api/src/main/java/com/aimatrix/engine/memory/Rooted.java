package com.aimatrix.engine.memory;

/** A collection that is a memory. */
interface Rooted {
    /** The memory behind it. */
    Root root();
}
