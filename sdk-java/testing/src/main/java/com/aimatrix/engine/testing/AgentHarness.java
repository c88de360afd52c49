package com.aimatrix.engine.testing;

import com.aimatrix.engine.Agents;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.EventOptions;
import com.aimatrix.engine.Message;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.RemoteMemory;
import com.aimatrix.engine.core.Failures;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.v1.Accepted;
import com.aimatrix.engine.v1.Activate;
import com.aimatrix.engine.v1.Call;
import com.aimatrix.engine.v1.Complete;
import com.aimatrix.engine.v1.Credit;
import com.aimatrix.engine.v1.Deactivate;
import com.aimatrix.engine.v1.Deliver;
import com.aimatrix.engine.v1.Delivered;
import com.aimatrix.engine.v1.DeliveredTarget;
import com.aimatrix.engine.v1.Effects;
import com.aimatrix.engine.v1.Event;
import com.aimatrix.engine.v1.HandlerDefinition;
import com.aimatrix.engine.v1.InstanceRef;
import com.aimatrix.engine.v1.Invoke;
import com.aimatrix.engine.v1.LinkItem;
import com.aimatrix.engine.v1.MemoryChange;
import com.aimatrix.engine.v1.MemoryDefinition;
import com.aimatrix.engine.v1.MemoryEntry;
import com.aimatrix.engine.v1.MemoryKind;
import com.aimatrix.engine.v1.MemoryOperation;
import com.aimatrix.engine.v1.MemoryOperationResult;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.Published;
import com.aimatrix.engine.v1.Reply;
import com.aimatrix.engine.v1.ScheduleDefinition;
import com.aimatrix.engine.v1.Subscription;
import com.fasterxml.jackson.databind.JavaType;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * One agent at work without sockets and without an engine, with everything it does open to inspection.
 *
 * <pre>{@code
 * try (AgentHarness agent = AgentHarness.start(Greeter.class)) {
 *     assertEquals("Hello, Ada", agent.request("Ada"));
 *     assertEquals(List.of("Ada"), agent.memory().get("greeted"));
 * }
 * }</pre>
 *
 * It runs the agent as an engine would: one message at a time for each key, memory kept from one to the next, changes
 * of failed messages undone. Its clock stands still until `advance` moves it. There are no retries, routers or other
 * agents: see `replyTo`. Handlers run on threads of their own, which they may block. Safe for use by several threads.
 */
public final class AgentHarness implements AutoCloseable {
    private static final long TIMEOUT_MS = 30_000;
    private static final int MAX_STEPS = 100; // of one advance
    private static final int CLOSING_STEPS = 50;

    /** What another agent answers when this one asks it. */
    @FunctionalInterface
    public interface Answer {
        /**
         * The answer to one message.
         *
         * @param message what it is asked
         * @return anything with a JSON form; null: no value
         * @throws Exception to fail the request with it
         */
        Object to(Message message) throws Exception;
    }

    private final AgentSpec spec;
    private final String name;
    private final Json json;
    private final JavaType any;
    private final Failures failures;
    private final StillEnvironment environment = new StillEnvironment();
    private final EngineEnd end = new EngineEnd(environment, this::called);
    private final ExecutorService threads =
            Executors.newCachedThreadPool(
                    task -> {
                        Thread thread = new Thread(task, "amx-harness-handler");
                        thread.setDaemon(true);
                        return thread;
                    });
    private final AmxEngine engine;

    // The rest belongs to the environment's thread.
    private final Map<String, Instance> instances = new HashMap<>();
    private final Map<String, Answer> answers = new HashMap<>();
    private final List<Message> sent = new ArrayList<>();
    private final List<Message> published = new ArrayList<>();
    private final Map<String, ScheduleDefinition> timers = new LinkedHashMap<>();
    private final List<Subscription> subscriptions = new ArrayList<>();
    private long ids;
    private long epochs;

    private static final class Instance {
        long epoch;
        final KeptMemory memory;
        long held = -1; // version that the link has; -1: none
        boolean busy;
        final ArrayDeque<Runnable> waiting = new ArrayDeque<>();

        Instance(long epoch, KeptMemory memory) {
            this.epoch = epoch;
            this.memory = memory;
        }
    }

    private AgentHarness(AgentSpec spec, Json json, Map<String, ?> config) {
        this.spec = spec;
        this.name = spec.definition().getName();
        this.json = json;
        this.any = json.type(Object.class);
        this.failures = new Failures(value -> Payloads.encode(json, value), payload -> Payloads.decode(json, payload));
        this.engine =
                AmxEngine.builder()
                        .withJson(json)
                        .withAgent(spec)
                        .withConfig(config)
                        .withExecutor(threads)
                        .withConnector(end, environment)
                        .build();
    }

    /**
     * A harness at work.
     *
     * @param agent an annotated class, with a constructor without parameters
     * @return to be closed
     * @throws com.aimatrix.engine.errors.DefinitionException naming the culprit and the cure
     */
    public static AgentHarness start(Class<?> agent) {
        return start(Agents.of(agent));
    }

    /**
     * A harness at work.
     *
     * @param agent an object of an annotated class, each key gets a shallow copy; or an AgentSpec
     * @return to be closed
     * @throws com.aimatrix.engine.errors.DefinitionException naming the culprit and the cure
     */
    public static AgentHarness start(Object agent) {
        if (agent instanceof Class<?> type) {
            return start(type);
        }
        return start(agent instanceof AgentSpec spec ? spec : Agents.of(agent), Json.standard(), Map.of());
    }

    /**
     * A harness at work.
     *
     * @param agent compiled
     * @param json how values travel
     * @param config sections that contexts show
     * @return to be closed
     */
    public static AgentHarness start(AgentSpec agent, Json json, Map<String, ?> config) {
        AgentHarness harness = new AgentHarness(agent, json, config);
        try {
            harness.engine.start(Duration.ZERO);
        } catch (RuntimeException error) {
            harness.close();
            throw error;
        }
        return harness;
    }

    /**
     * Ends it: handlers that run are cancelled, capabilities that were built are closed. What was collected can still
     * be looked at.
     */
    @Override
    public void close() {
        CompletableFuture<Void> stopped = CompletableFuture.runAsync(() -> engine.stop(Duration.ZERO), threads);
        environment.jump(0);
        for (int step = 0; step < CLOSING_STEPS && !within(stopped, 20); step++) {
            environment.jump(500); // who does not stop is given up in time
        }
        environment.execute(end::end);
        environment.close();
        threads.shutdownNow();
    }

    private static boolean within(CompletableFuture<Void> what, long millis) {
        try {
            what.get(millis, TimeUnit.MILLISECONDS);
            return true;
        } catch (TimeoutException late) {
            return false;
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            return true;
        } catch (java.util.concurrent.ExecutionException error) {
            throw new IllegalStateException("the harness did not end well", error.getCause());
        }
    }

    // --- messages and events -----------------------------------------------------------------------------------------

    /**
     * Hands a message to the agent.
     *
     * @param content a Message, or anything with a JSON form
     * @return what the handler returned; null: no value
     * @throws AmxException if it fails
     */
    public Object request(Object content) {
        return run(content).value();
    }

    /**
     * Hands a message to the agent.
     *
     * @param <T> what the handler returns
     * @param content a Message, or anything with a JSON form
     * @param type what the handler returns
     * @param options key, handler, type, headers, timeout and so on
     * @return what the handler returned; null: no value
     * @throws AmxException if it fails
     */
    public <T> T request(Object content, Class<T> type, MessageOptions options) {
        return run(content, type, options).value();
    }

    /**
     * Hands a message to the agent.
     *
     * @param content a Message, or anything with a JSON form
     * @return what it led to
     * @throws AmxException if the handler fails
     */
    public Outcome<Object> run(Object content) {
        return run(content, Object.class, new MessageOptions());
    }

    /**
     * Hands a message to the agent. Without a handler it is chosen as the engine would, by type or default.
     *
     * @param <T> what the handler returns
     * @param content a Message, or anything with a JSON form
     * @param type what the handler returns
     * @param options key, handler, type, headers, timeout and so on; delay and ttl are not looked at
     * @return what it led to
     * @throws AmxException if the handler fails
     */
    public <T> Outcome<T> run(Object content, Class<T> type, MessageOptions options) {
        return Results.await(runAsync(content, type, options, 1));
    }

    /**
     * Hands a message to the agent, as one of several attempts.
     *
     * @param <T> what the handler returns
     * @param content a Message, or anything with a JSON form
     * @param type what the handler returns
     * @param options as for `run`
     * @param attempt 1 for the first
     * @return done with what it led to; fails with AmxException if the handler fails. Cancelling it cancels the handler
     */
    public <T> CompletableFuture<Outcome<T>> runAsync(
            Object content, Class<T> type, MessageOptions options, int attempt) {
        com.aimatrix.engine.v1.Message message = Agents.message(json, name, content, options);
        return invoke(message, Agents.timeoutMs(options), attempt, json.type(type), null);
    }

    /**
     * Hands a message to a streaming handler. The handler waits for a slow reader.
     *
     * @param <T> type of the chunks
     * @param content a Message, or anything with a JSON form
     * @param type of the chunks
     * @param options as for `run`
     * @return its chunks, as they come; reading them throws AmxException if the handler fails. To be closed, which
     *     cancels the handler if it is not at its end
     */
    public <T> Stream<T> stream(Object content, Class<T> type, MessageOptions options) {
        com.aimatrix.engine.v1.Message message = Agents.message(json, name, content, options);
        Chunks chunks = new Chunks();
        CompletableFuture<Outcome<Object>> running =
                this.<Object>invoke(message, Agents.timeoutMs(options), 1, any, chunks::add);
        running.whenComplete((outcome, error) -> chunks.end(running));
        JavaType wanted = json.type(type);
        return StreamSupport.stream(Spliterators.spliteratorUnknownSize(chunks, Spliterator.ORDERED), false)
                .map(chunk -> AgentHarness.<T>typed(Agents.reply(json, chunk, wanted)))
                .onClose(() -> running.cancel(true));
    }

    /** Chunks on their way from the environment's thread to the test's. */
    private final class Chunks implements Iterator<Payload> {
        private final LinkedBlockingQueue<Supplier<Payload>> queue = new LinkedBlockingQueue<>();
        private Payload next; // null: not taken yet, or at the end
        private boolean over;

        void add(long id, Payload payload) {
            queue.add(
                    () -> {
                        Credit more = Credit.newBuilder().setChunks(1).build();
                        environment.execute(() -> end.say(LinkItem.newBuilder().setId(id).setCredit(more).build()));
                        return payload;
                    });
        }

        void end(CompletableFuture<?> running) {
            queue.add(
                    () -> {
                        over = true;
                        Results.await(running);
                        return null;
                    });
        }

        @Override
        public boolean hasNext() {
            if (next == null && !over) {
                try {
                    next = queue.take().get();
                } catch (InterruptedException error) {
                    Thread.currentThread().interrupt();
                    throw new AmxException(
                            Code.CANCELLED, "CANCELLED", "the test was interrupted while it read a stream");
                }
            }
            return next != null;
        }

        @Override
        public Payload next() {
            if (!hasNext()) {
                throw new NoSuchElementException();
            }
            Payload given = next;
            next = null;
            return given;
        }
    }

    private interface ChunkReader {
        void take(long id, Payload payload);
    }

    /**
     * Hands an event to the handlers that subscribed to its topic.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     * @return what it led to at each
     * @throws AmxException if one of them fails; NO_SUBSCRIBER if there is none
     */
    public List<Outcome<Object>> deliver(String topic, Object content) {
        return deliver(topic, content, new EventOptions(), "");
    }

    /**
     * Hands an event to a handler, or to those that subscribed to its topic. Filters of subscriptions are the engine's
     * business, and not looked at.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     * @param options attributes, key and so on
     * @param handler its name; empty: those that subscribed
     * @return what it led to at each
     * @throws AmxException if one of them fails; NO_SUBSCRIBER if there is none
     */
    public List<Outcome<Object>> deliver(String topic, Object content, EventOptions options, String handler) {
        Event event = Agents.event(json, topic, content, options);
        Set<String> names = handler.isEmpty() ? environment.ask(() -> subscribed(topic)) : Set.of(handler);
        if (names.isEmpty()) {
            throw new AmxException(
                    Code.NOT_FOUND,
                    "NO_SUBSCRIBER",
                    "no handler of '" + name + "' subscribes to a pattern for '" + topic + "'");
        }
        List<Outcome<Object>> outcomes = new ArrayList<>();
        for (String one : names) {
            outcomes.add(Results.await(this.<Outcome<Object>>inTurn(
                    keyOf(event.getKey()), (instance, result) -> deliver(event, one, instance, result))));
        }
        return outcomes;
    }

    private void deliver(Event event, String handler, Instance instance, CompletableFuture<Outcome<Object>> result) {
        String key = keyOf(event.getKey());
        if (instance.held != instance.memory.version()) {
            Activate activate =
                    Activate.newBuilder()
                            .setInstance(InstanceRef.newBuilder().setAgent(name).setKey(key))
                            .setEpoch(instance.epoch)
                            .setMemoryVersion(instance.memory.version())
                            .setMemory(instance.memory.image())
                            .build();
            end.say(LinkItem.newBuilder().setActivate(activate).build());
            instance.held = instance.memory.version();
        }
        Deliver deliver =
                Deliver.newBuilder()
                        .setEvent(event)
                        .setAgent(name)
                        .setHandler(handler)
                        .addEpochs(instance.epoch)
                        .build();
        end.deliver(LinkItem.newBuilder().setId(++ids).setDeliver(deliver).build())
                .whenComplete(
                        (delivered, error) -> {
                            if (error == null) {
                                delivered(key, instance, delivered, result);
                            } else {
                                result.completeExceptionally(error);
                            }
                        });
    }

    private void delivered(
            String key, Instance instance, Delivered delivered, CompletableFuture<Outcome<Object>> result) {
        DeliveredTarget target =
                delivered.getTargetsCount() == 0 ? DeliveredTarget.getDefaultInstance() : delivered.getTargets(0);
        if (target.getMemoryDropped()) {
            instance.held = -1;
        }
        if (target.hasFailure()) {
            result.completeExceptionally(failures.exception(target.getFailure()));
        } else {
            result.complete(commit(key, instance, target.getEffects()));
        }
    }

    private Set<String> subscribed(String topic) {
        Set<String> names = new LinkedHashSet<>();
        for (HandlerDefinition handler : spec.definition().getHandlersList()) {
            if (handler.getSubscriptionsList().stream().anyMatch(one -> Topics.matches(one.getPattern(), topic))) {
                names.add(handler.getName());
            }
        }
        subscriptions.stream()
                .filter(one -> Topics.matches(one.getPattern(), topic))
                .forEach(one -> names.add(one.getHandler()));
        return names;
    }

    /**
     * Runs a schedule of the agent, or a timer that one of its handlers set, now, at the key `default`.
     *
     * @param schedule its name
     * @return what it led to
     * @throws AmxException if the handler fails; SCHEDULE_UNKNOWN if there is no such schedule
     */
    public Outcome<Object> fire(String schedule) {
        return fire(schedule, "default");
    }

    /**
     * Runs a schedule of the agent, or a timer that one of its handlers set, now.
     *
     * @param schedule its name
     * @param key of the instance that runs it
     * @return what it led to
     * @throws AmxException if the handler fails; SCHEDULE_UNKNOWN if there is no such schedule
     */
    public Outcome<Object> fire(String schedule, String key) {
        ScheduleDefinition found = environment.ask(() -> taken(schedule, key));
        com.aimatrix.engine.v1.Message.Builder message =
                com.aimatrix.engine.v1.Message.newBuilder().setAgent(name).setKey(key).setHandler(found.getHandler());
        if (found.hasPayload()) {
            message.setPayload(found.getPayload());
        }
        return Results.await(this.<Object>invoke(message.build(), 0, 1, any, null));
    }

    private ScheduleDefinition taken(String schedule, String key) {
        List<ScheduleDefinition> own = spec.definition().getSchedulesList();
        ScheduleDefinition found = timers.get(key + "/" + schedule);
        for (ScheduleDefinition one : own) {
            if (found == null && one.getName().equals(schedule)) {
                found = one;
            }
        }
        if (found == null) {
            Set<String> known = new TreeSet<>();
            own.forEach(one -> known.add(one.getName()));
            timers.values().forEach(one -> known.add(one.getName()));
            throw new AmxException(
                    Code.NOT_FOUND,
                    "SCHEDULE_UNKNOWN",
                    "there is no schedule '" + schedule + "' at the key '" + key + "'; there are: "
                            + (known.isEmpty() ? "none" : String.join(", ", known)));
        }
        if (found.getTimingCase() == ScheduleDefinition.TimingCase.ONCE_AFTER_MS) {
            timers.remove(key + "/" + schedule);
        }
        return found;
    }

    // --- what surrounds the agent ------------------------------------------------------------------------------------

    /**
     * What another agent answers when this one asks it.
     *
     * @param agent its name
     * @param value anything with a JSON form
     */
    public void replyTo(String agent, Object value) {
        replyTo(agent, "", message -> value);
    }

    /**
     * What another agent answers when this one asks it.
     *
     * @param agent its name
     * @param answer called for each message, on a thread that it may block; what it throws fails the request
     */
    public void replyTo(String agent, Answer answer) {
        replyTo(agent, "", answer);
    }

    /**
     * What a handler of another agent answers when this one asks it.
     *
     * @param agent its name
     * @param handler that the message names; empty: any for which nothing else is said
     * @param answer called for each message, on a thread that it may block; what it throws fails the request
     */
    public void replyTo(String agent, String handler, Answer answer) {
        environment.execute(() -> answers.put(agent + "#" + handler, answer));
    }

    /**
     * What the instance `default` remembers.
     *
     * @return by name; may be written to
     */
    public RemoteMemory memory() {
        return memory("default");
    }

    /**
     * What an instance remembers.
     *
     * @param key of the instance
     * @return by name; may be written to
     */
    public RemoteMemory memory(String key) {
        return engine.memory(name + "/" + key);
    }

    /**
     * Messages of all handlers so far, staged or sent at once.
     *
     * @return in order
     */
    public List<Message> sent() {
        return environment.ask(() -> List.copyOf(sent));
    }

    /**
     * Events of all handlers so far, staged or published at once.
     *
     * @return in order
     */
    public List<Message> published() {
        return environment.ask(() -> List.copyOf(published));
    }

    /**
     * Schedules and timers that handlers have set and that are still there.
     *
     * @return by `key/name`
     */
    public Map<String, ScheduleDefinition> timers() {
        return environment.ask(() -> Map.copyOf(timers));
    }

    /**
     * Subscriptions that handlers have made and that are still there.
     *
     * @return in order
     */
    public List<Subscription> subscriptions() {
        return environment.ask(() -> List.copyOf(subscriptions));
    }

    /**
     * Forgets the object, not the memory, as the engine does with idle instances. Waits for its turn.
     *
     * @param key of the instance
     */
    public void hibernate(String key) {
        Results.await(this.<Void>inTurn(
                key,
                (instance, result) -> {
                    Deactivate ended = Deactivate.newBuilder().addEpochs(instance.epoch).build();
                    end.say(LinkItem.newBuilder().setDeactivate(ended).build());
                    instance.epoch = ++epochs;
                    instance.held = -1;
                    result.complete(null);
                }));
    }

    /**
     * Moves the clock that deadlines and memory expire by. Schedules do not run by themselves here: see `fire`.
     *
     * @param duration not negative
     */
    public void advance(Duration duration) {
        double total = duration.toNanos() / 1e6;
        if (total < 0) {
            throw new IllegalArgumentException("time moves forward only, not by " + duration);
        }
        double step = Math.max(1000, total / MAX_STEPS);
        for (double moved = 0; moved < total; moved += step) {
            environment.jump(Math.min(step, total - moved));
        }
    }

    // --- inside: all on the environment's thread but for the first of each -------------------------------------------

    private interface Work<T> {
        void begin(Instance instance, CompletableFuture<T> result);
    }

    private <T> CompletableFuture<T> inTurn(String key, Work<T> work) {
        CompletableFuture<T> result = new CompletableFuture<>();
        environment.execute(
                () -> {
                    Instance instance =
                            instances.computeIfAbsent(
                                    key, one -> new Instance(++epochs, new KeptMemory(environment::now)));
                    Runnable turn = () -> turn(instance, work, result);
                    if (instance.busy) {
                        instance.waiting.add(turn);
                    } else {
                        turn.run();
                    }
                });
        return result;
    }

    private <T> void turn(Instance instance, Work<T> work, CompletableFuture<T> result) {
        instance.busy = true;
        CompletableFuture<T> done = new CompletableFuture<>();
        done.whenComplete(
                (value, error) -> {
                    instance.busy = false;
                    Runnable next = instance.waiting.poll();
                    if (next != null) {
                        next.run();
                    }
                    if (error == null) {
                        result.complete(value);
                    } else {
                        result.completeExceptionally(error);
                    }
                });
        if (result.isDone()) {
            done.cancel(false); // it was given up before its turn
            return;
        }
        try {
            work.begin(instance, done);
        } catch (RuntimeException error) {
            done.completeExceptionally(error);
        }
    }

    private <T> CompletableFuture<Outcome<T>> invoke(
            com.aimatrix.engine.v1.Message message,
            long timeoutMs,
            int attempt,
            JavaType type,
            ChunkReader reader) {
        String key = keyOf(message.getKey());
        long[] id = new long[1]; // 0: its turn has not come
        CompletableFuture<Outcome<T>> result =
                inTurn(
                        key,
                        (instance, done) -> {
                            Invoke.Builder invoke =
                                    Invoke.newBuilder()
                                            .setMessage(message)
                                            .setAttempt(attempt)
                                            .setEpoch(instance.epoch)
                                            .setTimeoutMs(timeoutMs == 0 ? TIMEOUT_MS : timeoutMs)
                                            .setMemoryVersion(instance.memory.version())
                                            .setStreaming(reader != null);
                            if (instance.held != instance.memory.version()) {
                                invoke.setMemory(instance.memory.image());
                                instance.held = instance.memory.version();
                            }
                            long mine = id[0] = ++ids;
                            LinkItem item = LinkItem.newBuilder().setId(mine).setInvoke(invoke).build();
                            Consumer<Payload> chunks =
                                    reader == null ? null : payload -> reader.take(mine, payload);
                            end.invoke(item, chunks)
                                    .whenComplete(
                                            (complete, error) -> {
                                                if (error == null) {
                                                    completed(key, instance, complete, type, done);
                                                } else {
                                                    done.completeExceptionally(error);
                                                }
                                            });
                        });
        result.whenComplete(
                (outcome, error) -> {
                    if (result.isCancelled()) {
                        environment.execute(() -> end.cancel(id[0], "the test gave it up"));
                    }
                });
        return result;
    }

    private <T> void completed(
            String key, Instance instance, Complete complete, JavaType type, CompletableFuture<Outcome<T>> done) {
        if (complete.getMemoryDropped()) {
            instance.held = -1;
        }
        if (complete.hasFailure()) {
            done.completeExceptionally(failures.exception(complete.getFailure()));
            return;
        }
        Outcome<Object> outcome = commit(key, instance, complete.getEffects());
        try {
            T value = typed(Agents.reply(json, complete.getResult(), type));
            done.complete(
                    new Outcome<>(
                            value, outcome.sent(), outcome.published(), outcome.schedules(), outcome.memoryChanged()));
        } catch (RuntimeException misfit) {
            done.completeExceptionally(misfit);
        }
    }

    /** Takes over what a handler did. The outcome has no value. */
    private Outcome<Object> commit(String key, Instance instance, Effects effects) {
        boolean known = instance.held == instance.memory.version(); // else somebody wrote to it from outside
        boolean changed = instance.memory.apply(effects.getMemoryList());
        if (changed && known) {
            instance.held = instance.memory.version();
        }
        List<Message> messages = effects.getMessagesList().stream().map(one -> Message.received(json, one)).toList();
        List<Message> events = effects.getEventsList().stream().map(this::eventMessage).toList();
        sent.addAll(messages);
        published.addAll(events);
        effects.getSchedulesList().forEach(one -> timers.put(key + "/" + one.getName(), one));
        effects.getCancelledSchedulesList().forEach(one -> timers.remove(key + "/" + one));
        subscriptions.addAll(effects.getSubscriptionsList());
        subscriptions.removeIf(one -> effects.getCancelledSubscriptionsList().contains(one.getPattern()));
        return new Outcome<>(null, messages, events, effects.getSchedulesList(), changed);
    }

    /** An event as the message that a subscriber gets. */
    private Message eventMessage(Event event) {
        com.aimatrix.engine.v1.Message.Builder message =
                com.aimatrix.engine.v1.Message.newBuilder()
                        .setKey(event.getKey())
                        .setTopic(event.getTopic())
                        .putAllHeaders(event.getAttributesMap())
                        .setMessageId(event.getEventId())
                        .setPriority(event.getPriority())
                        .setDurability(event.getDurability())
                        .setSender(event.getPublisher())
                        .setTraceparent(event.getTraceparent());
        if (event.hasPayload()) {
            message.setPayload(event.getPayload());
        }
        return Message.received(json, message.build());
    }

    /** Answers what the agent asks of its engine while it runs. */
    private void called(Call call, Consumer<Reply> say) {
        try {
            switch (call.getOperationCase()) {
                case SEND -> {
                    sent.add(Message.received(json, call.getSend()));
                    String id = call.getSend().getMessageId();
                    say.accept(
                            Reply.newBuilder()
                                    .setAccepted(Accepted.newBuilder().setMessageId(id.isEmpty() ? newId() : id))
                                    .build());
                }
                case PUBLISH -> {
                    published.add(eventMessage(call.getPublish()));
                    String id = call.getPublish().getEventId();
                    say.accept(
                            Reply.newBuilder()
                                    .setPublished(Published.newBuilder().setEventId(id.isEmpty() ? newId() : id))
                                    .build());
                }
                case REQUEST -> answer(call.getRequest(), say);
                case STREAM -> answer(call.getStream(), say);
                case MEMORY -> say.accept(Reply.newBuilder().setMemory(operated(call.getMemory())).build());
                default ->
                        throw new AmxException(
                                Code.UNIMPLEMENTED,
                                "UNSUPPORTED_ITEM",
                                "the harness has no answer to " + call.getOperationCase()
                                        + "; test this agent with an engine: EmbeddedEngine.start()");
            }
        } catch (RuntimeException error) {
            say.accept(failed(error));
        }
    }

    private String newId() {
        return "harness-" + ++ids;
    }

    private Reply failed(Throwable error) {
        String source = error instanceof AmxException known ? known.source() : "";
        return Reply.newBuilder().setFailure(failures.of(error, source.isEmpty() ? "harness" : source)).build();
    }

    private void answer(com.aimatrix.engine.v1.Message message, Consumer<Reply> say) {
        String agent = message.getAgent();
        Answer answer = answers.getOrDefault(agent + "#" + message.getHandler(), answers.get(agent + "#"));
        if (answer == null) {
            throw new AmxException(
                    Code.NOT_FOUND,
                    "AGENT_UNKNOWN",
                    "the agent asks '" + agent + "', which is not here; say what it answers: replyTo(\"" + agent
                            + "\", …)");
        }
        threads.execute(
                () -> {
                    Reply reply;
                    try {
                        Object value = answer.to(Message.received(json, message));
                        reply = Reply.newBuilder().setResult(Payloads.encode(json, value)).build();
                    } catch (Exception | AssertionError error) {
                        reply = failed(error);
                    }
                    say.accept(reply);
                });
    }

    private MemoryOperationResult operated(MemoryOperation operation) {
        if (!operation.getInstance().getAgent().equals(name)) {
            throw new AmxException(
                    Code.NOT_FOUND,
                    "AGENT_UNKNOWN",
                    "the memory of '" + operation.getInstance().getAgent() + "' is not here; this harness runs '" + name
                            + "'");
        }
        MemoryKind kind = null;
        for (MemoryDefinition one : spec.definition().getMemoriesList()) {
            if (one.getName().equals(operation.getName())) {
                kind = one.getKind();
            }
        }
        if (kind == null) {
            throw new AmxException(
                    Code.NOT_FOUND, "MEMORY_UNKNOWN", "'" + name + "' has no memory '" + operation.getName() + "'");
        }
        Instance instance =
                instances.computeIfAbsent(
                        keyOf(operation.getInstance().getKey()),
                        one -> new Instance(++epochs, new KeptMemory(environment::now)));
        KeptMemory memory = instance.memory;
        List<MemoryEntry> entries = memory.entries(operation.getName());
        MemoryOperationResult.Builder result = MemoryOperationResult.newBuilder().setKind(kind);
        MemoryChange.Builder change = MemoryChange.newBuilder().setName(operation.getName());
        switch (operation.getOperationCase()) {
            case GET -> {
                List<MemoryEntry> found =
                        entries.stream().filter(one -> one.getId().equals(operation.getGet())).toList();
                result.addAllEntries(found).setFound(!found.isEmpty());
            }
            case LIST ->
                    result.addAllEntries(
                            entries.stream().filter(one -> one.getId().startsWith(operation.getList())).toList());
            case PUT -> memory.apply(List.of(change.setPut(operation.getPut()).build()));
            case REMOVE -> {
                boolean there = entries.stream().anyMatch(one -> one.getId().equals(operation.getRemove()));
                if (there) {
                    memory.apply(List.of(change.setRemove(operation.getRemove()).build()));
                }
                result.setFound(there);
            }
            default -> {}
        }
        return result.setVersion(memory.version()).build();
    }

    private static String keyOf(String key) {
        return key.isEmpty() ? "default" : key;
    }

    @SuppressWarnings("unchecked")
    private static <T> T typed(Object value) {
        return (T) value;
    }
}
