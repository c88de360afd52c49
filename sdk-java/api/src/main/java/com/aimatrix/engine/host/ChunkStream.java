package com.aimatrix.engine.host;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.spec.ChunkSource;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.v1.Chunk;
import com.aimatrix.engine.v1.LinkItem;
import com.aimatrix.engine.v1.Payload;
import com.google.protobuf.ByteString;
import java.util.Iterator;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Flow;
import java.util.stream.BaseStream;

/**
 * Carries the chunks of a streaming handler to its reader, as fast as that takes them. Without a reader they become one
 * JSON array; of a delivery they are dropped.
 */
final class ChunkStream {
    private static final ByteString NULL = ByteString.copyFromUtf8("null");

    private final AgentHost host;
    private final Run run;
    private final HandlerSpec handler;
    private final Invocation reader; // null: nobody reads chunks
    private ByteString collected = ByteString.EMPTY;
    private boolean first = true;
    private boolean over; // guarded by this

    ChunkStream(AgentHost host, Run run, HandlerSpec handler) {
        this.host = host;
        this.run = run;
        this.handler = handler;
        this.reader = run instanceof Invocation invocation && run.streaming() ? invocation : null;
    }

    /** Takes what the handler returned; on a thread of the executor, which it may block. */
    void start(Object value) {
        if (reader != null) {
            host.environment().execute(() -> reader.window += host.protocol().limits().streamWindow());
        }
        begin(value);
    }

    private void begin(Object value) {
        if (value instanceof CompletionStage<?> stage) {
            stage.whenComplete(
                    (made, error) -> {
                        if (error != null) {
                            end(AgentHost.unwrapped(error));
                        } else {
                            host.onThread(run, () -> begin(made)); // reading it may block
                        }
                    });
        } else if (value instanceof Flow.Publisher<?> publisher) {
            subscribe(publisher);
        } else if (value instanceof Iterable<?> iterable) {
            iterate(iterable.iterator(), null);
        } else if (value instanceof Iterator<?> iterator) {
            iterate(iterator, null);
        } else if (value instanceof BaseStream<?, ?> stream) {
            iterate(stream.iterator(), stream);
        } else {
            end(
                    new AmxException(
                            Code.FAILED_PRECONDITION,
                            "INVALID_OUTPUT",
                            run.source() + " is a streaming handler but returned nothing to iterate over; return a"
                                    + " Flow.Publisher, a Stream or an Iterable"));
        }
    }

    // --- what is pulled ----------------------------------------------------------------------------------------------

    private void iterate(Iterator<?> iterator, AutoCloseable resource) {
        Throwable failure = null;
        synchronized (run) {
            run.thread = Thread.currentThread();
        }
        try {
            while (run.stopped() == null && !run.ended() && iterator.hasNext()) {
                Object value = iterator.next();
                CompletableFuture<Void> taken = new CompletableFuture<>();
                if (!take(value, () -> taken.complete(null))) {
                    break;
                }
                taken.get();
            }
        } catch (Throwable error) {
            failure = error;
        }
        synchronized (run) {
            run.thread = null;
        }
        Thread.interrupted();
        try {
            if (iterator instanceof AutoCloseable closeable) {
                closeable.close();
            }
            if (resource != null) {
                resource.close();
            }
        } catch (Exception error) {
            failure = failure == null ? error : failure;
        }
        end(failure);
    }

    // --- what is pushed ----------------------------------------------------------------------------------------------

    private void subscribe(Flow.Publisher<?> publisher) {
        boolean saysItsEnd = publisher instanceof ChunkSource;
        publisher.subscribe(
                new Flow.Subscriber<Object>() {
                    private Flow.Subscription subscription;
                    private volatile Throwable misfit; // a chunk that could not be passed on

                    @Override
                    public void onSubscribe(Flow.Subscription given) {
                        subscription = given;
                        run.onStop(
                                why -> {
                                    given.cancel();
                                    if (!saysItsEnd) {
                                        end(why);
                                    }
                                });
                        given.request(1);
                    }

                    @Override
                    public void onNext(Object value) {
                        try {
                            if (!take(value, () -> subscription.request(1))) {
                                cancel(null);
                            }
                        } catch (Throwable error) {
                            cancel(error);
                        }
                    }

                    private void cancel(Throwable why) {
                        misfit = why;
                        subscription.cancel();
                        if (!saysItsEnd) {
                            end(why);
                        }
                    }

                    @Override
                    public void onError(Throwable error) {
                        end(misfit == null ? error : misfit);
                    }

                    @Override
                    public void onComplete() {
                        end(null);
                    }
                });
    }

    // --- both --------------------------------------------------------------------------------------------------------

    /** Passes one chunk on; `next` is called when there may be another. False: none is wanted any more. */
    private boolean take(Object value, Runnable next) {
        if (run.stopped() != null || run.ended()) {
            return false;
        }
        if (!(run instanceof Invocation)) {
            next.run();
            return true;
        }
        Payload payload = handler.encodeChunk(value);
        if (reader == null) {
            collect(payload);
            next.run();
        } else {
            host.protocol().checkSize(payload.getData().size(), "chunk of " + run.source());
            host.environment().execute(() -> say(payload, next));
        }
        return true;
    }

    private void collect(Payload payload) {
        String type = payload.getContentType();
        boolean json = type.isEmpty() || type.equals("application/json") || type.endsWith("+json");
        if (!payload.getData().isEmpty() && !json) {
            throw new AmxException(
                    Code.FAILED_PRECONDITION,
                    "INVALID_OUTPUT",
                    run.source() + " yields chunks that are not JSON; call it with stream(), not request()");
        }
        ByteString data = payload.getData().isEmpty() ? NULL : payload.getData();
        collected = first ? data : collected.concat(ByteString.copyFromUtf8(",")).concat(data);
        first = false;
        host.protocol().checkSize(collected.size() + 2L, "stream of " + run.source() + ", asked for as one result,");
    }

    /** On the link's thread. */
    private void say(Payload payload, Runnable next) {
        if (run.stopped() != null || run.ended()) {
            next.run();
            return;
        }
        if (reader.window <= 0) {
            reader.reader =
                    () -> {
                        if (reader.window > 0 || run.stopped() != null) {
                            reader.reader = null;
                            say(payload, next);
                        }
                    };
            return;
        }
        reader.window--;
        host.protocol()
                .say(
                        LinkItem.newBuilder()
                                .setId(run.id)
                                .setChunk(Chunk.newBuilder().setPayload(payload))
                                .build());
        next.run();
    }

    private void end(Throwable error) {
        synchronized (this) {
            if (over) {
                return;
            }
            over = true;
        }
        if (error != null) {
            host.failed(run, error);
        } else if (reader == null && run instanceof Invocation) {
            ByteString array = ByteString.copyFromUtf8("[").concat(collected).concat(ByteString.copyFromUtf8("]"));
            host.succeeded(run, Payload.newBuilder().setData(array).build());
        } else {
            host.succeeded(run, Payload.getDefaultInstance());
        }
    }
}
