package com.aimatrix.engine;

/**
 * Where a handler runs. Every handler of Java has a thread that it may block; a process is one where the engine
 * hosts the agent itself, and a thread in a worker.
 */
public enum Execution {
    /** Nobody says. */
    UNSPECIFIED,
    /** On a thread. */
    THREAD,
    /** In a process of its own, where there are any. */
    PROCESS
}
