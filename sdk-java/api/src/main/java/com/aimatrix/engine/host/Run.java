package com.aimatrix.engine.host;

import com.aimatrix.engine.core.Deadlines;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.spec.AgentInstance;
import com.aimatrix.engine.spec.EngineCalls;
import com.aimatrix.engine.spec.HandlerRun;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.v1.Effects;
import com.aimatrix.engine.v1.Message;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.concurrent.Executor;
import java.util.function.Consumer;

/** One handler at work on one message. Belongs to the link's thread but for what handlers see of it. */
abstract class Run implements HandlerRun, Deadlines.Expiring {
    final AgentHost host;
    final long id;
    final Activation activation;
    private final Message message;

    HandlerSpec spec;
    volatile AgentInstance instance;
    double deadline; // on the host's clock; 0: none
    Deadlines.Bucket bucket;
    boolean discarded; // nobody wants its outcome
    boolean running; // it has its turn
    volatile Thread thread; // that its handler runs on, where it may be interrupted

    private volatile AmxException stopped;
    private volatile boolean ended;
    private Effects.Builder effects; // guarded by this
    private List<Consumer<AmxException>> stopCallbacks; // guarded by this

    Run(AgentHost host, long id, Activation activation, Message message) {
        this.host = host;
        this.id = id;
        this.activation = activation;
        this.message = message;
    }

    @Override
    public String agent() {
        return activation.agent.definition().getName();
    }

    @Override
    public String key() {
        return activation.key;
    }

    @Override
    public String handler() {
        return spec == null ? "" : spec.name();
    }

    @Override
    public Message message() {
        return message;
    }

    @Override
    public String topic() {
        return message.getTopic();
    }

    @Override
    public long invocationId() {
        return id;
    }

    @Override
    public OptionalDouble remainingMs() {
        return deadline > 0 ? OptionalDouble.of(Math.max(0, deadline - host.now())) : OptionalDouble.empty();
    }

    @Override
    public AmxException stopped() {
        return stopped;
    }

    @Override
    public void onStop(Consumer<AmxException> callback) {
        synchronized (this) {
            if (stopped == null) {
                if (stopCallbacks == null) {
                    stopCallbacks = new ArrayList<>();
                }
                stopCallbacks.add(callback);
                return;
            }
        }
        callback.accept(stopped);
    }

    @Override
    public boolean ended() {
        return ended;
    }

    @Override
    public void stage(Consumer<Effects.Builder> change) {
        synchronized (this) {
            if (ended) {
                throw new AmxException(
                        Code.FAILED_PRECONDITION, "NO_CONTEXT", "the handler that started this has ended");
            }
            if (effects == null) {
                effects = Effects.newBuilder();
            }
            change.accept(effects);
        }
    }

    @Override
    public EngineCalls calls() {
        return host.calls();
    }

    @Override
    public Executor executor() {
        return host.executor();
    }

    @Override
    public Map<String, Object> config() {
        return host.config();
    }

    /** What was staged; null: nothing. */
    synchronized Effects.Builder staged() {
        return effects;
    }

    void end() {
        synchronized (this) {
            ended = true;
        }
    }

    /** Where it happens: `agent/key#handler`. */
    String source() {
        return agent() + "/" + key() + (spec == null ? "" : "#" + spec.name());
    }

    /** Asks it to end, for this reason. */
    void stop(AmxException why) {
        List<Consumer<AmxException>> callbacks;
        synchronized (this) {
            if (stopped != null || ended) {
                return;
            }
            stopped = why;
            callbacks = stopCallbacks;
            stopCallbacks = null;
        }
        if (running) {
            host.stopping(this);
        }
        if (callbacks != null) {
            for (Consumer<AmxException> callback : callbacks) {
                callback.accept(why);
            }
        }
        // Last: who blocks in a call of ours is woken by its callback, with the reason.
        synchronized (this) {
            if (thread != null) {
                thread.interrupt();
            }
        }
    }

    /** Its deadline has passed and the engine did not cancel it, or it does not stop though it was asked to. */
    @Override
    public void expire() {
        bucket = null;
        if (stopped != null) {
            host.giveUp(this);
        } else {
            stop(
                    new AmxException.Facts(
                                    Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", source() + " did not end in time")
                            .retryable(true)
                            .exception());
        }
    }
}
