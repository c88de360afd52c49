package com.aimatrix.engine.host;

import com.aimatrix.engine.core.Deadlines;
import com.aimatrix.engine.core.Environment;
import com.aimatrix.engine.core.Environment.Level;
import com.aimatrix.engine.core.Failures;
import com.aimatrix.engine.core.LinkEvents;
import com.aimatrix.engine.core.LinkProtocol;
import com.aimatrix.engine.core.ProtocolViolation;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.EngineCalls;
import com.aimatrix.engine.transport.Connection;
import com.aimatrix.engine.transport.Connector;
import com.aimatrix.engine.v1.AgentDefinition;
import com.aimatrix.engine.v1.SoftwareInfo;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A link at work: connects, sends, keeps alive, reconnects, leaves; over as many connections as it takes, until it is
 * closed. What is said is decided in the protocol, what runs here in the host, how bytes travel in a transport.
 */
public final class Link implements EngineLink, LinkEvents {
    /**
     * Times that handlers which run get the processor before a frame leaves, so that it takes more of what ends at about
     * the same time: with 256 requests in flight, three times as many a second as without, and as many with 8 as with 2.
     */
    private static final int GIVING_WAY = 4;

    private static final double HANDSHAKE_MS = 10_000;
    private static final double TICK_MS = 1000;
    private static final double FIRST_BACKOFF_MS = 100;
    private static final double LONGEST_BACKOFF_MS = 30_000;
    private static final double HELD_MS = 1000; // a connection that lasted this long was a good one
    private static final int HASTY_ATTEMPTS = 3;
    private static final double FLUSH_MS = 2000;

    private final Connector connector;
    private final Environment environment;
    private final Deadlines deadlines;
    private final Map<String, AgentSpec> hosted = new LinkedHashMap<>();
    private final LinkProtocol protocol;
    private final AgentHost host;
    private final LinkCalls calls;
    private final CompletableFuture<Void> ended = new CompletableFuture<>();
    private volatile boolean connected;
    private volatile List<String> engines = List.of();

    private Connection connection;
    private int generation; // of the connection: what older ones say no longer matters
    private boolean sending;
    private boolean deferred;
    private List<Runnable> flushes = new ArrayList<>();
    private Environment.Timer tick = () -> {};
    private Environment.Timer handshake = () -> {};
    private Environment.Timer retry = () -> {};
    private AmxException rejection;
    private int attempt;
    private double welcomedAt = -1; // of this connection
    private boolean everOpened;
    private double patientUntil;
    private boolean onceMore; // the first attempt of a JVM on a busy machine may take all the patience there is
    private CompletableFuture<Void> closing;
    private boolean saidGoodbye;
    private Runnable hungUp;
    private CompletableFuture<Void> opening;

    /**
     * A link that is not open.
     *
     * @param connector reaches the engine
     * @param environment clock, thread, log
     * @param software name and version of this SDK
     * @param agents what is hosted
     * @param executor runs handlers
     * @param failures exceptions as they travel
     * @param concurrency invocations and deliveries at a time
     * @param config given to contexts
     */
    public Link(
            Connector connector,
            Environment environment,
            SoftwareInfo software,
            Collection<AgentSpec> agents,
            Executor executor,
            Failures failures,
            int concurrency,
            Map<String, Object> config) {
        this(connector, environment, software, agents, executor, failures, concurrency, config, false);
    }

    /**
     * A link that is not open.
     *
     * @param connector reaches the engine
     * @param environment clock, thread, log
     * @param software name and version of this SDK
     * @param agents what is hosted
     * @param executor runs handlers
     * @param failures exceptions as they travel
     * @param concurrency invocations and deliveries at a time
     * @param config given to contexts
     * @param enginesKnown the engine is one of several, of which all are linked to
     */
    public Link(
            Connector connector,
            Environment environment,
            SoftwareInfo software,
            Collection<AgentSpec> agents,
            Executor executor,
            Failures failures,
            int concurrency,
            Map<String, Object> config,
            boolean enginesKnown) {
        this.connector = connector;
        this.environment = environment;
        this.deadlines = new Deadlines(environment);
        for (AgentSpec agent : agents) {
            hosted.put(agent.definition().getName(), agent);
        }
        this.host = new AgentHost(hosted, config, environment, deadlines, executor, failures, concurrency);
        List<AgentDefinition> definitions = agents.stream().map(AgentSpec::definition).toList();
        this.protocol =
                new LinkProtocol(
                        environment.randomId(),
                        software,
                        concurrency,
                        definitions,
                        host,
                        this,
                        deadlines,
                        environment,
                        enginesKnown);
        this.calls = new LinkCalls(protocol, environment, failures);
        host.attach(protocol, calls);
    }

    @Override
    public EngineCalls calls() {
        return calls;
    }

    @Override
    public CompletableFuture<Void> ended() {
        return ended;
    }

    @Override
    public boolean connected() {
        return connected;
    }

    /**
     * Where the engines are that share the address, if there are several: then this link is of no more use, and is to
     * be closed.
     *
     * @return by number; empty: there is one
     */
    public List<String> engines() {
        return engines;
    }

    /**
     * Namespace the link acts in.
     *
     * @return empty before the first Welcome
     */
    public CompletableFuture<String> namespace() {
        CompletableFuture<String> said = new CompletableFuture<>();
        environment.execute(() -> said.complete(protocol.namespace()));
        return said;
    }

    @Override
    public CompletableFuture<Void> open(double patienceMs) {
        CompletableFuture<Void> opened = new CompletableFuture<>();
        environment.execute(
                () -> {
                    if (closing != null) {
                        opened.completeExceptionally(
                                unavailable("SHUTTING_DOWN", "the link was closed before it was opened"));
                        return;
                    }
                    patientUntil = real() + patienceMs;
                    onceMore = patienceMs > 0;
                    opening = opened;
                    connect();
                });
        return opened;
    }

    @Override
    public CompletableFuture<Void> close(double deadlineMs) {
        CompletableFuture<Void> closed = new CompletableFuture<>();
        environment.execute(
                () -> {
                    if (closing == null) {
                        closing = leave(deadlineMs);
                    }
                    closing.whenComplete((done, error) -> closed.complete(null));
                });
        return closed;
    }

    @Override
    public CompletableFuture<Void> register(Collection<AgentSpec> agents, Collection<String> removed) {
        CompletableFuture<Void> registered = new CompletableFuture<>();
        environment.execute(() -> registerNow(agents, removed, registered));
        return registered;
    }

    private void registerNow(
            Collection<AgentSpec> agents, Collection<String> removed, CompletableFuture<Void> registered) {
        Map<String, AgentSpec> before = new LinkedHashMap<>();
        for (AgentSpec agent : agents) {
            String name = agent.definition().getName();
            before.put(name, hosted.get(name));
            hosted.put(name, agent);
        }
        List<AgentDefinition> definitions = agents.stream().map(AgentSpec::definition).toList();
        calls.register(call -> protocol.register(call, definitions, removed))
                .whenComplete(
                        (done, error) -> {
                            if (error == null) {
                                hosted.keySet().removeAll(removed);
                                registered.complete(null);
                                return;
                            }
                            before.forEach(
                                    (name, old) -> {
                                        if (old == null) {
                                            hosted.remove(name);
                                        } else {
                                            hosted.put(name, old);
                                        }
                                        protocol.restoreAgent(name, old == null ? null : old.definition());
                                    });
                            for (String name : removed) {
                                AgentSpec kept = hosted.get(name);
                                if (kept != null) {
                                    protocol.restoreAgent(name, kept.definition());
                                }
                            }
                            registered.completeExceptionally(error);
                        });
    }

    // --- what the protocol says --------------------------------------------------------------------------------------

    @Override
    public void wake() {
        if (deferred || sending) {
            return;
        }
        deferred = true;
        sendSoon(GIVING_WAY);
    }

    /** Sends what is there by the time that handlers which are about to end have had the chance to. */
    private void sendSoon(int givingWay) {
        environment.execute(
                () -> {
                    if (givingWay > 0 && host.slotsInUse() > 0) {
                        Thread.yield();
                        sendSoon(givingWay - 1);
                    } else {
                        deferred = false;
                        send();
                    }
                });
    }

    @Override
    public void opened(boolean resumed) {
        environment.log(
                Level.INFO,
                (resumed ? "resumed" : "opened") + " link to "
                        + (protocol.engine().isEmpty() ? "the engine" : protocol.engine()) + " at "
                        + connector.address() + ", session " + protocol.sessionId() + ", namespace "
                        + (protocol.namespace().isEmpty() ? "default" : protocol.namespace()),
                null);
        everOpened = true;
        connected = true;
        if (opening != null) {
            opening.complete(null);
            opening = null;
        }
    }

    @Override
    public void redirected(List<String> places) {
        engines = List.copyOf(places);
    }

    @Override
    public void rejected(AmxException error) {
        rejection = error;
    }

    @Override
    public void goAway(String reason, long millis) {
        environment.log(
                Level.INFO,
                "the engine leaves in " + millis + " ms (" + (reason.isEmpty() ? "no reason" : reason)
                        + "); this link reconnects when it has",
                null);
    }

    // --- connections -------------------------------------------------------------------------------------------------

    private void connect() {
        int mine = ++generation;
        welcomedAt = -1;
        sending = false;
        handshake =
                environment.await(
                        HANDSHAKE_MS,
                        () -> {
                            if (mine == generation) {
                                lose("no Welcome within " + (int) (HANDSHAKE_MS / 1000) + " s", null);
                            }
                        });
        try {
            connection =
                    connector.connect(
                            new Connector.Events() {
                                @Override
                                public void opened() {
                                    if (mine == generation && connection != null) {
                                        connection.send(protocol.hello(), () -> {});
                                    }
                                }

                                @Override
                                public void received(byte[] frame) {
                                    if (mine == generation) {
                                        take(frame);
                                    }
                                }

                                @Override
                                public void lost(String why, AmxException error) {
                                    if (mine == generation) {
                                        lose(why, error);
                                    }
                                }
                            });
        } catch (AmxException error) {
            lose(error.getMessage(), error);
        } catch (RuntimeException error) {
            lose(String.valueOf(error.getMessage()), null);
        }
    }

    private void take(byte[] frame) {
        try {
            protocol.receive(frame);
        } catch (ProtocolViolation error) {
            lose(error.getMessage(), null);
            return;
        } catch (RuntimeException error) {
            environment.log(Level.ERROR, "the link failed unexpectedly", error);
            lose(String.valueOf(error.getMessage()), null);
            return;
        }
        if (welcomedAt >= 0) {
            return;
        }
        if (!engines.isEmpty()) {
            moved();
            return;
        }
        if (!protocol.isOpen()) {
            lose("the engine refused the link", null);
            return;
        }
        welcomedAt = real();
        handshake.cancel();
        keepAlive();
        send();
    }

    /** Sends whatever was queued while the last frame was on its way; rests only when there is nothing. */
    private void send() {
        if (sending || connection == null || welcomedAt < 0) {
            return;
        }
        byte[] frame = protocol.nextFrame();
        if (frame == null) {
            flushed();
            return;
        }
        sending = true;
        int mine = generation;
        connection.send(
                frame,
                () -> {
                    if (mine == generation) {
                        sending = false;
                        wake();
                    }
                });
    }

    private void keepAlive() {
        double interval = Math.min(TICK_MS, protocol.heartbeatMs() / 4.0);
        int mine = generation;
        double due = environment.now() + interval;
        tick =
                environment.callAt(
                        due,
                        () -> {
                            if (mine != generation) {
                                return;
                            }
                            double late = Math.max(0, environment.now() - due);
                            if (protocol.tick(host.slotsInUse(), late, late)) {
                                keepAlive();
                            } else {
                                environment.log(
                                        Level.WARN,
                                        "nothing was heard from the engine for two heartbeats: connecting again",
                                        null);
                                lose("the engine is silent", null);
                            }
                        });
    }

    /** Several engines share the address: whoever opened the link finds them; one that was open before is over. */
    private void moved() {
        disconnect();
        if (opening != null) {
            opening.complete(null);
            opening = null;
            return;
        }
        giveUp(
                new AmxException(
                        Code.FAILED_PRECONDITION,
                        "ENGINES_CHANGED",
                        engines.size() + " engines are now at " + connector.address()
                                + ", where there was one; start this process again"));
    }

    /** The connection is gone: makes another, unless there is no point in it. */
    private void lose(String why, AmxException error) {
        double welcomed = welcomedAt;
        disconnect();
        if (saidGoodbye) {
            if (hungUp != null) {
                hungUp.run();
            }
            return;
        }
        AmxException refusal = rejection != null ? rejection : error;
        rejection = null;
        if (refusal != null && !refusal.retryable()) {
            giveUp(refusal);
            return;
        }
        if (!everOpened) {
            if (real() >= patientUntil && !onceMore) {
                giveUp(refusal != null ? refusal : unreachable(why));
                return;
            }
            onceMore = false;
        }
        if (welcomed >= 0) {
            // A new loss; but what fails right after its Welcome is not tried in haste.
            attempt = real() - welcomed > HELD_MS ? 0 : Math.min(attempt, HASTY_ATTEMPTS);
        }
        double longest = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * Math.pow(2, attempt));
        if (refusal != null && !refusal.retryDelay().isZero()) {
            longest = Math.max(longest, Math.min(LONGEST_BACKOFF_MS, refusal.retryDelay().toMillis()));
        }
        attempt = Math.min(attempt + 1, 16);
        double delay = longest * (0.5 + ThreadLocalRandom.current().nextDouble() / 2);
        environment.log(
                everOpened && attempt == 1 ? Level.WARN : Level.DEBUG,
                (refusal != null ? refusal.getMessage() : why) + "; connecting again in " + Math.round(delay) + " ms",
                null);
        retry = environment.await(delay, this::connect);
    }

    /** Lets go of the connection. */
    private void disconnect() {
        generation++;
        handshake.cancel();
        tick.cancel();
        retry.cancel();
        if (connection != null) {
            connection.close();
            connection = null;
        }
        welcomedAt = -1;
        connected = false;
        sending = false;
        protocol.disconnected();
        flushed();
    }

    private void giveUp(AmxException error) {
        host.abandon();
        protocol.close(error);
        deadlines.close();
        if (opening != null) {
            opening.completeExceptionally(error);
            opening = null;
            ended.complete(null);
            return;
        }
        environment.log(Level.ERROR, "the link is over: " + error.getMessage(), null);
        ended.completeExceptionally(error);
    }

    // --- leaving -----------------------------------------------------------------------------------------------------

    private CompletableFuture<Void> leave(double deadlineMs) {
        CompletableFuture<Void> left = new CompletableFuture<>();
        if (!protocol.isOpen()) {
            over(left);
            return left;
        }
        Runnable wait =
                () ->
                        within(
                                deadlineMs,
                                host.whenEmpty(),
                                inTime -> {
                                    if (!inTime) {
                                        environment.log(
                                                Level.WARN,
                                                host.slotsInUse() + " handlers still ran after "
                                                        + Duration.ofMillis((long) deadlineMs) + " and are cancelled",
                                                null);
                                    }
                                    goodbye(left);
                                });
        if (host.slotsInUse() > 0 || !hosted.isEmpty()) {
            protocol.drain();
            flush(wait);
        } else {
            wait.run();
        }
        return left;
    }

    private void goodbye(CompletableFuture<Void> left) {
        if (!protocol.isOpen()) {
            over(left);
            return;
        }
        CompletableFuture<Void> gone = new CompletableFuture<>();
        hungUp = () -> gone.complete(null);
        saidGoodbye = true;
        protocol.drained();
        flush(() -> within(FLUSH_MS, gone, inTime -> over(left)));
    }

    private void over(CompletableFuture<Void> left) {
        saidGoodbye = true;
        host.abandon();
        AmxException over = unavailable("SHUTTING_DOWN", "the link was closed before this call had an outcome");
        protocol.close(over);
        disconnect();
        deadlines.close();
        if (opening != null) {
            opening.completeExceptionally(over);
            opening = null;
        }
        ended.complete(null);
        left.complete(null);
    }

    /** Calls back when everything said so far has been handed to the transport, or is known not to get there. */
    private void flush(Runnable then) {
        CompletableFuture<Void> flushed = new CompletableFuture<>();
        flushes.add(() -> flushed.complete(null));
        wake();
        within(FLUSH_MS, flushed, inTime -> then.run());
    }

    private void flushed() {
        if (flushes.isEmpty()) {
            return;
        }
        List<Runnable> waiting = flushes;
        flushes = new ArrayList<>();
        for (Runnable callback : waiting) {
            callback.run();
        }
    }

    /** Calls back with whether `what` happened within so many milliseconds of real time. */
    private void within(double millis, CompletableFuture<Void> what, java.util.function.Consumer<Boolean> then) {
        boolean[] called = {false};
        Environment.Timer timer =
                environment.await(
                        millis,
                        () -> {
                            if (!called[0]) {
                                called[0] = true;
                                then.accept(false);
                            }
                        });
        what.whenComplete(
                (done, error) -> {
                    timer.cancel();
                    if (!called[0]) {
                        called[0] = true;
                        then.accept(true);
                    }
                });
    }

    private AmxException unreachable(String why) {
        return unavailable(
                "ENGINE_UNREACHABLE",
                "no engine answers at " + connector.address() + " (" + why + "); start one with `amx dev`, or name"
                        + " another with AMX_ADDRESS or withAddress()");
    }

    private static AmxException unavailable(String reason, String message) {
        return new AmxException.Facts(Code.UNAVAILABLE, reason, message)
                .retryable(true)
                .retryAfter(Duration.ofSeconds(1))
                .exception();
    }

    /** Real milliseconds: how long connections last and how patient one is has nothing to do with the protocol's clock. */
    private static double real() {
        return System.nanoTime() / 1e6;
    }
}
