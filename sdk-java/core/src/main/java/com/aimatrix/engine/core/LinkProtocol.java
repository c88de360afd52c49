package com.aimatrix.engine.core;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.v1.AgentDefinition;
import com.aimatrix.engine.v1.Call;
import com.aimatrix.engine.v1.Cancel;
import com.aimatrix.engine.v1.Complete;
import com.aimatrix.engine.v1.Credit;
import com.aimatrix.engine.v1.Drain;
import com.aimatrix.engine.v1.Drained;
import com.aimatrix.engine.v1.EngineEndpoint;
import com.aimatrix.engine.v1.Failure;
import com.aimatrix.engine.v1.GoAway;
import com.aimatrix.engine.v1.Hello;
import com.aimatrix.engine.v1.LinkFrame;
import com.aimatrix.engine.v1.LinkItem;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Ping;
import com.aimatrix.engine.v1.Pong;
import com.aimatrix.engine.v1.Register;
import com.aimatrix.engine.v1.Reply;
import com.aimatrix.engine.v1.SoftwareInfo;
import com.aimatrix.engine.v1.Welcome;
import com.google.protobuf.InvalidProtocolBufferException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The SDK's side of the link protocol, sans I/O: frames in, method calls out; calls in, frames out. One link, over as
 * many connections as it takes.
 *
 * <p>Owner's side: `hello()` when a connection is there, `receive()` for each frame that arrives, `nextFrame()` until
 * null for what is to be sent, `tick()` about once a second, `disconnected()` when the connection is gone. Everything
 * said between connections is kept and sent on the next one; the number of calls and the credit bound it. Not for
 * several threads.
 */
public final class LinkProtocol {
    private static final int PROTOCOL_MIN = 1;
    private static final int PROTOCOL_MAX = 1;
    private static final List<String> FEATURES = List.of("resume", "engines");
    private static final int ACK_EVERY = 32; // frames
    private static final int NUMBERS_ROOM = 24; // bytes of seq and ack with their tags
    private static final int ITEM_ROOM = 6; // bytes of an item's tag and length
    private static final int MAX_REASON = 256;
    // The engine enforces deadlines and says what happened; this side only makes sure that nothing waits without end.
    private static final double GRACE_MS = 150;

    /** Sent, not acknowledged. */
    private record Sent(long seq, byte[] data) {
        /** What it says: parsed again, which only the end of a link asks for. */
        List<LinkItem> items() {
            try {
                return LinkFrame.parseFrom(data).getItemsList();
            } catch (InvalidProtocolBufferException error) {
                throw new IllegalStateException("this process wrote a frame that it cannot read", error);
            }
        }
    }

    /** A full frame without its numbers. firstUnsent: the first call that is in none of the frames up to this. */
    private record Ready(List<LinkItem> items, long firstUnsent) {}

    private final String linkId;
    private final Host host;
    private final LinkEvents events;
    private final Deadlines deadlines;
    private final Environment environment;
    private final SoftwareInfo software;
    private final int credit;
    private final boolean enginesKnown;
    private final Map<String, AgentDefinition> agents = new LinkedHashMap<>();

    private boolean open;
    private String sessionId = "";
    private String namespace = "";
    private String engine = "";
    private int heartbeatMs = 10_000;
    private Limits limits = Limits.DEFAULT;

    private Map<Long, PendingCall> pending = new LinkedHashMap<>();
    private long nextId = 1;
    private long firstUnsent = 1;
    private boolean draining;
    private AmxException over;

    private String resumeToken = "";
    private long receivedSeq;
    private int unacknowledged; // frames received since the last ack went out
    private boolean ackDue;
    private long sentSeq;
    private final ArrayDeque<Sent> retained = new ArrayDeque<>();
    private boolean engineLeft; // it has taken nothing of what it has not acknowledged
    private final ArrayDeque<byte[]> replay = new ArrayDeque<>();
    private final ArrayDeque<Ready> ready = new ArrayDeque<>();
    private List<LinkItem> items = new ArrayList<>();
    private int size; // bytes of `items`
    private boolean idle;

    private boolean heard;
    private double heardAt;
    private double pingedAt;
    private long nonce;
    private double worstLagMs; // since the last ping

    /**
     * A link that has no connection yet.
     *
     * @param linkId stable for the life of this process
     * @param software name and version of this SDK
     * @param credit invocations and deliveries taken at a time
     * @param agents what is hosted
     * @param host runs what the engine asks for
     * @param events hears of the link's state
     * @param deadlines of calls
     * @param environment clock and log
     */
    public LinkProtocol(
            String linkId,
            SoftwareInfo software,
            int credit,
            Collection<AgentDefinition> agents,
            Host host,
            LinkEvents events,
            Deadlines deadlines,
            Environment environment) {
        this(linkId, software, credit, agents, host, events, deadlines, environment, false);
    }

    /**
     * A link that has no connection yet.
     *
     * @param linkId stable for the life of this process
     * @param software name and version of this SDK
     * @param credit invocations and deliveries taken at a time
     * @param agents what is hosted
     * @param host runs what the engine asks for
     * @param events hears of the link's state
     * @param deadlines of calls
     * @param environment clock and log
     * @param enginesKnown the engine is one of several, of which all are known
     */
    public LinkProtocol(
            String linkId,
            SoftwareInfo software,
            int credit,
            Collection<AgentDefinition> agents,
            Host host,
            LinkEvents events,
            Deadlines deadlines,
            Environment environment,
            boolean enginesKnown) {
        this.linkId = linkId;
        this.software = software;
        this.credit = credit;
        this.host = host;
        this.events = events;
        this.deadlines = deadlines;
        this.environment = environment;
        this.enginesKnown = enginesKnown;
        for (AgentDefinition agent : agents) {
            this.agents.put(agent.getName(), agent);
        }
    }

    // --- connections -------------------------------------------------------------------------------------------------

    /**
     * The first frame of a new connection.
     *
     * @return to be sent
     */
    public byte[] hello() {
        open = false;
        replay.clear();
        Hello.Builder hello =
                Hello.newBuilder()
                        .setLinkId(linkId)
                        .setSdk(software)
                        .setProtocolMin(PROTOCOL_MIN)
                        .setProtocolMax(PROTOCOL_MAX)
                        .addAllFeatures(FEATURES)
                        .addAllAgents(agents.values())
                        .setCredit(credit)
                        .setHost(environment.host())
                        .setEnginesKnown(enginesKnown);
        if (!resumeToken.isEmpty()) {
            hello.setResumeToken(resumeToken).setReceivedSeq(receivedSeq);
        }
        return LinkFrame.newBuilder().addItems(LinkItem.newBuilder().setHello(hello)).build().toByteArray();
    }

    /** The connection is gone. Calls wait for the next one until their deadlines. */
    public void disconnected() {
        open = false;
    }

    /**
     * There will be no further connection: every call fails, now and later.
     *
     * @param error why
     */
    public void close(AmxException error) {
        open = false;
        over = error;
        Map<Long, PendingCall> calls = pending;
        pending = new LinkedHashMap<>();
        for (PendingCall call : calls.values()) {
            fail(call, error);
        }
    }

    /**
     * Takes a frame.
     *
     * @param data as it arrived
     * @throws ProtocolViolation if it is not one, or if frames are missing before it: the connection is to be closed
     */
    public void receive(byte[] data) {
        LinkFrame frame;
        try {
            frame = LinkFrame.parseFrom(data);
        } catch (InvalidProtocolBufferException error) {
            throw new ProtocolViolation(
                    "the engine sent " + data.length + " bytes that are not a frame: " + error.getMessage());
        }
        checkHandshake(frame.getItemsList());
        heard = true;
        if (frame.getAck() != 0) {
            acknowledged(frame.getAck());
        }
        long seq = frame.getSeq();
        if (seq != 0) {
            if (!open) {
                throw new ProtocolViolation("the engine sent frame " + seq + " before its Welcome");
            }
            long expected = receivedSeq + 1;
            if (seq < expected) {
                return; // replayed, and known
            }
            if (seq > expected) {
                throw new ProtocolViolation("the engine sent frame " + seq + " where frame " + expected + " was due");
            }
            receivedSeq = seq;
            unacknowledged++;
            if (unacknowledged >= ACK_EVERY) {
                ackDue = true;
                wake();
            }
        }
        for (LinkItem item : frame.getItemsList()) {
            try {
                take(item);
            } catch (ProtocolViolation error) {
                throw error;
            } catch (RuntimeException | Error error) {
                // One item's trouble is not the other items'.
                environment.log(
                        Environment.Level.ERROR,
                        "could not take item " + item.getId() + " of kind " + item.getItemCase(),
                        error);
            }
        }
    }

    /**
     * The next frame to send.
     *
     * @return null if there is nothing to say: `wake` is called when there is
     */
    public byte[] nextFrame() {
        if (!open) {
            idle = true;
            return null;
        }
        byte[] replayed = replay.poll();
        if (replayed != null) {
            return replayed;
        }
        LinkFrame.Builder frame = LinkFrame.newBuilder();
        Ready full = ready.poll();
        if (full != null) {
            firstUnsent = full.firstUnsent();
            frame.addAllItems(full.items());
        } else if (!items.isEmpty()) {
            firstUnsent = nextId;
            frame.addAllItems(items);
            items = new ArrayList<>();
            size = 0;
        } else if (ackDue) {
            unacknowledged = 0;
            ackDue = false;
            return frame.setAck(receivedSeq).build().toByteArray();
        } else {
            idle = true;
            return null;
        }
        sentSeq++;
        byte[] data = frame.setSeq(sentSeq).setAck(receivedSeq).build().toByteArray();
        unacknowledged = 0;
        ackDue = false;
        retained.add(new Sent(sentSeq, data));
        return data;
    }

    /**
     * Keeps the link alive: pings, acknowledges, listens. Call about once a second while connected.
     *
     * @param slotsInUse invocations and deliveries that have not ended
     * @param lagMs how late the link's thread runs
     * @param deafMs for how long of the time since the last tick nothing could have been heard
     * @return false if nothing was heard for two heartbeat intervals: the connection is dead
     */
    public boolean tick(int slotsInUse, double lagMs, double deafMs) {
        if (!open) {
            return true;
        }
        double now = environment.now();
        worstLagMs = Math.max(worstLagMs, lagMs);
        if (heard) {
            heard = false;
            heardAt = now;
        } else {
            // Silence while nobody could listen proves nothing.
            heardAt = Math.min(now, heardAt + deafMs);
            if (now - heardAt > 2.0 * heartbeatMs) {
                return false;
            }
        }
        if (now - pingedAt >= heartbeatMs) {
            pingedAt = now;
            nonce++;
            say(
                    LinkItem.newBuilder()
                            .setPing(
                                    Ping.newBuilder()
                                            .setNonce(nonce)
                                            .setSlotsInUse(slotsInUse)
                                            .setEventLoopLagUs(Math.round(worstLagMs * 1000)))
                            .build());
            worstLagMs = 0;
        }
        if (unacknowledged > 0) {
            ackDue = true;
            wake();
        }
        return true;
    }

    // --- saying things -----------------------------------------------------------------------------------------------

    /**
     * Says an item.
     *
     * @param item as it travels
     */
    public void say(LinkItem item) {
        put(item, nextId);
    }

    /**
     * Says an item, unless it is too large for the engine.
     *
     * @param item as it travels
     * @param what it is, for the message
     * @throws AmxException ITEM_TOO_LARGE; then nothing was said
     */
    public void sayChecked(LinkItem item, String what) {
        checkSize(item.getSerializedSize(), what);
        put(item, nextId);
    }

    private void put(LinkItem item, long upTo) {
        int bytes = item.getSerializedSize() + ITEM_ROOM;
        if (!items.isEmpty()
                && (items.size() >= limits.maxFrameItems() || size + bytes + NUMBERS_ROOM > limits.maxFrameBytes())) {
            ready.add(new Ready(items, upTo));
            items = new ArrayList<>();
            size = 0;
        }
        items.add(item);
        size += bytes;
        if (idle) {
            wake();
        }
    }

    /**
     * Refuses what does not fit an item.
     *
     * @param bytes how many
     * @param what they are, for the message
     * @throws AmxException ITEM_TOO_LARGE
     */
    public void checkSize(long bytes, String what) {
        int limit = limits.maxItemBytes();
        if (bytes > limit) {
            throw new AmxException.Facts(
                            Code.INVALID_ARGUMENT,
                            "ITEM_TOO_LARGE",
                            "the " + what + " has " + bytes + " bytes, the engine takes at most " + limit
                                    + " (limits.max_item_bytes); send a smaller value, or store it and send where it is")
                    .metadata(Map.of("bytes", Long.toString(bytes), "limit", Integer.toString(limit)))
                    .exception();
        }
    }

    /**
     * Says a call; `pending` hears of its outcome.
     *
     * @param call who waits
     * @param what its operation; invocation and timeout included
     * @param repeatable said again to an engine that forgot it
     * @throws AmxException ITEM_TOO_LARGE, HEADERS_TOO_LARGE, KEY_TOO_LONG, CALLS_IN_FLIGHT, or why the link is over;
     *     then nothing was said
     */
    public void call(PendingCall call, Call what, boolean repeatable) {
        String operation = operationOf(what);
        switch (what.getOperationCase()) {
            case SEND -> checkMessage(what.getSend());
            case REQUEST -> checkMessage(what.getRequest());
            case STREAM -> checkMessage(what.getStream());
            case BROADCAST -> checkMessage(what.getBroadcast().getMessage());
            default -> {}
        }
        checkCalls();
        LinkItem item = LinkItem.newBuilder().setId(nextId).setCall(what).build();
        checkSize(item.getSerializedSize(), operation);
        call.invocationId = what.getInvocationId();
        // Handlers end with their session, and so do their calls.
        call.said = repeatable && call.invocationId == 0 ? item : null;
        expect(call, operation, what.getTimeoutMs());
        put(item, call.id);
    }

    /**
     * Says that agents joined or left.
     *
     * @param call hears whether the engine agrees
     * @param joined their definitions
     * @param removed their names
     * @throws AmxException CALLS_IN_FLIGHT, ITEM_TOO_LARGE, or why the link is over; then nothing was said
     */
    public void register(PendingCall call, Collection<AgentDefinition> joined, Collection<String> removed) {
        checkCalls();
        LinkItem item =
                LinkItem.newBuilder()
                        .setId(nextId)
                        .setRegister(Register.newBuilder().addAllAgents(joined).addAllRemoved(removed))
                        .build();
        checkSize(item.getSerializedSize(), "registration");
        expect(call, "register", 0);
        put(item, call.id);
        for (AgentDefinition agent : joined) {
            agents.put(agent.getName(), agent);
        }
        agents.keySet().removeAll(removed);
    }

    /**
     * Takes a registration back that the engine refused.
     *
     * @param name of the agent
     * @param before what was hosted under it; null: nothing
     */
    public void restoreAgent(String name, AgentDefinition before) {
        if (before == null) {
            agents.remove(name);
        } else {
            agents.put(name, before);
        }
    }

    /**
     * Gives a call up: nothing more is heard of it. Does nothing if its outcome is known.
     *
     * @param call which
     * @param reason for people
     */
    public void cancel(PendingCall call, String reason) {
        if (forget(call)) {
            sayCancel(call.id, reason);
        }
    }

    /**
     * The reader of a streamed reply takes more chunks.
     *
     * @param call which
     * @param chunks how many more
     */
    public void grant(PendingCall call, int chunks) {
        if (pending.get(call.id) == call) {
            say(LinkItem.newBuilder().setId(call.id).setCredit(Credit.newBuilder().setChunks(chunks)).build());
        }
    }

    /** Asks the engine to send no new invocations, on this and every later connection. */
    public void drain() {
        if (!draining) {
            draining = true;
            say(LinkItem.newBuilder().setDrain(Drain.getDefaultInstance()).build());
        }
    }

    /** Says that the last invocation has ended. */
    public void drained() {
        say(LinkItem.newBuilder().setDrained(Drained.getDefaultInstance()).build());
    }

    /** The deadline of a call has passed. */
    void expire(PendingCall call) {
        if (!forget(call)) {
            return;
        }
        sayCancel(call.id, "DEADLINE_EXCEEDED");
        String where = open ? "" : ": there is no connection to the engine";
        call.failed(
                new AmxException.Facts(
                                Code.DEADLINE_EXCEEDED,
                                "DEADLINE_EXCEEDED",
                                "the " + call.operation + " had no outcome within its timeout" + where
                                        + "; give it more time or look at what its target is doing")
                        .retryable(true)
                        .exception());
    }

    // --- facts -------------------------------------------------------------------------------------------------------

    /**
     * Whether the engine has said Welcome on the present connection.
     *
     * @return whether it has
     */
    public boolean isOpen() {
        return open;
    }

    /**
     * Bounds in force.
     *
     * @return of the last Welcome
     */
    public Limits limits() {
        return limits;
    }

    /**
     * Distance between pings.
     *
     * @return milliseconds
     */
    public int heartbeatMs() {
        return heartbeatMs;
    }

    /**
     * Names the session in logs.
     *
     * @return empty before the first Welcome
     */
    public String sessionId() {
        return sessionId;
    }

    /**
     * Namespace the link acts in.
     *
     * @return empty before the first Welcome
     */
    public String namespace() {
        return namespace;
    }

    /**
     * Name and version of the engine.
     *
     * @return empty before the first Welcome
     */
    public String engine() {
        return engine;
    }

    // --- inside ------------------------------------------------------------------------------------------------------

    private void wake() {
        if (idle) {
            idle = false;
            events.wake();
        }
    }

    private void acknowledged(long ack) {
        while (!retained.isEmpty() && retained.peek().seq() <= ack) {
            retained.poll();
        }
    }

    private void expect(PendingCall call, String operation, long timeoutMs) {
        call.id = nextId++;
        call.operation = operation;
        pending.put(call.id, call);
        if (timeoutMs > 0) {
            call.protocol = this;
            call.bucket = deadlines.add(call, timeoutMs + GRACE_MS);
        }
    }

    private boolean forget(PendingCall call) {
        if (!pending.remove(call.id, call)) {
            return false;
        }
        if (call.bucket != null) {
            call.bucket.discard(call);
        }
        return true;
    }

    private void sayCancel(long id, String reason) {
        String text = reason.length() > MAX_REASON ? reason.substring(0, MAX_REASON) : reason;
        say(LinkItem.newBuilder().setId(id).setCancel(Cancel.newBuilder().setReason(text)).build());
    }

    private void checkCalls() {
        if (over != null) {
            throw over;
        }
        int limit = limits.maxCalls();
        if (pending.size() >= limit) {
            throw new AmxException.Facts(
                            Code.RESOURCE_EXHAUSTED,
                            "CALLS_IN_FLIGHT",
                            "this link has " + pending.size() + " calls in flight, which is the limit; wait for some"
                                    + " of them to end")
                    .retryable(true)
                    .retryAfter(Duration.ofMillis(50))
                    .metadata(Map.of("limit", Integer.toString(limit)))
                    .exception();
        }
    }

    /**
     * Refuses what the engine would refuse.
     *
     * @param message to be sent
     * @throws AmxException KEY_TOO_LONG, HEADERS_TOO_LARGE
     */
    public void checkMessage(Message message) {
        int maxKey = limits.maxKeyBytes();
        int keyBytes = message.getKeyBytes().size();
        if (keyBytes > maxKey) {
            String key = message.getKey();
            throw new AmxException.Facts(
                            Code.INVALID_ARGUMENT,
                            "KEY_TOO_LONG",
                            "the instance key '" + key.substring(0, Math.min(40, key.length())) + "…' has " + keyBytes
                                    + " bytes, the engine takes at most " + maxKey + " (limits.max_key_bytes); hash it")
                    .metadata(Map.of("bytes", Integer.toString(keyBytes), "limit", Integer.toString(maxKey)))
                    .exception();
        }
        if (message.getHeadersCount() == 0) {
            return;
        }
        int maxHeaders = limits.maxHeaderBytes();
        int bytes = 0;
        for (Map.Entry<String, String> header : message.getHeadersMap().entrySet()) {
            bytes += utf8(header.getKey()) + utf8(header.getValue());
        }
        if (bytes > maxHeaders) {
            throw new AmxException.Facts(
                            Code.INVALID_ARGUMENT,
                            "HEADERS_TOO_LARGE",
                            "the headers have " + bytes + " bytes, the engine takes at most " + maxHeaders
                                    + " (limits.max_header_bytes); move what is large into the content")
                    .metadata(Map.of("bytes", Integer.toString(bytes), "limit", Integer.toString(maxHeaders)))
                    .exception();
        }
    }

    private static int utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8).length;
    }

    private static String operationOf(Call call) {
        return switch (call.getOperationCase()) {
            case SEND -> "send";
            case REQUEST -> "request";
            case STREAM -> "stream";
            case PUBLISH -> "publish";
            case SUBSCRIBE -> "subscribe";
            case BROADCAST -> "broadcast";
            case MEMORY -> "memory";
            case OPERATION_NOT_SET -> "call";
        };
    }

    // --- items from the engine ---------------------------------------------------------------------------------------

    /** Before anything of a frame is done: the handshake is one item in a frame of its own, and comes once. */
    private void checkHandshake(List<LinkItem> arrived) {
        boolean shakes = false;
        for (LinkItem item : arrived) {
            shakes |= item.hasWelcome() || item.hasRejected();
        }
        if (open ? shakes : arrived.size() > 1 || (arrived.size() == 1 && !shakes)) {
            throw new ProtocolViolation(
                    open
                            ? "the engine answered Hello twice"
                            : "the engine's first frame is not one Welcome or Rejected");
        }
    }

    private void take(LinkItem item) {
        long id = item.getId();
        switch (item.getItemCase()) {
            case INVOKE -> host.invoke(id, item.getInvoke());
            case REPLY -> onReply(id, item.getReply());
            case DELIVER -> host.deliver(id, item.getDeliver());
            case CHUNK -> {
                PendingCall call = pending.get(id);
                if (call != null) {
                    call.chunk(item.getChunk().getPayload());
                }
            }
            case EVENT -> {
                PendingCall call = pending.get(id);
                if (call != null) {
                    call.event(item.getEvent());
                }
            }
            case ACTIVATE -> host.activate(item.getActivate());
            case DEACTIVATE -> host.deactivate(item.getDeactivate().getEpochsList());
            case CREDIT -> {
                if (id != 0) {
                    host.grantChunks(id, item.getCredit().getChunks());
                }
            }
            case CANCEL -> host.cancel(id, item.getCancel().getReason());
            case PING ->
                    say(LinkItem.newBuilder().setPong(Pong.newBuilder().setNonce(item.getPing().getNonce())).build());
            case PONG -> {} // that anything was heard is all there is to know
            case GO_AWAY -> {
                GoAway leaving = item.getGoAway();
                engineLeft = leaving.getDeadlineMs() == 0;
                events.goAway(leaving.getReason(), leaving.getDeadlineMs());
            }
            case WELCOME -> onWelcome(item.getWelcome());
            case REJECTED -> onRejected(item.getRejected().getFailure());
            default -> onUnknown(id);
        }
    }

    private void onReply(long id, Reply reply) {
        PendingCall call = pending.get(id);
        if (call == null) {
            return; // given up, or answered before
        }
        if (!reply.hasSubscribed()) {
            pending.remove(id); // else it lives on, for its events
        }
        if (call.bucket != null) {
            call.bucket.discard(call);
        }
        call.replied(reply);
    }

    private void onUnknown(long id) {
        environment.log(
                Environment.Level.WARN, "the engine sent item " + id + " of a kind this SDK does not know", null);
        if (id == 0) {
            return;
        }
        Failure failure =
                Failure.newBuilder()
                        .setCode(Code.UNIMPLEMENTED.number())
                        .setReason("UNSUPPORTED_ITEM")
                        .setMessage("this SDK does not know that kind of item; update it, or do not use the feature")
                        .build();
        say(LinkItem.newBuilder().setId(id).setComplete(Complete.newBuilder().setFailure(failure)).build());
    }

    private void onRejected(Failure said) {
        events.rejected(
                new AmxException.Facts(
                                said.getCode() == 0 ? Code.FAILED_PRECONDITION : Code.of(said.getCode()),
                                said.getReason().isEmpty() ? "REJECTED" : said.getReason(),
                                said.getMessage().isEmpty()
                                        ? "the engine refused the link and did not say why"
                                        : said.getMessage())
                        .retryable(said.getRetryable())
                        .retryAfter(Duration.ofMillis(said.getRetryDelayMs()))
                        .metadata(said.getMetadataMap())
                        .from(said.getSource(), "")
                        .exception());
    }

    private void onWelcome(Welcome welcome) {
        int version = welcome.getProtocol();
        if (version < PROTOCOL_MIN || version > PROTOCOL_MAX) {
            throw new ProtocolViolation(
                    "the engine chose protocol version " + version + ", this SDK speaks " + PROTOCOL_MIN + " to "
                            + PROTOCOL_MAX + "; update the older of the two");
        }
        namespace = welcome.getNamespace();
        if (welcome.getEnginesCount() > 0 && !enginesKnown) {
            events.redirected(welcome.getEnginesList().stream().map(EngineEndpoint::getAddress).toList());
            return;
        }
        boolean known = !resumeToken.isEmpty();
        sessionId = welcome.getSessionId();
        engine = (welcome.getEngine().getName() + " " + welcome.getEngine().getVersion()).trim();
        if (welcome.getHeartbeatIntervalMs() > 0) {
            heartbeatMs = welcome.getHeartbeatIntervalMs();
        }
        resumeToken = welcome.getResumeToken();
        limits = Limits.of(welcome.getLimits());
        heardAt = pingedAt = environment.now();
        heard = false;
        boolean resumed = welcome.getResumed() && known;
        if (resumed) {
            acknowledged(welcome.getReceivedSeq());
            replay.clear();
            for (Sent sent : retained) {
                replay.add(sent.data());
            }
        } else {
            startOver();
        }
        engineLeft = false;
        open = true;
        events.opened(resumed);
        wake();
    }

    /** A new session: the engine knows nothing of what was said before. */
    private void startOver() {
        host.abandon();
        List<LinkItem> unsent = new ArrayList<>();
        Set<Long> notTaken = new HashSet<>();
        if (engineLeft) {
            for (Sent sent : retained) {
                unsent.addAll(sent.items());
            }
            unsent.stream().filter(LinkProtocol::isCall).forEach(item -> notTaken.add(item.getId()));
        }
        for (Ready full : ready) {
            unsent.addAll(full.items());
        }
        unsent.addAll(items);
        ready.clear();
        retained.clear();
        replay.clear();
        items = new ArrayList<>();
        size = 0;
        receivedSeq = sentSeq = unacknowledged = 0;
        ackDue = false;
        // What was sent may or may not have happened: only what the engine recognises as the same is said again.
        Set<Long> again = new HashSet<>();
        for (PendingCall call : List.copyOf(pending.values())) {
            if ((call.id >= firstUnsent || notTaken.contains(call.id)) && call.invocationId == 0) {
                continue;
            }
            if (call.operation.equals("register")) {
                pending.remove(call.id);
                call.replied(Reply.getDefaultInstance()); // Hello told the engine of every agent
            } else if (call.said != null) {
                again.add(call.id); // it may be in an unsent frame, too, if this happens twice in a row
                say(call.said);
            } else {
                pending.remove(call.id);
                fail(call, restarted());
            }
        }
        for (LinkItem item : unsent) {
            if (isCall(item) && pending.containsKey(item.getId()) && !again.contains(item.getId())) {
                say(item);
            }
        }
        if (draining) {
            say(LinkItem.newBuilder().setDrain(Drain.getDefaultInstance()).build());
        }
    }

    /** Whether an item is one that has an outcome. */
    private static boolean isCall(LinkItem item) {
        return item.hasCall() || item.hasRegister();
    }

    private static void fail(PendingCall call, AmxException error) {
        if (call.bucket != null) {
            call.bucket.discard(call);
        }
        call.failed(error);
    }

    private static AmxException restarted() {
        return new AmxException.Facts(
                        Code.UNAVAILABLE,
                        "ENGINE_RESTARTED",
                        "the engine was restarted, or held the lost link no longer, before this call had an outcome: it"
                                + " may or may not have happened; give calls a message id or an idempotency key and the"
                                + " SDK repeats them safely")
                .retryable(true)
                .retryAfter(Duration.ofMillis(100))
                .exception();
    }
}
