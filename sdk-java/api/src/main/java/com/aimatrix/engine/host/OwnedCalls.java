package com.aimatrix.engine.host;

import com.aimatrix.engine.core.Environment;
import com.aimatrix.engine.core.Ownership;
import com.aimatrix.engine.errors.AmxException;
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
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Flow;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Supplier;

/**
 * Calls at the engine they are for. What concerns no single instance goes to one, which sees to the others. An engine
 * that moves to another process takes nothing in meanwhile: what it refused is said again until it does.
 */
final class OwnedCalls implements EngineCalls {
    private static final long AGAIN_MS = 50;
    private static final long LONGEST_MOVE_MS = 30_000;

    private final List<EngineCalls> engines;
    private final String namespace;
    private final Environment environment;
    private final EngineCalls any;
    private volatile boolean closing;

    OwnedCalls(List<EngineCalls> engines, String namespace, Environment environment) {
        this.engines = engines;
        this.namespace = namespace.isEmpty() ? "default" : namespace;
        this.environment = environment;
        // Any one, so that many processes spread what any engine can do.
        this.any = engines.get(ThreadLocalRandom.current().nextInt(engines.size()));
    }

    /** What ends from now on has ended. */
    void closing() {
        closing = true;
    }

    @Override
    public CompletableFuture<Accepted> send(Message message, Options options) {
        return kept(options, () -> owner(message).send(message, options));
    }

    @Override
    public CompletableFuture<Payload> request(Message message, Options options) {
        return kept(options, () -> owner(message).request(message, options));
    }

    @Override
    public Flow.Publisher<Payload> stream(Message message, Options options) {
        return subscriber -> new Stream(subscriber, message, options).begin();
    }

    @Override
    public CompletableFuture<Published> publish(Event event, Options options) {
        return kept(options, () -> any.publish(event, options));
    }

    @Override
    public CompletableFuture<BroadcastResult> broadcast(BroadcastScope scope, Message message, Options options) {
        return kept(options, () -> any.broadcast(scope, message, options));
    }

    @Override
    public CompletableFuture<EventSource> subscribe(Subscription subscription, Options options) {
        return any.subscribe(subscription, options);
    }

    @Override
    public CompletableFuture<MemoryOperationResult> memory(MemoryOperation operation, Options options) {
        String agent = operation.getInstance().getAgent();
        return kept(options, () -> owner(agent, operation.getInstance().getKey()).memory(operation, options));
    }

    private EngineCalls owner(Message message) {
        return owner(message.getAgent(), message.getKey());
    }

    private EngineCalls owner(String agent, String key) {
        // Without an agent it is for a router.
        return agent.isEmpty() ? any : engines.get(Ownership.ownerOf(namespace, agent, key, engines.size()));
    }

    // --- engines that move -------------------------------------------------------------------------------------------

    private <T> CompletableFuture<T> kept(Options options, Supplier<CompletableFuture<T>> call) {
        CompletableFuture<T> outcome = new CompletableFuture<>();
        attempt(outcome, call, until(options));
        return outcome;
    }

    private <T> void attempt(CompletableFuture<T> outcome, Supplier<CompletableFuture<T>> call, long until) {
        CompletableFuture<T> one = call.get();
        one.whenComplete(
                (value, error) -> {
                    if (error == null) {
                        outcome.complete(value);
                    } else if (moves(error, until)) {
                        again(() -> {
                            if (!outcome.isDone()) {
                                attempt(outcome, call, until);
                            }
                        });
                    } else {
                        outcome.completeExceptionally(unwrapped(error));
                    }
                });
        outcome.whenComplete(
                (value, error) -> {
                    if (outcome.isCancelled()) {
                        one.cancel(true);
                    }
                });
    }

    /** Whether a call that ended so may be made again. */
    private boolean moves(Throwable error, long until) {
        return !closing
                && unwrapped(error) instanceof AmxException failure
                && failure.reason().equals("SHUTTING_DOWN")
                && System.nanoTime() - until < 0;
    }

    private void again(Runnable what) {
        environment.execute(() -> environment.await(AGAIN_MS, what));
    }

    private static long until(Options options) {
        return System.nanoTime() + 1_000_000 * (options.timeoutMs() > 0 ? options.timeoutMs() : LONGEST_MOVE_MS);
    }

    private static Throwable unwrapped(Throwable error) {
        return error instanceof CompletionException && error.getCause() != null ? error.getCause() : error;
    }

    /** A stream that begins again while its engine moves, until its first chunk is here. */
    private final class Stream implements Flow.Subscriber<Payload>, Flow.Subscription {
        private final Flow.Subscriber<? super Payload> reader;
        private final Message message;
        private final Options options;
        private final long until;
        private Flow.Subscription upstream; // guarded by this, as is all below
        private long demand; // asked for before there was an upstream to ask
        private boolean begun;
        private boolean cancelled;

        Stream(Flow.Subscriber<? super Payload> reader, Message message, Options options) {
            this.reader = reader;
            this.message = message;
            this.options = options;
            this.until = until(options);
        }

        void begin() {
            reader.onSubscribe(this);
            attempt();
        }

        private void attempt() {
            synchronized (this) {
                if (cancelled) {
                    return;
                }
            }
            owner(message).stream(message, options).subscribe(this);
        }

        @Override
        public void onSubscribe(Flow.Subscription given) {
            long asked;
            synchronized (this) {
                upstream = given;
                asked = demand;
            }
            if (asked != 0) {
                given.request(asked);
            }
        }

        @Override
        public void request(long count) {
            Flow.Subscription to;
            synchronized (this) {
                to = upstream;
                if (count <= 0) {
                    demand = to == null ? count : demand; // the upstream says what is wrong with it
                } else if (!begun) {
                    demand = demand + count < 0 ? Long.MAX_VALUE : demand + count;
                }
            }
            if (to != null) {
                to.request(count);
            }
        }

        @Override
        public void cancel() {
            Flow.Subscription to;
            synchronized (this) {
                cancelled = true;
                to = upstream;
            }
            if (to != null) {
                to.cancel();
            }
        }

        @Override
        public void onNext(Payload chunk) {
            synchronized (this) {
                begun = true;
            }
            reader.onNext(chunk);
        }

        @Override
        public void onError(Throwable error) {
            boolean repeat;
            synchronized (this) {
                repeat = !begun && !cancelled && moves(error, until);
                if (repeat) {
                    upstream = null;
                }
            }
            if (repeat) {
                again(this::attempt);
            } else {
                reader.onError(error);
            }
        }

        @Override
        public void onComplete() {
            reader.onComplete();
        }
    }
}
