package com.aimatrix.engine;

import com.aimatrix.engine.spec.EngineCalls;
import com.aimatrix.engine.v1.Accepted;
import com.aimatrix.engine.v1.BroadcastResult;
import com.aimatrix.engine.v1.BroadcastScope;
import com.aimatrix.engine.v1.Event;
import com.aimatrix.engine.v1.MemoryOperation;
import com.aimatrix.engine.v1.MemoryOperationResult;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.Published;
import com.aimatrix.engine.v1.Subscription;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;
import java.util.concurrent.SubmissionPublisher;

/** An engine that remembers what it was asked, and answers what the test says. */
final class FakeCalls implements EngineCalls {
    final List<Message> messages = new ArrayList<>();
    final List<Options> options = new ArrayList<>();
    final List<MemoryOperation> operations = new ArrayList<>();
    CompletableFuture<Payload> reply = new CompletableFuture<>();
    MemoryOperationResult found = MemoryOperationResult.getDefaultInstance();
    BroadcastResult broadcast = BroadcastResult.getDefaultInstance();
    List<Payload> chunks = List.of();

    @Override
    public CompletableFuture<Accepted> send(Message message, Options how) {
        messages.add(message);
        options.add(how);
        return CompletableFuture.completedFuture(Accepted.newBuilder().setMessageId("m").setDuplicate(true).build());
    }

    @Override
    public CompletableFuture<Payload> request(Message message, Options how) {
        messages.add(message);
        options.add(how);
        return reply;
    }

    @Override
    public Flow.Publisher<Payload> stream(Message message, Options how) {
        return subscriber -> {
            SubmissionPublisher<Payload> publisher = new SubmissionPublisher<>(Runnable::run, 64);
            publisher.subscribe(subscriber);
            chunks.forEach(publisher::submit);
            publisher.close();
        };
    }

    @Override
    public CompletableFuture<Published> publish(Event event, Options how) {
        return CompletableFuture.completedFuture(Published.newBuilder().setEventId("e").setSubscribers(2).build());
    }

    @Override
    public CompletableFuture<BroadcastResult> broadcast(BroadcastScope scope, Message message, Options how) {
        return CompletableFuture.completedFuture(broadcast);
    }

    @Override
    public CompletableFuture<EventSource> subscribe(Subscription subscription, Options how) {
        return CompletableFuture.failedFuture(new UnsupportedOperationException());
    }

    @Override
    public CompletableFuture<MemoryOperationResult> memory(MemoryOperation operation, Options how) {
        operations.add(operation);
        return CompletableFuture.completedFuture(found);
    }
}
