package com.aimatrix.engine;

import com.aimatrix.engine.authoring.Durations;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.host.EngineLink;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.EngineCalls;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.Subscription;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JavaType;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * This process's link to an engine: hosts agents, and calls others.
 *
 * <pre>{@code
 * try (AmxEngine engine = AmxEngine.builder().withAgent(Greeter.class).build().start()) {
 *     System.out.println(engine.request("Greeter", "Ada"));
 * }
 * }</pre>
 *
 * Calls end with AmxException and the engine's reason. While the link is lost they wait, until their timeouts. Futures
 * are completed on the link's own thread: callbacks that are attached to them with thenApply and the like must be quick;
 * one that waits for another call gets LINK_BLOCKED. Safe for use by many threads.
 */
public final class AmxEngine implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger("com.aimatrix.engine");
    private static final long DEFAULT_TIMEOUT_MS = 30_000;
    private static final long SHORT_START_MS = 1000;
    private static final Duration DEFAULT_DRAIN = Duration.ofSeconds(30);

    private final AmxEngineBuilder.Parts parts;
    private final Json json;
    private final AtomicLong sent = new AtomicLong();
    private final String idPrefix = Long.toHexString(new java.security.SecureRandom().nextLong());
    private List<AgentSpec> agents; // guarded by this
    private volatile Running running;

    AmxEngine(AmxEngineBuilder.Parts parts) {
        this.parts = parts;
        this.json = parts.json();
        this.agents = parts.agents();
    }

    /**
     * Where every AmxEngine begins.
     *
     * @return says nothing yet
     */
    public static AmxEngineBuilder builder() {
        return new AmxEngineBuilder();
    }

    // --- life --------------------------------------------------------------------------------------------------------

    /**
     * Connects, and offers the agents to the engine. An engine that cannot be reached is tried again for 10 s if its
     * address was given, once otherwise.
     *
     * @return this
     * @throws AmxException ENGINE_UNREACHABLE, UNAUTHENTICATED, DEFINITION_CHANGED, ALREADY_STARTED, or whatever else
     *     the engine refuses the link for; nothing is left running then
     */
    public AmxEngine start() {
        return start(Duration.ofMillis((long) parts.patienceMs()));
    }

    /**
     * Connects, and offers the agents to the engine.
     *
     * @param patience how long an engine that cannot be reached is tried again, once at least unless it is zero
     * @return this
     * @throws AmxException as `start`
     */
    public AmxEngine start(Duration patience) {
        Running opened = begin();
        try {
            opened.open(patience.toMillis());
        } catch (RuntimeException | Error error) {
            boolean ours;
            synchronized (this) {
                ours = running == opened;
                running = ours ? null : running;
            }
            if (ours) { // else stop() ends it
                opened.close(0);
            }
            throw error;
        }
        return this;
    }

    /** Makes what a link needs. From now on there is something to stop, and handlers that are early can make calls. */
    private synchronized Running begin() {
        if (running != null) {
            throw new AmxException(
                    Code.FAILED_PRECONDITION, "ALREADY_STARTED", "this AmxEngine is started; stop() it first");
        }
        running = new Running(parts, agents);
        return running;
    }

    /** Takes no new messages, lets handlers finish for up to 30 s, then cancels them and disconnects. */
    public void stop() {
        stop(DEFAULT_DRAIN);
    }

    /**
     * Takes no new messages, lets handlers finish, then cancels them and disconnects. Does nothing if it is not
     * started.
     *
     * @param deadline how long handlers may take
     */
    public void stop(Duration deadline) {
        Calls.mayBlock(null);
        leave(deadline);
    }

    private synchronized void leave(Duration deadline) {
        long deadlineMs = Durations.milliseconds(deadline, "deadline");
        Running was = running;
        if (was == null) {
            return;
        }
        try {
            was.close(deadlineMs); // what still runs may call until it has ended
        } finally {
            running = null;
        }
        agents.forEach(AgentSpec::close);
    }

    @Override
    public void close() {
        stop();
    }

    /**
     * Whether `start` was called, and `stop` has not ended.
     *
     * @return whether it runs
     */
    public boolean started() {
        return running != null;
    }

    /**
     * Whether there is a connection now. Calls may be made either way.
     *
     * @return to every engine, if several share the address
     */
    public boolean connected() {
        Running now = running;
        return now != null && now.link().connected();
    }

    /**
     * Where the engine is.
     *
     * @return `host:port` or `unix:/path`
     */
    public String address() {
        return parts.connector() == null ? parts.address() : parts.connector().address();
    }

    /**
     * What the builder was given.
     *
     * @return all sections
     */
    public Map<String, Object> config() {
        return parts.config();
    }

    /**
     * The end of the link.
     *
     * @return done after `stop`; fails with AmxException if the engine refused to have a lost link back
     */
    public CompletableFuture<Void> closed() {
        return link().ended();
    }

    /**
     * Runs until the process is told to end (SIGTERM, SIGINT), or `stop`, then stops and returns: a main that ends with
     * it exits with 0. Starts first if need be. A second signal ends the process at once.
     *
     * @throws AmxException as `start`, or why the engine refused to have a lost link back
     */
    public void runForever() {
        AtomicBoolean told = new AtomicBoolean();
        CompletableFuture<Void> started = new CompletableFuture<>();
        Runnable leave =
                () -> {
                    if (told.compareAndSet(false, true)) {
                        LOG.info(
                                "told to end: what runs may finish within {} s; a second signal ends this process at once",
                                DEFAULT_DRAIN.toSeconds());
                        // Who is told to end before the engine has said Welcome leaves politely if it says so soon.
                        started.completeOnTimeout(null, SHORT_START_MS, TimeUnit.MILLISECONDS).join();
                        stop();
                    }
                };
        Thread leaving = new Thread(leave, "amx-stop"); // for whoever ends the JVM otherwise
        Runtime.getRuntime().addShutdownHook(leaving);
        Signals signals = Signals.caught(leave);
        try {
            if (running == null && !told.get()) {
                start();
            }
            started.complete(null);
            Running now = running;
            if (now != null && !told.get()) {
                Calls.await(now.link().ended());
            }
        } catch (AmxException error) {
            if (!told.get()) {
                throw error;
            } // else it was stopped while it started
        } finally {
            started.complete(null);
            stop();
            signals.close();
            forget(leaving);
        }
    }

    private static void forget(Thread hook) {
        try {
            Runtime.getRuntime().removeShutdownHook(hook);
        } catch (IllegalStateException running) {
            // it is what got us here
        }
    }

    /**
     * Hosts more agents, or newer versions, from now on; no longer those that are named.
     *
     * @param joining annotated classes, objects of them, or AgentSpecs
     * @param removed names of agents
     * @throws AmxException if the engine refuses them; nothing has changed then
     */
    public synchronized void host(Collection<?> joining, Collection<String> removed) {
        AmxEngineBuilder compiled = new AmxEngineBuilder().withJson(json);
        joining.forEach(compiled::withAgent);
        List<AgentSpec> joined = compiled.build().agents;
        Calls.await(link().register(joined, removed));
        Set<String> gone = new TreeSet<>(removed);
        joined.forEach(one -> gone.add(one.definition().getName()));
        List<AgentSpec> left = new ArrayList<>();
        List<AgentSpec> now = new ArrayList<>();
        agents.forEach(one -> (gone.contains(one.definition().getName()) ? left : now).add(one));
        now.addAll(joined);
        agents = List.copyOf(now);
        left.forEach(AgentSpec::close);
    }

    // --- messages ----------------------------------------------------------------------------------------------------

    /**
     * Sends a message and waits for what its handler returned.
     *
     * @param agent `name` or `name/key`
     * @param content a Message, or anything with a JSON form
     * @return a ProcessingResult if that is what was returned; null: no value
     */
    public Object sendMessage(String agent, Object content) {
        return request(agent, content);
    }

    /**
     * Sends a message and waits for what its handler returned.
     *
     * @param agent `name` or `name/key`
     * @param content a Message, or anything with a JSON form
     * @return a ProcessingResult if that is what was returned; null: no value
     */
    public Object request(String agent, Object content) {
        return request(agent, content, Object.class);
    }

    /**
     * Sends a message and waits for what its handler returned.
     *
     * @param <T> what it answers
     * @param agent `name` or `name/key`
     * @param content a Message, or anything with a JSON form
     * @param type what it answers
     * @return null: no value
     */
    public <T> T request(String agent, Object content, Class<T> type) {
        return request(agent, content, type, new MessageOptions());
    }

    /**
     * Sends a message and waits for what its handler returned.
     *
     * @param <T> what it answers
     * @param agent `name` or `name/key`
     * @param content a Message, or anything with a JSON form
     * @param type what it answers
     * @param options more to say; 30 s of time unless said
     * @return null: no value
     */
    public <T> T request(String agent, Object content, Class<T> type, MessageOptions options) {
        return Calls.await(requestAsync(agent, content, type, options));
    }

    /**
     * Sends a message and waits for what its handler returned.
     *
     * @param <T> what it answers
     * @param agent `name` or `name/key`
     * @param content a Message, or anything with a JSON form
     * @param type what it answers, with its parameters
     * @param options more to say; 30 s of time unless said
     * @return null: no value
     */
    public <T> T request(String agent, Object content, TypeReference<T> type, MessageOptions options) {
        return Calls.await(asked(agent, content, json.type(type.getType()), options));
    }

    /**
     * Sends a message.
     *
     * @param <T> what it answers
     * @param agent `name` or `name/key`
     * @param content a Message, or anything with a JSON form
     * @param type what it answers
     * @param options more to say; 30 s of time unless said
     * @return done with what its handler returned; cancelling it cancels the handler
     */
    public <T> CompletableFuture<T> requestAsync(String agent, Object content, Class<T> type, MessageOptions options) {
        return asked(agent, content, json.type(type), options);
    }

    private <T> CompletableFuture<T> asked(String agent, Object content, JavaType type, MessageOptions options) {
        return Calls.mapped(
                calls().request(Wire.message(json, agent, content, options).build(), limits(options)),
                payload -> Calls.typed(Wire.reply(json, payload, type)));
    }

    /**
     * Sends bytes and waits for the bytes of the reply, without looking at either: the fastest way to ask.
     *
     * @param agent `name` or `name/key`
     * @param payload as it travels
     * @param options more to say
     * @return done with the payload of the reply
     */
    public CompletableFuture<Payload> requestPayload(String agent, Payload payload, MessageOptions options) {
        return calls().request(Wire.message(json, agent, payload, options).build(), limits(options));
    }

    /**
     * Sends a message one way, and waits until the engine has it (stored, unless it is said not to be durable).
     *
     * @param agent `name` or `name/key`
     * @param content a Message, or anything with a JSON form
     * @return what the engine says
     */
    public Receipt send(String agent, Object content) {
        return send(agent, content, new MessageOptions());
    }

    /**
     * Sends a message one way, and waits until the engine has it (stored, unless it is said not to be durable).
     *
     * @param agent `name` or `name/key`
     * @param content a Message, or anything with a JSON form
     * @param options more to say; without an id it gets one, so that a repeat after a restart is still one message
     * @return what the engine says
     */
    public Receipt send(String agent, Object content, MessageOptions options) {
        return Calls.await(sendAsync(agent, content, options));
    }

    /**
     * Sends a message one way.
     *
     * @param agent `name` or `name/key`
     * @param content a Message, or anything with a JSON form
     * @param options more to say; without an id it gets one
     * @return done when the engine has it
     */
    public CompletableFuture<Receipt> sendAsync(String agent, Object content, MessageOptions options) {
        com.aimatrix.engine.v1.Message.Builder message = Wire.message(json, agent, content, options);
        boolean stored = message.getDurability() != com.aimatrix.engine.v1.Durability.DURABILITY_VOLATILE;
        if (message.getMessageId().isEmpty() && stored) {
            message.setMessageId(idPrefix + "-" + sent.incrementAndGet());
        }
        return Calls.mapped(
                calls().send(message.build(), limits(options)),
                accepted -> new Receipt(accepted.getMessageId(), accepted.getDuplicate()));
    }

    /**
     * Sends a message and reads what its handler yields. A handler that returns instead is a stream of one. Nothing is
     * sent before somebody subscribes; one may. The handler waits for slow readers, and is cancelled if the reader
     * cancels.
     *
     * @param <T> type of its chunks
     * @param agent `name` or `name/key`
     * @param content a Message, or anything with a JSON form
     * @param type of its chunks
     * @param options more to say; 30 s of time unless said
     * @return its chunks
     */
    public <T> Flow.Publisher<T> stream(String agent, Object content, Class<T> type, MessageOptions options) {
        Flow.Publisher<Payload> payloads =
                calls().stream(Wire.message(json, agent, content, options).build(), limits(options));
        return Calls.chunks(json, payloads, json.type(type));
    }

    /**
     * Publishes an event to whoever subscribed to its topic, and waits until the engine has it.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     * @return what the engine says
     */
    public Publication publish(String topic, Object content) {
        return publish(topic, content, new EventOptions());
    }

    /**
     * Publishes an event to whoever subscribed to its topic, and waits until the engine has it.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     * @param options more to say
     * @return what the engine says
     */
    public Publication publish(String topic, Object content, EventOptions options) {
        return Calls.await(publishAsync(topic, content, options));
    }

    /**
     * Publishes an event to whoever subscribed to its topic.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     * @param options more to say
     * @return done when the engine has it
     */
    public CompletableFuture<Publication> publishAsync(String topic, Object content, EventOptions options) {
        return Calls.mapped(
                calls().publish(Wire.event(json, topic, content, options).build(), limits(null)),
                published -> new Publication(published.getEventId(), published.getSubscribers()));
    }

    /**
     * Events on topics that match. Waits until the subscription is in force.
     *
     * @param pattern `*` is one segment, `**` any number
     * @param filter on attributes, such as `severity in (high, critical)`; empty: all
     * @return to be closed
     */
    public Events subscribe(String pattern, String filter) {
        return Calls.await(subscribeAsync(pattern, filter));
    }

    /**
     * Events on topics that match.
     *
     * @param pattern `*` is one segment, `**` any number
     * @param filter on attributes, such as `severity in (high, critical)`; empty: all
     * @return done when the subscription is in force; to be closed then
     */
    public CompletableFuture<Events> subscribeAsync(String pattern, String filter) {
        Subscription subscription = Subscription.newBuilder().setPattern(pattern).setFilter(filter).build();
        return Calls.mapped(
                calls().subscribe(subscription, EngineCalls.Options.NONE), source -> new Events(json, source));
    }

    /**
     * Sends a message to many, and waits for what became of it.
     *
     * @param scope to whom
     * @param content anything with a JSON form
     * @param options more to say; 30 s of time unless said
     * @return what became of it at each
     */
    public Broadcast broadcast(Broadcast.Scope scope, Object content, MessageOptions options) {
        return Calls.await(broadcastAsync(scope, content, options));
    }

    /**
     * Sends a message to many.
     *
     * @param scope to whom
     * @param content anything with a JSON form
     * @param options more to say; 30 s of time unless said
     * @return done with what became of it at each
     */
    public CompletableFuture<Broadcast> broadcastAsync(Broadcast.Scope scope, Object content, MessageOptions options) {
        return Calls.mapped(
                calls().broadcast(scope.wire(), Wire.message(json, "", content, options).build(), limits(options)),
                result -> Calls.outcome(json, result));
    }

    /**
     * The memory of one instance, from outside.
     *
     * @param agent `name` or `name/key`
     * @return its memory
     */
    public RemoteMemory memory(String agent) {
        EngineCalls calls = calls();
        return new RemoteMemory(
                json, AgentReference.parse(agent), operation -> calls.memory(operation, limits(null)));
    }

    private static EngineCalls.Options limits(MessageOptions options) {
        return new EngineCalls.Options(
                options == null || options.timeoutMs == 0 ? DEFAULT_TIMEOUT_MS : options.timeoutMs, 0);
    }

    private EngineCalls calls() {
        return link().calls();
    }

    private EngineLink link() {
        Running now = running;
        if (now == null) {
            throw new AmxException(
                    Code.FAILED_PRECONDITION, "NOT_STARTED", "this AmxEngine is not started; start() it first");
        }
        return now.link();
    }
}
