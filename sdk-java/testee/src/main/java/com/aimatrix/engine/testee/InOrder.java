package com.aimatrix.engine.testee;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.Semaphore;
import java.util.concurrent.locks.LockSupport;

/**
 * Threads for handlers, which begin in the order in which they were given: the next one begins when every other has
 * ended or waits for something that is not there yet. Cases suppose that a message which came before another one is at
 * work before it; an ordinary pool does not promise that.
 */
final class InOrder implements Executor {
    private static final long LOOK_NS = 20_000;

    private final Map<Thread, Boolean> working = new ConcurrentHashMap<>();
    private final ConcurrentLinkedQueue<Runnable> tasks = new ConcurrentLinkedQueue<>(); // that have no thread yet
    private final ExecutorService pool =
            Executors.newCachedThreadPool(
                    task -> {
                        Thread thread = new Thread(task, "handler");
                        thread.setDaemon(true);
                        return thread;
                    });
    private final Runnable news;
    private volatile boolean starting; // a thread is about to take one up

    /** news: told, on any thread, that there is a task. */
    InOrder(Runnable news) {
        this.news = news;
    }

    /** Threads that need nobody to look after them. */
    static Executor threads() {
        Semaphore given = new Semaphore(0);
        InOrder threads = new InOrder(given::release);
        Thread starter =
                new Thread(
                        () -> {
                            while (true) {
                                given.acquireUninterruptibly();
                                while (threads.busy()) {
                                    LockSupport.parkNanos(LOOK_NS);
                                }
                                threads.startNext();
                            }
                        },
                        "in-order");
        starter.setDaemon(true);
        starter.start();
        return threads;
    }

    @Override
    public void execute(Runnable task) {
        tasks.add(task);
        news.run();
    }

    /** Begins with the next task. Returns false if there is none. */
    boolean startNext() {
        Runnable task = tasks.poll();
        if (task == null) {
            return false;
        }
        starting = true;
        pool.execute(
                () -> {
                    working.put(Thread.currentThread(), true);
                    starting = false;
                    try {
                        task.run();
                    } finally {
                        working.remove(Thread.currentThread());
                    }
                });
        return true;
    }

    /** Whether a handler computes, or is about to. One that waits, for a moment or a reply, does not. */
    boolean busy() {
        if (starting) {
            return true;
        }
        for (Thread thread : working.keySet()) {
            switch (thread.getState()) {
                case WAITING, TIMED_WAITING -> {
                    // What it waits for may be there, though the thread was not awake yet to see it.
                    if (thread.isInterrupted()
                            || (LockSupport.getBlocker(thread) instanceof ForkJoinPool.ManagedBlocker future
                                    && future.isReleasable())) {
                        return true;
                    }
                }
                case TERMINATED -> {}
                default -> {
                    return true;
                }
            }
        }
        return false;
    }
}
