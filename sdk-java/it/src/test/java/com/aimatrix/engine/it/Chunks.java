package com.aimatrix.engine.it;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;

/** Reads a stream to its end. */
final class Chunks implements Flow.Subscriber<Integer> {
    final CompletableFuture<List<Integer>> all = new CompletableFuture<>();
    private final List<Integer> read = new ArrayList<>();

    @Override
    public void onSubscribe(Flow.Subscription subscription) {
        subscription.request(Long.MAX_VALUE);
    }

    @Override
    public void onNext(Integer chunk) {
        read.add(chunk);
    }

    @Override
    public void onError(Throwable error) {
        all.completeExceptionally(error);
    }

    @Override
    public void onComplete() {
        all.complete(read);
    }
}
