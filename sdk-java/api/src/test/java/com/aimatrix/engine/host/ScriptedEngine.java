package com.aimatrix.engine.host;

import com.aimatrix.engine.core.Environment;
import com.aimatrix.engine.core.Failures;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.spec.AgentInstance;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.HandlerRun;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.transport.Connection;
import com.aimatrix.engine.transport.Connector;
import com.aimatrix.engine.v1.AgentDefinition;
import com.aimatrix.engine.v1.Failure;
import com.aimatrix.engine.v1.HandlerDefinition;
import com.aimatrix.engine.v1.Invoke;
import com.aimatrix.engine.v1.LinkFrame;
import com.aimatrix.engine.v1.LinkItem;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.Rejected;
import com.aimatrix.engine.v1.SoftwareInfo;
import com.aimatrix.engine.v1.Welcome;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.function.DoubleSupplier;
import java.util.function.Function;

/** The other end of a link, and the world it lives in: a test says what arrives and when. All on the test's thread. */
final class ScriptedEngine implements Environment, Connector {
    private record Due(double at, long sequence, Runnable callback) {}

    final List<Wire> wires = new ArrayList<>();
    final List<String> logged = new ArrayList<>();
    final Link link;
    private final TreeSet<Due> due =
            new TreeSet<>(Comparator.comparingDouble(Due::at).thenComparingLong(Due::sequence));
    private final ArrayDeque<Runnable> queue = new ArrayDeque<>();
    private double clock = 1000;
    private long sequence;
    private long nextSeq = 1;
    private long nextInvocation = 1;
    private int seen; // items of the present wire that `said` has returned

    /** handler: what the one agent, Test, does with the text of a message; null: there is none. */
    ScriptedEngine(Function<HandlerRun, Object> handler) {
        this(handler, false);
    }

    ScriptedEngine(Function<HandlerRun, Object> handler, boolean enginesKnown) {
        link =
                new Link(
                        this,
                        this,
                        SoftwareInfo.newBuilder().setName("test").build(),
                        handler == null ? List.of() : List.of(new TestAgent(handler)),
                        Runnable::run,
                        new Failures(value -> Payload.getDefaultInstance(), payload -> null),
                        64,
                        Map.of(),
                        enginesKnown);
    }

    /** A connection. */
    final class Wire implements Connection {
        final Events events;
        final List<LinkFrame> frames = new ArrayList<>();
        boolean closed;
        boolean holding; // the transport takes no further frame
        private Runnable taken;

        Wire(Events events) {
            this.events = events;
        }

        @Override
        public void send(byte[] frame, Runnable whenTaken) {
            try {
                frames.add(LinkFrame.parseFrom(frame));
            } catch (InvalidProtocolBufferException error) {
                throw new AssertionError(error);
            }
            if (holding) {
                taken = whenTaken;
            } else {
                execute(whenTaken);
            }
        }

        void release() {
            holding = false;
            execute(taken);
            settle();
        }

        @Override
        public void close() {
            closed = true;
        }

        void opened() {
            events.opened();
            settle();
        }

        void lost(String why, AmxException error) {
            events.lost(why, error);
            settle();
        }

        List<LinkItem> items() {
            return frames.stream().flatMap(frame -> frame.getItemsList().stream()).toList();
        }

        /** A frame without a number. */
        void handshake(LinkItem item) {
            events.received(LinkFrame.newBuilder().addItems(item).build().toByteArray());
            settle();
        }

        void say(LinkItem... items) {
            LinkFrame.Builder frame = LinkFrame.newBuilder().setSeq(nextSeq++).addAllItems(List.of(items));
            events.received(frame.build().toByteArray());
            settle();
        }
    }

    Wire wire() {
        return wires.get(wires.size() - 1);
    }

    static LinkItem welcome(boolean resumed) {
        Welcome.Builder welcome =
                Welcome.newBuilder()
                        .setProtocol(1)
                        .setSessionId("s")
                        .setResumeToken("token-1")
                        .setResumed(resumed)
                        .setHeartbeatIntervalMs(10_000);
        return LinkItem.newBuilder().setWelcome(welcome).build();
    }

    static LinkItem rejected(Failure failure) {
        return LinkItem.newBuilder().setRejected(Rejected.newBuilder().setFailure(failure)).build();
    }

    /** Opens the link. */
    Wire open() {
        CompletableFuture<Void> opened = link.open(0);
        settle();
        wire().opened();
        wire().handshake(welcome(false));
        opened.join();
        said();
        return wire();
    }

    /** What was said since this was last asked. */
    List<LinkItem> said() {
        List<LinkItem> all = wire().items();
        List<LinkItem> fresh = all.subList(Math.min(seen, all.size()), all.size());
        seen = all.size();
        return List.copyOf(fresh);
    }

    void invoke(String text) {
        Message message =
                Message.newBuilder()
                        .setAgent("Test")
                        .setPayload(Payload.newBuilder().setData(ByteString.copyFromUtf8(text)))
                        .build();
        Invoke invoke = Invoke.newBuilder().setMessage(message).setEpoch(nextInvocation).setAttempt(1).build();
        wire().say(LinkItem.newBuilder().setId(nextInvocation++).setInvoke(invoke).build());
    }

    // --- the world ---------------------------------------------------------------------------------------------------

    void settle() {
        while (!queue.isEmpty()) {
            queue.poll().run();
        }
    }

    void pass(double millis) {
        double end = clock + millis;
        settle();
        while (!due.isEmpty() && due.first().at() <= end) {
            Due next = due.pollFirst();
            clock = Math.max(clock, next.at());
            next.callback().run();
            settle();
        }
        clock = end;
    }

    @Override
    public double now() {
        return clock;
    }

    @Override
    public Timer callAt(double at, Runnable callback) {
        Due one = new Due(at, sequence++, callback);
        due.add(one);
        return () -> due.remove(one);
    }

    @Override
    public Timer await(double millis, Runnable callback) {
        return callAt(clock + millis, callback);
    }

    @Override
    public void execute(Runnable callback) {
        queue.add(callback);
    }

    @Override
    public String randomId() {
        return "0".repeat(32);
    }

    @Override
    public void log(Level level, String message, Throwable error) {
        logged.add(level + " " + message);
    }

    @Override
    public String host() {
        return "test";
    }

    @Override
    public String language() {
        return "java";
    }

    @Override
    public String address() {
        return "there:1";
    }

    @Override
    public Connection connect(Events events) {
        seen = 0;
        nextSeq = 1;
        wires.add(new Wire(events));
        return wire();
    }

    private record TestAgent(Function<HandlerRun, Object> body) implements AgentSpec, HandlerSpec {
        @Override
        public AgentDefinition definition() {
            return AgentDefinition.newBuilder()
                    .setName("Test")
                    .addHandlers(HandlerDefinition.newBuilder().setName("run"))
                    .setDefaultHandler("run")
                    .build();
        }

        @Override
        public Map<String, HandlerSpec> handlers() {
            return Map.of("run", this);
        }

        @Override
        public AgentInstance createInstance(String key, DoubleSupplier now) {
            return () -> null;
        }

        @Override
        public String name() {
            return "run";
        }

        @Override
        public boolean streaming() {
            return false;
        }

        @Override
        public boolean concurrent() {
            return false;
        }

        @Override
        public Object decode(Message message) {
            return message;
        }

        @Override
        public Object call(AgentInstance instance, Object input, HandlerRun run) {
            return body.apply(run);
        }

        @Override
        public Payload encode(Object value) {
            return Payload.newBuilder().setData(ByteString.copyFromUtf8(String.valueOf(value))).build();
        }

        @Override
        public Payload encodeChunk(Object value) {
            return encode(value);
        }
    }
}
