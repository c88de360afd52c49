package com.aimatrix.engine.host;

import com.aimatrix.engine.core.Environment;
import com.aimatrix.engine.core.Failures;
import com.aimatrix.engine.core.LinkProtocol;
import com.aimatrix.engine.core.PendingCall;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.spec.EngineCalls;
import com.aimatrix.engine.v1.Accepted;
import com.aimatrix.engine.v1.Broadcast;
import com.aimatrix.engine.v1.BroadcastResult;
import com.aimatrix.engine.v1.BroadcastScope;
import com.aimatrix.engine.v1.Call;
import com.aimatrix.engine.v1.Event;
import com.aimatrix.engine.v1.MemoryOperation;
import com.aimatrix.engine.v1.MemoryOperationResult;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.Published;
import com.aimatrix.engine.v1.Reply;
import com.aimatrix.engine.v1.Subscription;
import java.util.ArrayDeque;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;
import java.util.function.Consumer;
import java.util.function.Function;

/** The engine at the other end of a link. */
public final class LinkCalls implements EngineCalls {
    /** Events a subscriber may be behind; the engine does not wait for slow readers. */
    private static final int SUBSCRIPTION_BUFFER = 4096;

    private final LinkProtocol protocol;
    private final Environment environment;
    private final Failures failures;

    /**
     * Calls on a link.
     *
     * @param protocol says them
     * @param environment its thread and log
     * @param failures as exceptions
     */
    public LinkCalls(LinkProtocol protocol, Environment environment, Failures failures) {
        this.protocol = protocol;
        this.environment = environment;
        this.failures = failures;
    }

    @Override
    public CompletableFuture<Accepted> send(Message message, Options options) {
        Call call = call(options).setSend(message).build();
        return ask(call, !message.getMessageId().isEmpty(), Reply::hasAccepted, Reply::getAccepted);
    }

    @Override
    public CompletableFuture<Payload> request(Message message, Options options) {
        Call call = call(options).setRequest(message).build();
        return ask(call, !message.getIdempotencyKey().isEmpty(), Reply::hasResult, Reply::getResult);
    }

    @Override
    public CompletableFuture<Published> publish(Event event, Options options) {
        Call call = call(options).setPublish(event).build();
        return ask(call, !event.getEventId().isEmpty(), Reply::hasPublished, Reply::getPublished);
    }

    @Override
    public CompletableFuture<BroadcastResult> broadcast(BroadcastScope scope, Message message, Options options) {
        Call call = call(options).setBroadcast(Broadcast.newBuilder().setScope(scope).setMessage(message)).build();
        return ask(call, false, Reply::hasBroadcast, Reply::getBroadcast);
    }

    @Override
    public CompletableFuture<MemoryOperationResult> memory(MemoryOperation operation, Options options) {
        boolean reads = operation.hasGet() || operation.hasList();
        return ask(call(options).setMemory(operation).build(), reads, Reply::hasMemory, Reply::getMemory);
    }

    @Override
    public Flow.Publisher<Payload> stream(Message message, Options options) {
        return subscriber -> {
            StreamCall call = new StreamCall(subscriber);
            subscriber.onSubscribe(call);
            environment.execute(() -> call.begin(call(options).setStream(message).build()));
        };
    }

    @Override
    public CompletableFuture<EventSource> subscribe(Subscription subscription, Options options) {
        CompletableFuture<EventSource> inForce = new CompletableFuture<>();
        SubscriptionCall call = new SubscriptionCall(inForce);
        // Without a timeout: it would end the subscription, too.
        Call what = call(new Options(0, options.invocationId())).setSubscribe(subscription).build();
        say(call, what, true);
        inForce.whenComplete(
                (source, error) -> {
                    if (inForce.isCancelled()) {
                        call.close();
                    }
                });
        return inForce;
    }

    /**
     * Says that agents joined or left.
     *
     * @param say registers with the protocol, on the link's thread
     * @return done when the engine has agreed
     */
    CompletableFuture<Void> register(Consumer<PendingCall> say) {
        CompletableFuture<Void> done = new CompletableFuture<>();
        PendingCall call =
                new PendingCall() {
                    @Override
                    public void replied(Reply reply) {
                        if (reply.hasFailure()) {
                            done.completeExceptionally(failures.exception(reply.getFailure()));
                        } else {
                            done.complete(null);
                        }
                    }

                    @Override
                    public void failed(AmxException error) {
                        done.completeExceptionally(error);
                    }
                };
        try {
            say.accept(call);
        } catch (RuntimeException error) {
            done.completeExceptionally(error);
        }
        return done;
    }

    private static Call.Builder call(Options options) {
        return Call.newBuilder()
                .setInvocationId(options.invocationId())
                .setTimeoutMs(Math.max(0, options.timeoutMs()));
    }

    private <T> CompletableFuture<T> ask(
            Call what, boolean repeatable, Function<Reply, Boolean> answers, Function<Reply, T> value) {
        CompletableFuture<T> future = new CompletableFuture<>();
        PendingCall call =
                new PendingCall() {
                    @Override
                    public void replied(Reply reply) {
                        if (reply.hasFailure()) {
                            future.completeExceptionally(failures.exception(reply.getFailure()));
                        } else if (answers.apply(reply)) {
                            future.complete(value.apply(reply));
                        } else {
                            future.completeExceptionally(
                                    new AmxException(
                                            Code.INTERNAL,
                                            "PROTOCOL_VIOLATION",
                                            "the engine's reply to a " + what.getOperationCase() + " has no outcome"));
                        }
                    }

                    @Override
                    public void failed(AmxException error) {
                        future.completeExceptionally(error);
                    }
                };
        say(call, what, repeatable);
        future.whenComplete(
                (done, error) -> {
                    if (future.isCancelled()) {
                        environment.execute(() -> protocol.cancel(call, "the caller gave up"));
                    }
                });
        return future;
    }

    private void say(PendingCall call, Call what, boolean repeatable) {
        environment.execute(
                () -> {
                    try {
                        protocol.call(call, what, repeatable);
                    } catch (AmxException error) {
                        call.failed(error);
                    }
                });
    }

    /** Hands chunks to one subscriber. Everything but `request` and `cancel` is on the link's thread. */
    private final class StreamCall extends PendingCall implements Flow.Subscription {
        private final Flow.Subscriber<? super Payload> subscriber;
        private final ArrayDeque<Payload> chunks = new ArrayDeque<>();
        private long demand;
        private int taken; // chunks read since the last grant
        private boolean done;
        private boolean over;
        private AmxException error;

        StreamCall(Flow.Subscriber<? super Payload> subscriber) {
            this.subscriber = subscriber;
        }

        void begin(Call what) {
            if (over) {
                return;
            }
            try {
                protocol.call(this, what, false);
            } catch (AmxException refused) {
                failed(refused);
            }
        }

        @Override
        public void request(long count) {
            environment.execute(
                    () -> {
                        if (count <= 0) {
                            failed(
                                    new AmxException(
                                            Code.INVALID_ARGUMENT,
                                            "INVALID_DEMAND",
                                            "a subscriber asked for " + count + " chunks; ask for at least one"));
                            return;
                        }
                        demand = demand + count < 0 ? Long.MAX_VALUE : demand + count;
                        pass();
                    });
        }

        @Override
        public void cancel() {
            environment.execute(
                    () -> {
                        over = true;
                        chunks.clear();
                        protocol.cancel(this, "the reader left");
                    });
        }

        @Override
        public void chunk(Payload payload) {
            chunks.add(payload);
            pass();
        }

        @Override
        public void replied(Reply reply) {
            if (reply.hasFailure()) {
                failed(failures.exception(reply.getFailure()));
                return;
            }
            Payload result = reply.getResult();
            // A handler that does not stream: its result is all there is.
            if (!result.getData().isEmpty() || !result.getContentType().isEmpty()) {
                chunks.add(result);
            }
            done = true;
            pass();
        }

        @Override
        public void failed(AmxException why) {
            if (!done) {
                error = why;
                done = true;
                protocol.cancel(this, "the reader failed");
                pass();
            }
        }

        private void pass() {
            while (!over && demand > 0 && !chunks.isEmpty()) {
                demand--;
                taken++;
                if (2 * taken >= protocol.limits().streamWindow()) {
                    protocol.grant(this, taken);
                    taken = 0;
                }
                subscriber.onNext(chunks.poll());
            }
            if (!over && done && chunks.isEmpty()) {
                over = true;
                if (error != null) {
                    subscriber.onError(error);
                } else {
                    subscriber.onComplete();
                }
            }
        }
    }

    /** Waits for events, until it is given up. A reader that falls too far behind loses the oldest ones. */
    private final class SubscriptionCall extends PendingCall implements EventSource {
        private final CompletableFuture<EventSource> inForce;
        private final ArrayDeque<Event> events = new ArrayDeque<>();
        private final ArrayDeque<CompletableFuture<Event>> readers = new ArrayDeque<>();
        private AmxException error;
        private boolean done;
        private volatile long dropped;

        SubscriptionCall(CompletableFuture<EventSource> inForce) {
            this.inForce = inForce;
        }

        @Override
        public void replied(Reply reply) {
            if (reply.hasFailure()) {
                failed(failures.exception(reply.getFailure()));
            } else {
                inForce.complete(this);
            }
        }

        @Override
        public void failed(AmxException why) {
            inForce.completeExceptionally(why);
            if (!done) {
                error = why;
                done = true;
                pass();
            }
        }

        @Override
        public void event(Event event) {
            if (events.size() >= SUBSCRIPTION_BUFFER) {
                events.poll();
                if (dropped == 0) {
                    environment.log(
                            Environment.Level.WARN,
                            "a subscriber is " + SUBSCRIPTION_BUFFER + " events behind: the oldest are dropped; read"
                                    + " faster, or subscribe an agent",
                            null);
                }
                dropped = dropped + 1;
            }
            events.add(event);
            pass();
        }

        @Override
        public CompletableFuture<Event> next() {
            CompletableFuture<Event> reader = new CompletableFuture<>();
            environment.execute(
                    () -> {
                        readers.add(reader);
                        pass();
                    });
            return reader;
        }

        @Override
        public long dropped() {
            return dropped;
        }

        @Override
        public void close() {
            environment.execute(
                    () -> {
                        if (!done) {
                            done = true;
                            protocol.cancel(this, "unsubscribed");
                            pass();
                        }
                    });
        }

        private void pass() {
            while (!readers.isEmpty()) {
                CompletableFuture<Event> reader = readers.peek();
                if (reader.isDone()) {
                    readers.poll(); // it was cancelled
                } else if (!events.isEmpty()) {
                    readers.poll();
                    reader.complete(events.poll());
                } else if (error != null) {
                    readers.poll();
                    reader.completeExceptionally(error);
                } else if (done) {
                    readers.poll();
                    reader.complete(null);
                } else {
                    return;
                }
            }
        }
    }
}
