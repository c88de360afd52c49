package com.aimatrix.engine.testing;

import com.aimatrix.engine.core.Environment;
import java.util.Comparator;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A thread for a link, and a clock that stands still until it is moved. */
final class StillEnvironment implements Environment, AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger("com.aimatrix.engine.testing");

    private record Due(double at, long sequence, Runnable callback) {}

    private final LinkedBlockingQueue<Runnable> queue = new LinkedBlockingQueue<>();
    private final TreeSet<Due> due =
            new TreeSet<>(Comparator.comparingDouble(Due::at).thenComparingLong(Due::sequence)); // of the thread
    private final Thread thread;
    private volatile double clock = 1_000_000; // written by the thread
    private long sequence;
    private boolean closed; // of the thread
    private volatile boolean over; // the thread has ended

    StillEnvironment() {
        thread = new Thread(this::work, "amx-harness");
        thread.setDaemon(true);
        thread.start();
    }

    private void work() {
        try {
            while (!closed) {
                run(queue.take());
            }
        } catch (InterruptedException ended) {
            LOG.error("the thread of a harness was interrupted", ended);
        }
    }

    private static void run(Runnable callback) {
        try {
            callback.run();
        } catch (RuntimeException | Error defect) {
            LOG.error("the harness goes on after a defect", defect);
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
        if (over) {
            run(callback);
        } else {
            queue.add(callback);
        }
    }

    @Override
    public String randomId() {
        return UUID.randomUUID().toString().replace("-", "");
    }

    @Override
    public void log(Level level, String message, Throwable error) {
        switch (level) {
            case ERROR -> LOG.error(message, error);
            default -> LOG.debug(message, error); // a clock that jumps makes links complain
        }
    }

    @Override
    public String host() {
        return "harness";
    }

    @Override
    public String language() {
        return "java " + System.getProperty("java.version");
    }

    /** What was made on the thread, after everything that was queued before. */
    <T> T ask(Supplier<T> question) {
        CompletableFuture<T> answer = new CompletableFuture<>();
        execute(
                () -> {
                    try {
                        answer.complete(question.get());
                    } catch (RuntimeException | Error error) {
                        answer.completeExceptionally(error);
                    }
                });
        return Results.await(answer);
    }

    /** Moves the clock at once, then does what fell due meanwhile, in its order; returns when that is done. */
    void jump(double millis) {
        ask(
                () -> {
                    clock += millis;
                    while (!due.isEmpty() && due.first().at() <= clock) {
                        run(due.pollFirst().callback());
                    }
                    return null;
                });
        ask(() -> null); // what the callbacks left to be done soon
    }

    /** Ends the thread after what is queued. What is still to be looked at afterwards is looked at by who asks. */
    @Override
    public void close() {
        execute(() -> closed = true);
        try {
            thread.join();
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
        over = true;
        for (Runnable left = queue.poll(); left != null; left = queue.poll()) {
            run(left);
        }
    }
}
