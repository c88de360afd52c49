package com.aimatrix.engine.core;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.TreeSet;

/** An environment whose clock stands still until it is moved. */
final class StillEnvironment implements Environment {
    private record Due(double at, long sequence, Runnable callback) {}

    private final TreeSet<Due> due =
            new TreeSet<>(Comparator.comparingDouble(Due::at).thenComparingLong(Due::sequence));
    private final ArrayDeque<Runnable> queue = new ArrayDeque<>();
    final List<String> logged = new ArrayList<>();
    private double clock = 1000;
    private long sequence;

    void advance(double millis) {
        double end = clock + millis;
        while (!due.isEmpty() && due.first().at() <= end) {
            Due next = due.pollFirst();
            clock = next.at();
            next.callback().run();
        }
        clock = end;
        while (!queue.isEmpty()) {
            queue.poll().run();
        }
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
    }

    @Override
    public String randomId() {
        return "0".repeat(32);
    }

    @Override
    public void log(Level level, String message, Throwable error) {
        logged.add(level + " " + message);
    }

    @Override
    public String host() {
        return "test";
    }

    @Override
    public String language() {
        return "java";
    }
}
