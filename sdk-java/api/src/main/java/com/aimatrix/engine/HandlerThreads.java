package com.aimatrix.engine;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Where handlers run, and may block: virtual threads where the JVM has them, else a pool that is bounded. */
final class HandlerThreads {
    private static final long LOOK_NS = 1_000_000;

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

    /** most: threads, whatever handlers do. */
    static ExecutorService pool(int most) {
        return new HandlerPool(most, Runtime.getRuntime().availableProcessors(), LOOK_NS);
    }
}
