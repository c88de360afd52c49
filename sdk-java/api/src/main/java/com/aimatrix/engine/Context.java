package com.aimatrix.engine;

import com.aimatrix.engine.authoring.Durations;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.memory.InstanceMemories;
import com.aimatrix.engine.spec.EngineCalls;
import com.aimatrix.engine.spec.HandlerRun;
import com.aimatrix.engine.v1.Event;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.ScheduleDefinition;
import com.aimatrix.engine.v1.Subscription;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JavaType;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.Flow;
import java.util.function.Consumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One invocation, as its handler sees it: what it may ask, and do besides returning. What is staged is committed with
 * the handler's result or not at all; calls are made at once. Valid until the handler has ended; by any thread.
 *
 * <p>Calls end with AmxException, at the latest when the handler's own deadline passes or it is cancelled.
 */
public final class Context {
    private static final ThreadLocal<Context> CURRENT = new ThreadLocal<>();

    private final HandlerRun run;
    private final Json json;
    private final Message message;
    private final InstanceMemories memories;
    private Logger logger;

    Context(HandlerRun run, Json json, Message message, InstanceMemories memories) {
        this.run = run;
        this.json = json;
        this.message = message;
        this.memories = memories;
    }

    /**
     * The context of the handler that runs on this thread.
     *
     * @return its context
     * @throws AmxException NO_CONTEXT if none does: take a Context as a parameter, and hand it to other threads
     */
    public static Context current() {
        Context context = CURRENT.get();
        if (context == null) {
            throw new AmxException(
                    Code.FAILED_PRECONDITION,
                    "NO_CONTEXT",
                    "no handler runs on this thread; take a Context as a parameter of the handler and pass it on");
        }
        return context;
    }

    /** The context of the handler that runs on this thread; null if none does. */
    static Context currentOrNull() {
        return CURRENT.get();
    }

    /**
     * Makes a context this thread's, for languages whose handlers go on in another thread than they began in. What was
     * there before must be put back with `leave` on the same thread.
     *
     * @param context of the handler that goes on
     * @return what was there before; may be null
     */
    public static Context enter(Context context) {
        Context before = CURRENT.get();
        CURRENT.set(context);
        return before;
    }

    /**
     * Undoes `enter`.
     *
     * @param before what `enter` returned
     */
    public static void leave(Context before) {
        if (before == null) {
            CURRENT.remove();
        } else {
            CURRENT.set(before);
        }
    }

    // --- what it may ask ---------------------------------------------------------------------------------------------

    /**
     * What is handled.
     *
     * @return the message
     */
    public Message message() {
        return message;
    }

    /**
     * Headers of the message.
     *
     * @return unmodifiable
     */
    public Map<String, String> headers() {
        return message.headers();
    }

    /**
     * Name of the agent.
     *
     * @return never empty
     */
    public String agent() {
        return run.agent();
    }

    /**
     * Key of the instance.
     *
     * @return never empty
     */
    public String key() {
        return run.key();
    }

    /**
     * Name of the handler.
     *
     * @return never empty
     */
    public String handler() {
        return run.handler();
    }

    /**
     * The instance: `agent/key`.
     *
     * @return its address
     */
    public AgentReference address() {
        return new AgentReference(run.agent(), run.key());
    }

    /**
     * Which attempt it is.
     *
     * @return 1 for the first
     */
    public int attempt() {
        return run.attempt();
    }

    /**
     * W3C trace context of the sender.
     *
     * @return may be empty
     */
    public String traceparent() {
        return message.traceparent();
    }

    /**
     * Time until the deadline.
     *
     * @return not negative; empty without one
     */
    public Optional<Duration> remaining() {
        OptionalDouble millis = run.remainingMs();
        return millis.isPresent()
                ? Optional.of(Duration.ofNanos((long) (millis.getAsDouble() * 1_000_000)))
                : Optional.empty();
    }

    /**
     * When it must have ended.
     *
     * @return empty without a deadline
     */
    public Optional<Instant> deadline() {
        return remaining().map(left -> Instant.now().plus(left));
    }

    /**
     * Why it was asked to stop: cancelled, out of time, or the session was lost. The thread is interrupted, too.
     *
     * @return empty: it was not
     */
    public Optional<AmxException> stopped() {
        return Optional.ofNullable(run.stopped());
    }

    /**
     * Calls back when it is asked to stop; at once if it was.
     *
     * @param callback with the reason, on any thread; must not block or throw
     */
    public void onStop(Consumer<AmxException> callback) {
        run.onStop(callback);
    }

    /**
     * Where handlers run, and may block: for what goes on after waiting.
     *
     * @return is not shut down before the handler has ended
     */
    public Executor executor() {
        return run.executor();
    }

    /**
     * Whether the caller reads chunks.
     *
     * @return whether it does
     */
    public boolean streaming() {
        return run.streaming();
    }

    /**
     * What `withConfig` of the builder was given.
     *
     * @return all sections
     */
    public Map<String, Object> config() {
        return run.config();
    }

    /**
     * Logs with the name of this agent and handler: `amx.agent.NAME.HANDLER`.
     *
     * @return of SLF4J
     */
    public Logger logger() {
        if (logger == null) {
            logger = LoggerFactory.getLogger("amx.agent." + run.agent() + "." + run.handler());
        }
        return logger;
    }

    /**
     * Gives a memory that is a single value a lifetime of its own, which starts now; it becomes the initial value
     * again. For entries see Memories.
     *
     * @param memory its name
     * @param ttl positive
     */
    public void expire(String memory, Duration ttl) {
        long millis = Durations.positive(ttl, "ttl");
        if (memories != null) {
            memories.expire(memory, millis);
        }
    }

    // --- what is committed with its result ---------------------------------------------------------------------------

    /**
     * Stages a one-way message: sent when this invocation commits, never if it fails.
     *
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form; a Message keeps what it says of itself
     */
    public void send(String agent, Object content) {
        send(agent, content, new MessageOptions());
    }

    /**
     * Stages a one-way message: sent when this invocation commits, never if it fails.
     *
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form; a Message keeps what it says of itself
     * @param options more to say
     */
    public void send(String agent, Object content, MessageOptions options) {
        com.aimatrix.engine.v1.Message.Builder staged = Wire.message(json, agent, content, options);
        run.stage(effects -> effects.addMessages(staged));
    }

    /**
     * Stages an event: published when this invocation commits, never if it fails.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     */
    public void publish(String topic, Object content) {
        publish(topic, content, new EventOptions());
    }

    /**
     * Stages an event: published when this invocation commits, never if it fails.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     * @param options more to say
     */
    public void publish(String topic, Object content, EventOptions options) {
        Event.Builder staged = Wire.event(json, topic, content, options);
        run.stage(effects -> effects.addEvents(staged));
    }

    /**
     * Stages a timer of this instance, replacing the one of that name.
     *
     * @param name of the timer
     * @param handler that it runs
     * @param timing when
     * @param content of its messages; may be null
     */
    public void schedule(String name, String handler, Timing timing, Object content) {
        ScheduleDefinition.Builder schedule = timing.wire().setName(name).setHandler(handler).setKey(run.key());
        Payload payload = Payloads.encode(json, content);
        if (!Payloads.isNothing(payload)) {
            schedule.setPayload(payload);
        }
        run.stage(effects -> effects.addSchedules(schedule));
    }

    /**
     * Stages the removal of a timer of this instance; an unknown name does nothing.
     *
     * @param name of the timer
     */
    public void unschedule(String name) {
        run.stage(effects -> effects.addCancelledSchedules(name));
    }

    /**
     * Stages a subscription of this instance to events on matching topics.
     *
     * @param pattern such as `orders.*`
     * @param handler that receives them
     * @param filter by attributes; empty: all
     */
    public void subscribe(String pattern, String handler, String filter) {
        Subscription subscription =
                Subscription.newBuilder().setPattern(pattern).setHandler(handler).setFilter(filter).build();
        run.stage(effects -> effects.addSubscriptions(subscription));
    }

    /**
     * Stages the end of this instance's subscription.
     *
     * @param pattern as it was subscribed to
     */
    public void unsubscribe(String pattern) {
        run.stage(effects -> effects.addCancelledSubscriptions(pattern));
    }

    // --- what is done at once ----------------------------------------------------------------------------------------

    /**
     * Asks another agent, and waits for its value.
     *
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form
     * @return a ProcessingResult if it returned one; null: no value
     */
    public Object request(String agent, Object content) {
        return request(agent, content, Object.class, new MessageOptions());
    }

    /**
     * Asks another agent, and waits for its value.
     *
     * @param <T> what it answers
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form
     * @param type what it answers
     * @param options more to say
     * @return null: no value
     */
    public <T> T request(String agent, Object content, Class<T> type, MessageOptions options) {
        return Calls.await(requestAsync(agent, content, type, options));
    }

    /**
     * Asks another agent, and waits for its value.
     *
     * @param <T> what it answers
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form
     * @param type what it answers, with its parameters
     * @param options more to say
     * @return null: no value
     */
    public <T> T request(String agent, Object content, TypeReference<T> type, MessageOptions options) {
        return Calls.await(asked(agent, content, json.type(type.getType()), options));
    }

    /**
     * Asks another agent.
     *
     * @param <T> what it answers
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form
     * @param type what it answers
     * @param options more to say
     * @return done with its value; cancelling it cancels the handler that was asked
     */
    public <T> CompletableFuture<T> requestAsync(String agent, Object content, Class<T> type, MessageOptions options) {
        return asked(agent, content, json.type(type), options);
    }

    private <T> CompletableFuture<T> asked(String agent, Object content, JavaType type, MessageOptions options) {
        live("request");
        return bound(
                Calls.mapped(
                        run.calls().request(outgoing(agent, content, options), limits(options.timeoutMs)),
                        payload -> Calls.typed(Wire.reply(json, payload, type))));
    }

    /**
     * Asks a streaming handler. Nothing is sent before somebody subscribes; one may. Cancelling cancels the handler.
     *
     * @param <T> type of its chunks
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form
     * @param type of its chunks
     * @param options more to say
     * @return its chunks
     */
    public <T> Flow.Publisher<T> stream(String agent, Object content, Class<T> type, MessageOptions options) {
        live("stream");
        Flow.Publisher<Payload> payloads =
                run.calls().stream(outgoing(agent, content, options), limits(options.timeoutMs));
        return Calls.chunks(json, payloads, json.type(type));
    }

    /**
     * Sends at once, whether or not this invocation succeeds, and waits until the engine has it.
     *
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form
     * @param options more to say
     * @return what the engine says
     */
    public Receipt sendNow(String agent, Object content, MessageOptions options) {
        return Calls.await(sendNowAsync(agent, content, options));
    }

    /**
     * Sends at once, whether or not this invocation succeeds.
     *
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form
     * @param options more to say
     * @return done when the engine has it
     */
    public CompletableFuture<Receipt> sendNowAsync(String agent, Object content, MessageOptions options) {
        live("sendNow");
        return bound(
                Calls.mapped(
                        run.calls().send(outgoing(agent, content, options), limits(options.timeoutMs)),
                        accepted -> new Receipt(accepted.getMessageId(), accepted.getDuplicate())));
    }

    /**
     * Publishes at once, whether or not this invocation succeeds, and waits until the engine has it.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     * @param options more to say
     * @return what the engine says
     */
    public Publication publishNow(String topic, Object content, EventOptions options) {
        return Calls.await(publishNowAsync(topic, content, options));
    }

    /**
     * Publishes at once, whether or not this invocation succeeds.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     * @param options more to say
     * @return done when the engine has it
     */
    public CompletableFuture<Publication> publishNowAsync(String topic, Object content, EventOptions options) {
        live("publishNow");
        Event event = Wire.event(json, topic, content, options).setTraceparent(traceparent()).build();
        return bound(
                Calls.mapped(
                        run.calls().publish(event, limits(0)),
                        published -> new Publication(published.getEventId(), published.getSubscribers())));
    }

    /**
     * Sends to many at once, whether or not this invocation succeeds, and waits for what became of it.
     *
     * @param scope to whom
     * @param content anything with a JSON form
     * @param options more to say
     * @return what became of it at each
     */
    public Broadcast broadcast(Broadcast.Scope scope, Object content, MessageOptions options) {
        return Calls.await(broadcastAsync(scope, content, options));
    }

    /**
     * Sends to many at once, whether or not this invocation succeeds.
     *
     * @param scope to whom
     * @param content anything with a JSON form
     * @param options more to say
     * @return done with what became of it at each
     */
    public CompletableFuture<Broadcast> broadcastAsync(Broadcast.Scope scope, Object content, MessageOptions options) {
        live("broadcast");
        return bound(
                Calls.mapped(
                        run.calls().broadcast(scope.wire(), outgoing("", content, options), limits(options.timeoutMs)),
                        result -> Calls.outcome(json, result)));
    }

    /**
     * Events on topics that match, for a handler that waits for something. Unlike `subscribe` it ends with this
     * invocation, and what it reads is nobody else's. Waits until the subscription is in force.
     *
     * @param pattern such as `orders.*`
     * @param filter by attributes; empty: all
     * @return to be closed
     */
    public Events events(String pattern, String filter) {
        return Calls.await(eventsAsync(pattern, filter));
    }

    /**
     * Events on topics that match, as `events`.
     *
     * @param pattern such as `orders.*`
     * @param filter by attributes; empty: all
     * @return done when the subscription is in force; to be closed then
     */
    public CompletableFuture<Events> eventsAsync(String pattern, String filter) {
        live("events");
        Subscription subscription = Subscription.newBuilder().setPattern(pattern).setFilter(filter).build();
        EngineCalls.Options options = new EngineCalls.Options(0, run.invocationId());
        return bound(
                Calls.mapped(run.calls().subscribe(subscription, options), source -> new Events(json, source)));
    }

    /**
     * The memory of another instance, as it is committed.
     *
     * @param agent `name` or `name/key`
     * @return its memory
     */
    public RemoteMemory memoryOf(String agent) {
        return new RemoteMemory(
                json,
                AgentReference.parse(agent),
                operation -> {
                    live("memoryOf");
                    return bound(run.calls().memory(operation, limits(0)));
                });
    }

    private com.aimatrix.engine.v1.Message outgoing(String agent, Object content, MessageOptions options) {
        com.aimatrix.engine.v1.Message.Builder outgoing = Wire.message(json, agent, content, options);
        if (outgoing.getTraceparent().isEmpty()) {
            outgoing.setTraceparent(traceparent());
        }
        return outgoing.build();
    }

    /** A call of this handler: it is given up when the handler is asked to stop. */
    private <T> CompletableFuture<T> bound(CompletableFuture<T> call) {
        if (!call.isDone()) {
            run.onStop(
                    why -> {
                        if (!call.isDone()) {
                            call.cancel(true);
                        }
                    });
        }
        return call;
    }

    private EngineCalls.Options limits(long timeoutMs) {
        long shortest = timeoutMs == 0 ? Long.MAX_VALUE : timeoutMs;
        OptionalDouble left = run.remainingMs();
        if (left.isPresent()) {
            shortest = Math.min(shortest, Math.max(1, (long) left.getAsDouble()));
        }
        return new EngineCalls.Options(shortest == Long.MAX_VALUE ? 0 : shortest, run.invocationId());
    }

    private void live(String operation) {
        if (run.ended()) {
            throw new AmxException(
                    Code.FAILED_PRECONDITION,
                    "NO_CONTEXT",
                    "context." + operation + ": the handler " + run.agent() + "#" + run.handler()
                            + " has ended; wait for what it starts");
        }
    }
}
