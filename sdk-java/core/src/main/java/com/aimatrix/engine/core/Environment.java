package com.aimatrix.engine.core;

import java.util.concurrent.Executor;

/**
 * What the SDK needs of whatever runs it: time, timers, a thread, and a place for its log. All callbacks run on one
 * thread, one after the other; that thread alone touches the protocol and the host.
 */
public interface Environment extends Executor {
    /** A timer that was set. */
    @FunctionalInterface
    interface Timer {
        /** It will not call back; does nothing if it has. */
        void cancel();
    }

    /** How important a line of the log is. */
    enum Level {
        /** For who looks for a fault. */
        DEBUG,
        /** For who looks at what happens. */
        INFO,
        /** Something should be looked at. */
        WARN,
        /** Something is wrong. */
        ERROR
    }

    /**
     * The clock of heartbeats, deadlines and the lifetimes of what is remembered.
     *
     * @return milliseconds from an arbitrary beginning; never jumps. In tests it stands still until it is moved
     */
    double now();

    /**
     * Calls back once, when `now()` has reached `at` or later.
     *
     * @param at milliseconds, as `now` counts them
     * @param callback must not throw
     * @return to cancel it
     */
    Timer callAt(double at, Runnable callback);

    /**
     * Calls back once, after real time: waits that are no part of the protocol.
     *
     * @param millis how long
     * @param callback must not throw
     * @return to cancel it
     */
    Timer await(double millis, Runnable callback);

    /**
     * Calls back soon, once everything that is due now has run. May be called from any thread.
     *
     * @param callback must not throw
     */
    @Override
    void execute(Runnable callback);

    /**
     * A random text.
     *
     * @return 32 hexadecimal digits
     */
    String randomId();

    /**
     * Writes a line of the log.
     *
     * @param level how important it is
     * @param message what happened
     * @param error what was thrown; null: nothing
     */
    void log(Level level, String message, Throwable error);

    /**
     * Where this is, for people.
     *
     * @return host name and process id
     */
    String host();

    /**
     * Language and runtime.
     *
     * @return e.g. `java 17.0.15`
     */
    String language();
}
