package com.aimatrix.engine.spec;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.v1.Effects;
import com.aimatrix.engine.v1.Message;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.concurrent.Executor;
import java.util.function.Consumer;

/** One run of a handler: what a context is made of. Methods may be called by any thread. */
public interface HandlerRun {
    /**
     * Name of the agent.
     *
     * @return never empty
     */
    String agent();

    /**
     * Key of the instance.
     *
     * @return never empty
     */
    String key();

    /**
     * Name of the handler.
     *
     * @return never empty
     */
    String handler();

    /**
     * What is handled. Of a delivered event: its attributes as headers, its topic as type, its publisher as sender.
     *
     * @return as it arrived
     */
    Message message();

    /**
     * Topic of a delivered event.
     *
     * @return empty for a message
     */
    String topic();

    /**
     * Its number on this link; calls made for it name it.
     *
     * @return 0 for a delivered event
     */
    long invocationId();

    /**
     * Which attempt it is.
     *
     * @return 1 for the first
     */
    int attempt();

    /**
     * Time until it must end.
     *
     * @return milliseconds, at least 0; empty without a deadline
     */
    OptionalDouble remainingMs();

    /**
     * Whether the caller reads chunks.
     *
     * @return whether it does
     */
    boolean streaming();

    /**
     * Why it was asked to stop: the engine cancelled it, its deadline passed, or the link's session was lost. Its
     * outcome is then this failure, whatever the handler does.
     *
     * @return null: it was not
     */
    AmxException stopped();

    /**
     * Calls back when it is asked to stop; at once if it was.
     *
     * @param callback with the reason, on any thread; must not block or throw
     */
    void onStop(Consumer<AmxException> callback);

    /**
     * Whether the handler has ended: a context that outlives it refuses to stage or call.
     *
     * @return whether it has
     */
    boolean ended();

    /**
     * Changes what is staged: messages, events, schedules and so on. It is committed with the result, and forgotten
     * with a failure. `memory` is the host's.
     *
     * @param change adds to it
     * @throws AmxException NO_CONTEXT if the handler has ended
     */
    void stage(Consumer<Effects.Builder> change);

    /**
     * Where handlers run, and may block: for what goes on after waiting.
     *
     * @return of the host; unless it says otherwise, whatever thread comes
     */
    default Executor executor() {
        return Runnable::run;
    }

    /**
     * The engine.
     *
     * @return calls of this run name its `invocationId`
     */
    EngineCalls calls();

    /**
     * What the application's builder was given.
     *
     * @return all sections
     */
    Map<String, Object> config();
}
