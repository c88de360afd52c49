package com.aimatrix.engine;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedTransferQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Where handlers run, and may block: virtual threads where the JVM has them, else a pool that is bounded. */
final class HandlerThreads {
    private static final long IDLE_S = 30;

    private HandlerThreads() {}

    /** most: threads of the pool; virtual ones need no bound but that of the messages handled at a time. */
    static ExecutorService create(int most) {
        try {
            return (ExecutorService)
                    MethodHandles.publicLookup()
                            .findStatic(
                                    Executors.class,
                                    "newVirtualThreadPerTaskExecutor",
                                    MethodType.methodType(ExecutorService.class))
                            .invoke();
        } catch (NoSuchMethodException error) {
            return pool(most); // before Java 21
        } catch (Error error) {
            throw error;
        } catch (Throwable error) {
            return pool(most); // a preview, and not enabled
        }
    }

    /** Threads that rest are used first, then new ones, up to `most`; then tasks wait. */
    static ExecutorService pool(int most) {
        AtomicInteger number = new AtomicInteger();
        Waiting waiting = new Waiting();
        return new ThreadPoolExecutor(
                0,
                most,
                IDLE_S,
                TimeUnit.SECONDS,
                waiting,
                task -> {
                    Thread thread = new Thread(task, "amx-handler-" + number.incrementAndGet());
                    thread.setDaemon(true);
                    return thread;
                },
                (task, executor) -> {
                    if (!executor.isShutdown()) {
                        waiting.put(task);
                    }
                });
    }

    /** Takes a task from `execute` only if a thread waits for one: otherwise the pool makes a thread. */
    private static final class Waiting extends LinkedTransferQueue<Runnable> {
        private static final long serialVersionUID = 1L;

        @Override
        public boolean offer(Runnable task) {
            return tryTransfer(task);
        }
    }
}
