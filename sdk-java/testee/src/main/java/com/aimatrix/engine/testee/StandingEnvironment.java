package com.aimatrix.engine.testee;

import com.aimatrix.engine.core.Environment;
import java.util.Comparator;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executor;
import java.util.concurrent.locks.LockSupport;

/**
 * An environment whose clock stands still until it is moved, and that knows when nothing is left to do: its own queue
 * is empty, and every handler has ended or waits for something that is not there yet.
 */
final class StandingEnvironment implements Environment {
    private static final int QUIET_LOOKS = 3;
    private static final long LOOK_NS = 20_000;

    private record Due(double at, long sequence, Runnable callback) {}

    private final ConcurrentLinkedQueue<Runnable> queue = new ConcurrentLinkedQueue<>();
    private final TreeSet<Due> due =
            new TreeSet<>(Comparator.comparingDouble(Due::at).thenComparingLong(Due::sequence));
    private final InOrder handlers = new InOrder(() -> this.news.run());
    private double clock = 1_000_000;
    private long sequence;
    private volatile Runnable news = () -> {};

    /** Calls back, on any thread, when there is something to do. */
    void onNews(Runnable callback) {
        news = callback;
    }

    /** Runs handlers. */
    Executor handlers() {
        return handlers;
    }

    @Override
    public double now() {
        return clock;
    }

    @Override
    public Timer callAt(double at, Runnable callback) {
        Due one = new Due(at, sequence++, callback);
        due.add(one);
        return () -> due.remove(one);
    }

    @Override
    public Timer await(double millis, Runnable callback) {
        return callAt(clock + millis, callback);
    }

    @Override
    public void execute(Runnable callback) {
        queue.add(callback);
        news.run();
    }

    @Override
    public String randomId() {
        return UUID.randomUUID().toString().replace("-", "");
    }

    @Override
    public void log(Level level, String message, Throwable error) {
        if (level != Level.DEBUG) {
            System.err.println(level + " " + message);
            if (error != null) {
                error.printStackTrace();
            }
        }
    }

    @Override
    public String host() {
        return "testee pid " + ProcessHandle.current().pid();
    }

    @Override
    public String language() {
        return "java " + System.getProperty("java.version");
    }

    /** Returns when nothing is left to do without further input or time. */
    void settle() {
        int quiet = 0;
        while (quiet < QUIET_LOOKS) {
            Runnable next = queue.poll();
            if (next != null) {
                next.run();
                quiet = 0;
            } else if (handlers.busy()) {
                quiet = 0;
                LockSupport.parkNanos(LOOK_NS);
            } else if (!queue.isEmpty()) {
                quiet = 0;
            } else if (handlers.startNext()) {
                quiet = 0;
            } else {
                quiet++;
                Thread.yield();
            }
        }
    }

    /** Moves the clock from one due time to the next, and lets everything happen at each. */
    void advance(double millis) {
        settle();
        double end = clock + millis;
        while (!due.isEmpty() && due.first().at() <= end) {
            Due next = due.pollFirst();
            clock = Math.max(clock, next.at());
            next.callback().run();
            settle();
        }
        clock = end;
        settle();
    }
}
