package com.aimatrix.engine.spec;

import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;

/** One handler. */
public interface HandlerSpec {
    /**
     * Its name.
     *
     * @return unique in the agent
     */
    String name();

    /**
     * Whether `call` returns a Flow.Publisher, a Stream, an Iterable or an Iterator of chunks.
     *
     * @return whether it does
     */
    boolean streaming();

    /**
     * Whether it runs beside other handlers of its instance. It must not change memory then: the host refuses that.
     *
     * @return whether it does
     */
    boolean concurrent();

    /**
     * Message to input. Called once for each invocation and, for a delivered event, once for all its targets.
     *
     * @param message what is handled; of an event, see {@link HandlerRun#message}
     * @return whatever `call` takes
     * @throws com.aimatrix.engine.errors.AmxException INVALID_INPUT with `metadata.field`
     */
    Object decode(Message message);

    /**
     * Runs the handler, on a thread that it may block.
     *
     * @param instance its instance
     * @param input of `decode`
     * @param run lives until the handler has ended
     * @return a value, a CompletionStage of one, or (streaming) chunks
     * @throws Throwable whatever the handler throws
     */
    Object call(AgentInstance instance, Object input, HandlerRun run) throws Throwable;

    /**
     * What the handler returned, as it travels.
     *
     * @param value of the handler
     * @return the default instance for none
     * @throws com.aimatrix.engine.errors.AmxException INVALID_OUTPUT
     */
    Payload encode(Object value);

    /**
     * One chunk of a streaming handler, as it travels.
     *
     * @param value the chunk
     * @return as `encode`
     * @throws com.aimatrix.engine.errors.AmxException INVALID_OUTPUT
     */
    Payload encodeChunk(Object value);
}
