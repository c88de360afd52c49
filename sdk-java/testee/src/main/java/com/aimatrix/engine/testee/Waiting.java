package com.aimatrix.engine.testee;

import com.aimatrix.engine.Context;
import com.aimatrix.engine.errors.AmxException;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;

/** Handlers that wait until somebody releases or cancels them, in this process. */
public final class Waiting {
    private static final Set<CompletableFuture<String>> WAITING = ConcurrentHashMap.newKeySet();
    private static final AtomicInteger CANCELLED = new AtomicInteger();

    private Waiting() {}

    /**
     * Waits until it is released; counts a cancellation and lets it through.
     *
     * @param context of the handler that waits
     * @return `released`
     * @throws AmxException why it was asked to stop
     */
    public static String here(Context context) {
        try {
            return begin(context).join();
        } catch (CompletionException stopped) {
            throw stopped.getCause() instanceof AmxException why ? why : stopped;
        }
    }

    /**
     * As `here`, without a thread.
     *
     * @param context of the handler that waits
     * @return done with `released`; fails with the reason for which it was asked to stop
     */
    public static CompletableFuture<String> begin(Context context) {
        CompletableFuture<String> released = new CompletableFuture<>();
        WAITING.add(released);
        context.onStop(
                why -> {
                    if (WAITING.remove(released)) {
                        CANCELLED.incrementAndGet();
                        released.completeExceptionally(why);
                    }
                });
        return released;
    }

    /**
     * Releases all that wait.
     *
     * @return how many
     */
    public static int release() {
        int count = 0;
        for (CompletableFuture<String> waiting : WAITING) {
            if (WAITING.remove(waiting)) {
                count++;
                waiting.complete("released");
            }
        }
        return count;
    }

    /**
     * How many were cancelled so far.
     *
     * @return a count
     */
    public static int cancelled() {
        return CANCELLED.get();
    }
}
