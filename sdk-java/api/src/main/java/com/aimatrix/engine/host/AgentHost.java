package com.aimatrix.engine.host;

import com.aimatrix.engine.core.Deadlines;
import com.aimatrix.engine.core.Environment;
import com.aimatrix.engine.core.Failures;
import com.aimatrix.engine.core.Host;
import com.aimatrix.engine.core.LinkProtocol;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.spec.AgentInstance;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.EngineCalls;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.spec.InstanceMemory;
import com.aimatrix.engine.v1.Activate;
import com.aimatrix.engine.v1.AgentDefinition;
import com.aimatrix.engine.v1.Complete;
import com.aimatrix.engine.v1.Deliver;
import com.aimatrix.engine.v1.Delivered;
import com.aimatrix.engine.v1.DeliveredTarget;
import com.aimatrix.engine.v1.Effects;
import com.aimatrix.engine.v1.Failure;
import com.aimatrix.engine.v1.HandlerDefinition;
import com.aimatrix.engine.v1.Invoke;
import com.aimatrix.engine.v1.LinkItem;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Executor;
import java.util.concurrent.Future;

/**
 * Runs handlers: takes invocations and deliveries from the link, answers with what became of them. Turns are taken on
 * the link's thread; objects are made, messages decoded, handlers run and results encoded on the executor's, which
 * handlers may block.
 */
public final class AgentHost implements Host {
    // The engine enforces deadlines; if its Cancel does not come, the handler is stopped here.
    private static final double GRACE_MS = 150;
    /** How long a handler that was asked to stop may take to do so. After that it keeps the object it has. */
    private static final double STOP_MS = 1000;

    private final Map<String, AgentSpec> agents;
    private final Map<String, Object> config;
    private final Environment environment;
    private final Deadlines deadlines;
    private final Executor executor;
    private final Failures failures;
    private final int concurrency;
    private LinkProtocol protocol;
    private EngineCalls calls;

    private Map<Long, Activation> activations = new HashMap<>();
    private Map<Long, Object> jobs = new LinkedHashMap<>(); // Invocation or Delivery
    private final ArrayDeque<Delivery> held = new ArrayDeque<>(); // they wait for running targets to end
    private int delivering; // running targets
    private List<CompletableFuture<Void>> empty = new ArrayList<>();

    /**
     * Agents that are not at work yet.
     *
     * @param agents by name; may change, on the link's thread
     * @param config given to contexts
     * @param environment clock, thread, log
     * @param deadlines of handlers
     * @param executor runs handlers
     * @param failures exceptions as they travel
     * @param concurrency invocations and deliveries at a time, as granted to the engine
     */
    public AgentHost(
            Map<String, AgentSpec> agents,
            Map<String, Object> config,
            Environment environment,
            Deadlines deadlines,
            Executor executor,
            Failures failures,
            int concurrency) {
        this.agents = agents;
        this.config = config;
        this.environment = environment;
        this.deadlines = deadlines;
        this.executor = executor;
        this.failures = failures;
        this.concurrency = concurrency;
    }

    /**
     * Set by the owner before anything arrives.
     *
     * @param linkProtocol answers go there
     * @param engineCalls what handlers may ask of the engine
     */
    public void attach(LinkProtocol linkProtocol, EngineCalls engineCalls) {
        this.protocol = linkProtocol;
        this.calls = engineCalls;
    }

    double now() {
        return environment.now();
    }

    EngineCalls calls() {
        return calls;
    }

    Map<String, Object> config() {
        return config;
    }

    Executor executor() {
        return executor;
    }

    LinkProtocol protocol() {
        return protocol;
    }

    Environment environment() {
        return environment;
    }

    // --- what the link asks for --------------------------------------------------------------------------------------

    @Override
    public void invoke(long id, Invoke invoke) {
        Message message = invoke.getMessage();
        Activation activation = activations.get(invoke.getEpoch());
        if (activation == null) {
            AgentSpec agent = agents.get(message.getAgent());
            if (agent == null) {
                sayFailure(id, invoke, Failures.plain(agentUnknown(message.getAgent())), false, 0);
                return;
            }
            activation = new Activation(agent, keyOf(message.getKey()), invoke.getEpoch(), environment::now);
            activations.put(invoke.getEpoch(), activation);
        }
        Invocation run = new Invocation(this, id, activation, invoke);
        jobs.put(id, run);
        beginInvocation(run);
    }

    @Override
    public void deliver(long id, Deliver deliver) {
        AgentSpec agent = agents.get(deliver.getAgent());
        HandlerSpec handler = agent == null ? null : agent.handlers().get(deliver.getHandler());
        if (handler == null) {
            AmxException error =
                    agent == null ? agentUnknown(deliver.getAgent()) : handlerUnknown(agent, deliver.getHandler());
            Failure failure = Failures.plain(error);
            Delivered.Builder delivered = Delivered.newBuilder();
            for (int index = 0; index < deliver.getEpochsCount(); index++) {
                delivered.addTargets(DeliveredTarget.newBuilder().setIndex(index).setFailure(failure));
            }
            protocol.say(LinkItem.newBuilder().setId(id).setDelivered(delivered).build());
            return;
        }
        Delivery delivery = new Delivery(this, id, deliver, handler);
        jobs.put(id, delivery);
        if (delivery.remaining > 0) {
            pump(delivery);
        } else {
            sayDelivered(delivery);
        }
    }

    @Override
    public void activate(Activate activate) {
        Activation activation = activations.get(activate.getEpoch());
        if (activation == null) {
            AgentSpec agent = agents.get(activate.getInstance().getAgent());
            if (agent == null) {
                environment.log(
                        Environment.Level.WARN,
                        "the engine activated " + activate.getInstance().getAgent() + ", which is not hosted here",
                        null);
                return;
            }
            String key = keyOf(activate.getInstance().getKey());
            activation = new Activation(agent, key, activate.getEpoch(), environment::now);
            activations.put(activate.getEpoch(), activation);
        }
        activation.hold(activate.getMemory().getMemoriesList(), activate.getMemoryVersion());
    }

    @Override
    public void deactivate(List<Long> epochs) {
        activations.keySet().removeAll(epochs);
    }

    @Override
    public void cancel(long id, String reason) {
        stop(
                jobs.get(id),
                new AmxException(
                        Code.CANCELLED, "CANCELLED", "cancelled: " + (reason.isEmpty() ? "no reason given" : reason)));
    }

    private static void stop(Object job, AmxException why) {
        if (job instanceof Invocation run) {
            run.stop(why);
        } else if (job instanceof Delivery delivery) {
            delivery.stop(why);
        }
    }

    @Override
    public void grantChunks(long id, int chunks) {
        if (jobs.get(id) instanceof Invocation run) {
            run.window += chunks;
            if (run.reader != null) {
                run.reader.run();
            }
        }
    }

    @Override
    public void abandon() {
        Map<Long, Object> left = jobs;
        jobs = new LinkedHashMap<>();
        held.clear();
        activations = new HashMap<>();
        AmxException why = new AmxException(Code.CANCELLED, "CANCELLED", "the session with the engine was lost");
        for (Object job : left.values()) {
            if (job instanceof Invocation run) {
                run.discarded = true;
            } else if (job instanceof Delivery delivery) {
                delivery.discarded = true;
                for (Target target : delivery.running) {
                    target.discarded = true;
                }
            }
            stop(job, why);
        }
        reportEmpty();
    }

    // --- what the owner asks for -------------------------------------------------------------------------------------

    /**
     * Invocations and deliveries that have not ended.
     *
     * @return how many
     */
    public int slotsInUse() {
        return jobs.size();
    }

    /**
     * Waits for the end of what runs.
     *
     * @return done, on the link's thread, when no invocation or delivery is left
     */
    public CompletableFuture<Void> whenEmpty() {
        CompletableFuture<Void> done = new CompletableFuture<>();
        empty.add(done);
        reportEmpty();
        return done;
    }

    // --- running -----------------------------------------------------------------------------------------------------

    private void beginInvocation(Invocation run) {
        run.started = System.nanoTime();
        Activation activation = run.activation;
        try {
            Message message = run.message();
            HandlerSpec handler = activation.agent.handlers().get(message.getHandler());
            if (handler == null) {
                handler = choose(activation.agent, message.getHandler(), message.getType());
            }
            run.spec = handler;
            if (activation.busy && !handler.concurrent()) {
                activation.waiting.add(run);
                return;
            }
            if (run.stopped() != null) {
                throw run.stopped();
            }
            if (run.deadline > 0 && now() > run.deadline) {
                throw new AmxException.Facts(
                                Code.DEADLINE_EXCEEDED,
                                "DEADLINE_EXCEEDED",
                                run.source() + " was not reached in time")
                        .retryable(true)
                        .exception();
            }
            Invoke invoke = run.invoke;
            if (invoke.hasMemory() && !activation.busy) {
                activation.hold(invoke.getMemory().getMemoriesList(), invoke.getMemoryVersion());
            }
        } catch (AmxException error) {
            outcomeFailed(run, error);
            return;
        }
        start(run);
    }

    /** Its turn has come. */
    private void start(Run run) {
        run.running = true;
        if (!run.spec.concurrent()) {
            run.activation.busy = true;
        }
        if (run.deadline > 0) {
            run.bucket = deadlines.add(run, Math.max(0, run.deadline - now()) + GRACE_MS);
        }
        if (run instanceof Target target) {
            delivering++;
            target.delivery.running.add(target);
        }
        onThread(run, () -> work(run));
    }

    /** Goes on with it on a thread of the executor; it fails if there is none to be had. */
    void onThread(Run run, Runnable what) {
        try {
            executor.execute(what);
        } catch (RuntimeException | Error refused) {
            failed(run, refused);
        }
    }

    /** On a thread of the executor: everything from the object to the result. */
    private void work(Run run) {
        HandlerSpec handler = run.spec;
        Object value;
        synchronized (run) {
            run.thread = Thread.currentThread();
        }
        try {
            if (run.stopped() != null) {
                throw run.stopped();
            }
            AgentInstance instance = prepare(run);
            run.instance = instance;
            Object input = run instanceof Target target ? target.delivery.input() : handler.decode(run.message());
            value = handler.call(instance, input, run);
        } catch (Throwable error) {
            leaveThread(run);
            failed(run, error);
            return;
        }
        leaveThread(run);
        if (handler.streaming()) {
            new ChunkStream(this, run, handler).start(value);
        } else if (value instanceof CompletionStage<?> stage) {
            if (value instanceof Future<?> future) {
                run.onStop(why -> future.cancel(true));
            }
            stage.whenComplete(
                    (result, error) -> {
                        if (error != null) {
                            failed(run, unwrapped(error));
                        } else {
                            onThread(run, () -> returned(run, result));
                        }
                    });
        } else {
            returned(run, value);
        }
    }

    /** No interrupt of this run reaches what the thread does next. */
    private static void leaveThread(Run run) {
        synchronized (run) {
            run.thread = null;
        }
        Thread.interrupted();
    }

    private static AgentInstance prepare(Run run) {
        Activation activation = run.activation;
        if (run.spec.concurrent()) {
            return activation.join();
        }
        return activation.prepare(
                run instanceof Invocation invocation ? invocation.invoke.getMemoryVersion() : Activation.ANY_VERSION);
    }

    /** The handler has returned; on a thread of the executor. */
    void returned(Run run, Object value) {
        Payload payload;
        try {
            payload = run instanceof Target ? Payload.getDefaultInstance() : run.spec.encode(value);
        } catch (Throwable error) {
            failed(run, error);
            return;
        }
        succeeded(run, payload);
    }

    /** The handler has ended with this; on any thread. */
    void succeeded(Run run, Payload payload) {
        environment.execute(() -> settle(run, payload, null));
    }

    /** The handler has failed with this; on any thread. */
    void failed(Run run, Throwable error) {
        environment.execute(() -> settle(run, null, error));
    }

    private void settle(Run run, Payload payload, Throwable error) {
        if (run.ended()) {
            return; // it was given up before
        }
        finish(run);
        if (error != null || run.discarded || run.stopped() != null) {
            outcomeFailed(run, run.stopped() != null ? run.stopped() : error);
            return;
        }
        boolean collected = false;
        try {
            Effects effects = effectsOf(run);
            collected = effects != null && effects.getMemoryCount() > 0;
            if (run instanceof Target target) {
                reportEffects(target, effects);
            } else {
                sayResult((Invocation) run, payload, effects);
            }
            if (collected) {
                run.activation.committed();
            }
        } catch (RuntimeException failure) {
            if (collected) {
                run.activation.drop(); // the changes are gone from here, and not at the engine either
            }
            outcomeFailed(run, failure);
            return;
        }
        settled(run);
    }

    /** It was asked to stop, and has some time to do so. */
    void stopping(Run run) {
        if (run.bucket != null) {
            run.bucket.discard(run);
        }
        run.bucket = deadlines.add(run, STOP_MS);
    }

    /** It did not stop in that time: it keeps the object it has, and its instance gets a new one. */
    void giveUp(Run run) {
        if (run.ended()) {
            return;
        }
        if (!run.discarded) {
            environment.log(
                    Environment.Level.WARN,
                    run.source() + " was asked to stop and goes on; its outcome is dropped: let it watch its context, or"
                            + " take interrupts",
                    null);
        }
        if (!run.spec.concurrent()) {
            run.activation.abandon();
        }
        finish(run);
        outcomeFailed(run, run.stopped());
    }

    /** It has ended, one way or the other: its instance is free. */
    private void finish(Run run) {
        run.end();
        if (run.bucket != null) {
            run.bucket.discard(run);
        }
        if (!run.running) {
            return;
        }
        run.running = false;
        if (!run.spec.concurrent()) {
            run.activation.busy = false;
        }
        if (run instanceof Target target) {
            delivering--;
            target.delivery.running.remove(target);
            Delivery next = held.poll();
            if (next != null) {
                environment.execute(() -> pump(next));
            }
        }
    }

    private void outcomeFailed(Run run, Throwable error) {
        run.end();
        boolean dropped = undo(run) || !run.activation.current();
        if (!run.discarded) {
            environment.log(Environment.Level.DEBUG, run.source() + " failed", error);
            Failure failure = failures.of(error, run.source());
            if (run instanceof Target target) {
                reportFailure(target.delivery, target.index, failure, dropped);
            } else {
                Invocation invocation = (Invocation) run;
                sayFailure(run.id, invocation.invoke, failure, dropped, microsSince(invocation.started));
            }
        }
        settled(run);
    }

    /** Everything about it is said. */
    private void settled(Run run) {
        if (!run.discarded) {
            if (run instanceof Target target) {
                targetsEnded(target.delivery, 1);
            } else {
                jobEnded(run.id);
            }
        }
        passOn(run.activation);
    }

    /** Starts what waits for this instance, until one has it. */
    private void passOn(Activation activation) {
        while (!activation.busy) {
            Run next = activation.waiting.poll();
            if (next == null) {
                return;
            }
            if (next.discarded) {
                continue;
            }
            if (next instanceof Target target) {
                beginTarget(target);
            } else {
                beginInvocation((Invocation) next);
            }
        }
    }

    private void jobEnded(long id) {
        jobs.remove(id);
        if (!empty.isEmpty()) {
            reportEmpty();
        }
    }

    private void reportEmpty() {
        if (!jobs.isEmpty()) {
            return;
        }
        List<CompletableFuture<Void>> waiting = empty;
        empty = new ArrayList<>();
        for (CompletableFuture<Void> done : waiting) {
            done.complete(null);
        }
    }

    // --- outcomes ----------------------------------------------------------------------------------------------------

    /** What a run that succeeded did; null if that is nothing. */
    private Effects effectsOf(Run run) {
        Activation activation = run.activation;
        AgentInstance instance = run.instance;
        InstanceMemory memory = instance == null ? null : instance.memory();
        Effects.Builder effects = run.staged();
        if (memory != null && !activation.busy && activation.holds(instance) && memory.changed()) {
            if (run.spec.concurrent()) {
                throw new AmxException(
                        Code.FAILED_PRECONDITION,
                        "CONCURRENT_MEMORY_CHANGE",
                        run.source() + " is concurrent and changed the memory of its instance; do not declare it"
                                + " concurrent");
            }
            if (effects == null) {
                effects = Effects.newBuilder();
            }
            try {
                effects.clearMemory().addAllMemory(memory.collect());
            } catch (RuntimeException error) {
                activation.drop();
                throw error;
            }
        }
        if (effects == null || effects.build().getSerializedSize() == 0) {
            return null;
        }
        for (Message message : effects.getMessagesList()) {
            protocol.checkMessage(message);
        }
        return effects.build();
    }

    /** Takes a failed run's changes to memory back. Returns whether the memory is lost with them. */
    private boolean undo(Run run) {
        Activation activation = run.activation;
        AgentInstance instance = run.instance;
        InstanceMemory memory = instance == null ? null : instance.memory();
        if (memory == null || activation.busy || !activation.holds(instance) || !memory.changed()) {
            return false;
        }
        try {
            if (memory.rollback()) {
                return false;
            }
        } catch (RuntimeException error) {
            environment.log(
                    Environment.Level.ERROR, "the memory of " + run.source() + " could not be rolled back", error);
        }
        activation.drop();
        return true;
    }

    private void sayResult(Invocation run, Payload payload, Effects effects) {
        protocol.checkSize(payload.getData().size(), "result of " + run.source());
        Complete.Builder complete =
                Complete.newBuilder()
                        .setAttempt(run.invoke.getAttempt())
                        .setEpoch(run.invoke.getEpoch())
                        .setResult(payload)
                        .setDurationUs(microsSince(run.started));
        if (effects != null) {
            complete.setEffects(effects);
        }
        protocol.sayChecked(
                LinkItem.newBuilder().setId(run.id).setComplete(complete).build(),
                "result of " + run.source() + (effects == null ? "" : " with its effects"));
    }

    private void sayFailure(long id, Invoke invoke, Failure failure, boolean dropped, long micros) {
        Complete.Builder complete =
                Complete.newBuilder()
                        .setAttempt(invoke.getAttempt())
                        .setEpoch(invoke.getEpoch())
                        .setFailure(failure)
                        .setDurationUs(micros)
                        .setMemoryDropped(dropped);
        protocol.say(LinkItem.newBuilder().setId(id).setComplete(complete).build());
    }

    private static long microsSince(long nanos) {
        return Math.max(0, (System.nanoTime() - nanos) / 1000);
    }

    // --- deliveries --------------------------------------------------------------------------------------------------

    /** Starts targets until all have been, or too many run. */
    private void pump(Delivery delivery) {
        if (delivery.discarded) {
            return;
        }
        int ended = 0;
        while (delivery.next < delivery.epochs.size()) {
            if (delivering >= concurrency) {
                held.add(delivery);
                break;
            }
            int index = delivery.next++;
            Activation activation = activations.get(delivery.epochs.get(index));
            if (activation == null || delivery.stopped != null) {
                AmxException error = delivery.stopped != null ? delivery.stopped : notHere();
                reportFailure(delivery, index, Failures.plain(error), activation == null);
                ended++;
                continue;
            }
            Target target = new Target(delivery, index, activation);
            if (activation.busy && !delivery.handler.concurrent()) {
                activation.waiting.add(target);
            } else {
                beginTarget(target);
            }
        }
        if (ended > 0) {
            targetsEnded(delivery, ended);
        }
    }

    private void beginTarget(Target target) {
        if (target.delivery.stopped != null) {
            outcomeFailed(target, target.delivery.stopped);
        } else {
            start(target);
        }
    }

    private void reportEffects(Target target, Effects effects) {
        if (effects == null) {
            return;
        }
        Delivered.Builder outcome = target.delivery.outcome;
        DeliveredTarget report =
                DeliveredTarget.newBuilder().setIndex(target.index).setEffects(effects).build();
        long size = (long) outcome.build().getSerializedSize() + report.getSerializedSize() + 64;
        protocol.checkSize(size, "outcome of a delivery");
        outcome.addTargets(report);
    }

    private void reportFailure(Delivery delivery, int index, Failure failure, boolean dropped) {
        DeliveredTarget.Builder report =
                DeliveredTarget.newBuilder().setIndex(index).setFailure(failure).setMemoryDropped(dropped);
        long size = (long) delivery.outcome.build().getSerializedSize() + failure.getSerializedSize();
        if (2 * size > protocol.limits().maxItemBytes()) {
            // Many targets, many failures: the reason matters more than where it happened.
            report.setFailure(
                    Failure.newBuilder()
                            .setCode(failure.getCode())
                            .setReason(failure.getReason())
                            .setRetryable(failure.getRetryable())
                            .setRetryDelayMs(failure.getRetryDelayMs()));
        }
        delivery.outcome.addTargets(report);
    }

    /** That many more targets have ended. */
    private void targetsEnded(Delivery delivery, int count) {
        delivery.remaining -= count;
        if (delivery.remaining == 0 && !delivery.discarded) {
            sayDelivered(delivery);
        }
    }

    private void sayDelivered(Delivery delivery) {
        protocol.say(LinkItem.newBuilder().setId(delivery.id).setDelivered(delivery.outcome).build());
        jobEnded(delivery.id);
    }

    // --- small matters -----------------------------------------------------------------------------------------------

    private static String keyOf(String key) {
        return key.isEmpty() ? "default" : key;
    }

    static Throwable unwrapped(Throwable error) {
        return error instanceof CompletionException && error.getCause() != null ? error.getCause() : error;
    }

    /** The handler of a message that names none, or none that exists. */
    private static HandlerSpec choose(AgentSpec agent, String name, String type) {
        if (!name.isEmpty()) {
            throw handlerUnknown(agent, name);
        }
        AgentDefinition definition = agent.definition();
        Map<String, HandlerSpec> handlers = agent.handlers();
        if (!type.isEmpty()) {
            for (HandlerDefinition handler : definition.getHandlersList()) {
                if (handler.getMessageTypesList().contains(type)) {
                    return handlers.get(handler.getName());
                }
            }
        }
        HandlerSpec chosen = handlers.get(definition.getDefaultHandler());
        if (chosen == null && handlers.size() == 1) {
            chosen = handlers.values().iterator().next();
        }
        if (chosen == null) {
            throw new AmxException(
                    Code.INVALID_ARGUMENT,
                    "HANDLER_AMBIGUOUS",
                    "the message names no handler and agent '" + definition.getName() + "' has several: "
                            + String.join(", ", new TreeSet<>(handlers.keySet())));
        }
        return chosen;
    }

    private static AmxException agentUnknown(String name) {
        return new AmxException(
                Code.NOT_FOUND, "AGENT_UNKNOWN", "agent '" + name + "' is not hosted by this process");
    }

    private static AmxException handlerUnknown(AgentSpec agent, String name) {
        String names = String.join(", ", new TreeSet<>(agent.handlers().keySet()));
        return new AmxException(
                Code.NOT_FOUND,
                "HANDLER_UNKNOWN",
                "agent '" + agent.definition().getName() + "' has no handler '" + name + "'; it has: "
                        + (names.isEmpty() ? "none" : names));
    }

    private static AmxException notHere() {
        return new AmxException.Facts(
                        Code.FAILED_PRECONDITION,
                        "MEMORY_NOT_HELD",
                        "this process does not hold that activation; send it again")
                .retryable(true)
                .exception();
    }
}
