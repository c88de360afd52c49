package com.aimatrix.engine.it;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/** Waiting for what is to happen, and failing by name if it does not. */
final class Waiting {
    static final long PATIENCE_S = 120;

    private Waiting() {}

    static void until(BooleanSupplier check, String what) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!check.getAsBoolean()) {
            if (System.nanoTime() > end) {
                throw new AssertionError("did not happen: " + what);
            }
            Thread.sleep(5);
        }
    }

    static void until(CountDownLatch latch, String what) throws InterruptedException {
        if (!latch.await(PATIENCE_S, TimeUnit.SECONDS)) {
            throw new AssertionError("did not happen: " + what);
        }
    }
}
