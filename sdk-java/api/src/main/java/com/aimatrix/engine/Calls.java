package com.aimatrix.engine;

import com.aimatrix.engine.core.Failures;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.transport.LinkThread;
import com.aimatrix.engine.v1.BroadcastResult;
import com.aimatrix.engine.v1.Payload;
import com.fasterxml.jackson.databind.JavaType;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Flow;
import java.util.function.Function;

/** What contexts and engines do alike with calls: wait for them, convert what comes of them. */
final class Calls {
    private Calls() {}

    static Failures failures(Json json) {
        return new Failures(value -> Payloads.encode(json, value), payload -> Payloads.decode(json, payload));
    }

    /** What came of a call, waited for on this thread. An interrupt gives the call up. */
    static <T> T await(CompletableFuture<T> call) {
        try {
            if (!call.isDone()) {
                mayBlock(call);
                HandlerPool.blocks();
            }
            return call.get();
        } catch (InterruptedException error) {
            call.cancel(true);
            Thread.currentThread().interrupt();
            throw new AmxException.Facts(Code.CANCELLED, "CANCELLED", "interrupted while waiting for the outcome of a call")
                    .cause(error)
                    .exception();
        } catch (ExecutionException error) {
            throw rethrown(error.getCause());
        } catch (CancellationException error) {
            throw new AmxException(Code.CANCELLED, "CANCELLED", "the call was cancelled");
        }
    }

    /** Refuses to wait on the thread that everything that is waited for comes by. call: given up then; may be null. */
    static void mayBlock(CompletableFuture<?> call) {
        if (LinkThread.isCurrent()) {
            if (call != null) {
                call.cancel(true);
            }
            throw new AmxException(
                    Code.FAILED_PRECONDITION,
                    "LINK_BLOCKED",
                    "a callback of a call waits here for something that only the thread it holds up could bring; make the"
                            + " second call with thenCompose, or run the callback elsewhere, e.g. with thenApplyAsync");
        }
    }

    private static RuntimeException rethrown(Throwable error) {
        Throwable cause = error instanceof CompletionException && error.getCause() != null ? error.getCause() : error;
        if (cause instanceof Error fatal) {
            throw fatal;
        }
        return cause instanceof RuntimeException known ? known : new CompletionException(cause);
    }

    /** As thenApply, but cancelling the result cancels the call, too. */
    static <T, R> CompletableFuture<R> mapped(CompletableFuture<T> call, Function<T, R> change) {
        CompletableFuture<R> result = new CompletableFuture<>();
        call.whenComplete(
                (value, error) -> {
                    if (error != null) {
                        result.completeExceptionally(
                                error instanceof CompletionException && error.getCause() != null
                                        ? error.getCause()
                                        : error);
                        return;
                    }
                    try {
                        result.complete(change.apply(value));
                    } catch (RuntimeException misfit) {
                        result.completeExceptionally(misfit);
                    }
                });
        result.whenComplete(
                (value, error) -> {
                    if (result.isCancelled()) {
                        call.cancel(true);
                    }
                });
        return result;
    }

    /** Chunks as a type. */
    static <T> Flow.Publisher<T> chunks(Json json, Flow.Publisher<Payload> payloads, JavaType type) {
        return subscriber ->
                payloads.subscribe(
                        new Flow.Subscriber<Payload>() {
                            private Flow.Subscription subscription;
                            private boolean over;

                            @Override
                            public void onSubscribe(Flow.Subscription given) {
                                subscription = given;
                                subscriber.onSubscribe(given);
                            }

                            @Override
                            public void onNext(Payload payload) {
                                if (over) {
                                    return;
                                }
                                T chunk;
                                try {
                                    chunk = typed(Wire.reply(json, payload, type));
                                } catch (RuntimeException error) {
                                    over = true;
                                    subscription.cancel();
                                    subscriber.onError(error);
                                    return;
                                }
                                subscriber.onNext(chunk);
                            }

                            @Override
                            public void onError(Throwable error) {
                                if (!over) {
                                    subscriber.onError(error);
                                }
                            }

                            @Override
                            public void onComplete() {
                                if (!over) {
                                    subscriber.onComplete();
                                }
                            }
                        });
    }

    @SuppressWarnings("unchecked")
    static <T> T typed(Object value) {
        return (T) value;
    }

    static Broadcast outcome(Json json, BroadcastResult result) {
        Failures failures = failures(json);
        List<Broadcast.Recipient> recipients = new ArrayList<>();
        JavaType any = json.type(Object.class);
        result.getRecipientsList()
                .forEach(
                        one -> {
                            AgentReference who =
                                    new AgentReference(one.getInstance().getAgent(), one.getInstance().getKey());
                            recipients.add(
                                    one.hasFailure()
                                            ? new Broadcast.Recipient(who, null, failures.exception(one.getFailure()))
                                            : new Broadcast.Recipient(
                                                    who, Wire.reply(json, one.getResult(), any), null));
                        });
        return new Broadcast(
                result.getMessageId(), List.copyOf(recipients), result.getSucceeded(), result.getFailed());
    }
}
