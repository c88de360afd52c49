package com.aimatrix.engine.testing;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;

/** Waiting for what becomes of things. */
final class Results {
    private Results() {}

    /** What became of it; throws what it failed with, unwrapped. */
    static <T> T await(CompletableFuture<T> result) {
        try {
            return result.get();
        } catch (InterruptedException error) {
            result.cancel(true);
            Thread.currentThread().interrupt();
            throw new AmxException(Code.CANCELLED, "CANCELLED", "the test was interrupted while it waited");
        } catch (ExecutionException | CancellationException error) {
            Throwable cause = unwrapped(error);
            if (cause instanceof Error fatal) {
                throw fatal;
            }
            throw cause instanceof RuntimeException known ? known : new CompletionException(cause);
        }
    }

    static Throwable unwrapped(Throwable error) {
        boolean wrapped = error instanceof ExecutionException || error instanceof CompletionException;
        return wrapped && error.getCause() != null ? unwrapped(error.getCause()) : error;
    }
}
