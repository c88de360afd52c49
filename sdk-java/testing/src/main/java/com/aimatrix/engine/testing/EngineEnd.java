package com.aimatrix.engine.testing;

import com.aimatrix.engine.core.Environment;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.transport.Connection;
import com.aimatrix.engine.transport.Connector;
import com.aimatrix.engine.v1.Call;
import com.aimatrix.engine.v1.Cancel;
import com.aimatrix.engine.v1.Chunk;
import com.aimatrix.engine.v1.Complete;
import com.aimatrix.engine.v1.Delivered;
import com.aimatrix.engine.v1.LinkFrame;
import com.aimatrix.engine.v1.LinkItem;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.Pong;
import com.aimatrix.engine.v1.Reply;
import com.aimatrix.engine.v1.SoftwareInfo;
import com.aimatrix.engine.v1.Welcome;
import com.google.protobuf.InvalidProtocolBufferException;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.function.BiConsumer;
import java.util.function.Consumer;

/**
 * The engine's end of a harness's link, without sockets: just enough of the protocol to hand over one thing at a time.
 * All of it happens on the environment's thread.
 */
final class EngineEnd implements Connector {
    private static final int NEVER_MS = Integer.MAX_VALUE; // time is the test's, and jumps

    private final Environment environment;
    private final BiConsumer<Call, Consumer<Reply>> called;
    private final Map<Long, Running> invocations = new HashMap<>();
    private final Map<Long, CompletableFuture<Delivered>> deliveries = new HashMap<>();
    private Events events; // null: not connected
    private long sequence;
    private long received;
    private boolean over;

    private record Running(CompletableFuture<Complete> outcome, Consumer<Payload> chunks) {}

    /** called: answers what the agent asks of its engine. */
    EngineEnd(Environment environment, BiConsumer<Call, Consumer<Reply>> called) {
        this.environment = environment;
        this.called = called;
    }

    @Override
    public String address() {
        return "the harness";
    }

    @Override
    public Connection connect(Events given) {
        events = given;
        environment.execute(given::opened);
        return new Connection() {
            @Override
            public void send(byte[] frame, Runnable taken) {
                environment.execute(
                        () -> {
                            feed(frame);
                            taken.run();
                        });
            }

            @Override
            public void close() {
                events = null;
            }
        };
    }

    /** Runs a handler; done with its one outcome. chunks: is given each chunk before. */
    CompletableFuture<Complete> invoke(LinkItem item, Consumer<Payload> chunks) {
        CompletableFuture<Complete> outcome = new CompletableFuture<>();
        if (over) {
            outcome.completeExceptionally(ended());
            return outcome;
        }
        invocations.put(item.getId(), new Running(outcome, chunks));
        say(item);
        return outcome;
    }

    /** Delivers an event; done with what became of it. */
    CompletableFuture<Delivered> deliver(LinkItem item) {
        CompletableFuture<Delivered> outcome = new CompletableFuture<>();
        if (over) {
            outcome.completeExceptionally(ended());
            return outcome;
        }
        deliveries.put(item.getId(), outcome);
        say(item);
        return outcome;
    }

    /** What has no outcome yet fails, as does what begins from now on. */
    void end() {
        over = true;
        invocations.values().forEach(one -> one.outcome().completeExceptionally(ended()));
        deliveries.values().forEach(one -> one.completeExceptionally(ended()));
    }

    private static AmxException ended() {
        return new AmxException(Code.CANCELLED, "CANCELLED", "the harness was closed");
    }

    /** Stops a handler, if it runs. */
    void cancel(long id, String reason) {
        if (invocations.containsKey(id)) {
            say(LinkItem.newBuilder().setId(id).setCancel(Cancel.newBuilder().setReason(reason)).build());
        }
    }

    void say(LinkItem item) {
        put(LinkFrame.newBuilder().addItems(item).setSeq(++sequence).setAck(received).build());
    }

    private void put(LinkFrame frame) {
        byte[] data = frame.toByteArray();
        environment.execute(
                () -> {
                    if (events != null) {
                        events.received(data);
                    }
                });
    }

    private void feed(byte[] data) {
        LinkFrame frame;
        try {
            frame = LinkFrame.parseFrom(data);
        } catch (InvalidProtocolBufferException defect) {
            throw new IllegalStateException(defect);
        }
        received = Math.max(received, frame.getSeq());
        frame.getItemsList().forEach(this::take);
    }

    private void take(LinkItem item) {
        long id = item.getId();
        switch (item.getItemCase()) {
            case HELLO ->
                    put(
                            LinkFrame.newBuilder()
                                    .addItems(
                                            LinkItem.newBuilder()
                                                    .setWelcome(welcome(item.getHello().getProtocolMax())))
                                    .build());
            case COMPLETE -> {
                Running ended = invocations.remove(id);
                if (ended != null) {
                    ended.outcome().complete(item.getComplete());
                }
            }
            case DELIVERED -> {
                CompletableFuture<Delivered> ended = deliveries.remove(id);
                if (ended != null) {
                    ended.complete(item.getDelivered());
                }
            }
            case CHUNK -> chunk(id, item.getChunk());
            case CALL ->
                    called.accept(
                            item.getCall(),
                            reply ->
                                    environment.execute(
                                            () -> say(LinkItem.newBuilder().setId(id).setReply(reply).build())));
            case PING -> {
                Pong pong = Pong.newBuilder().setNonce(item.getPing().getNonce()).build();
                say(LinkItem.newBuilder().setPong(pong).build());
            }
            case DRAINED -> {
                Events told = events;
                events = null;
                if (told != null) {
                    environment.execute(() -> told.lost("the harness has ended", null));
                }
            }
            default -> {}
        }
    }

    private void chunk(long id, Chunk chunk) {
        Running running = invocations.get(id);
        if (running != null && running.chunks() != null) {
            running.chunks().accept(chunk.getPayload());
        }
    }

    private static Welcome welcome(int protocol) {
        return Welcome.newBuilder()
                .setProtocol(protocol)
                .setSessionId("harness")
                .setHeartbeatIntervalMs(NEVER_MS)
                .setEngine(SoftwareInfo.newBuilder().setName("AgentHarness").setLanguage("java"))
                .build();
    }
}
