package com.aimatrix.engine.spec;

import com.aimatrix.engine.v1.AgentDefinition;
import java.util.Map;
import java.util.function.DoubleSupplier;

/** An agent, compiled: what the engine is told of it, and what runs it. Immutable; one for each class. */
public interface AgentSpec {
    /**
     * What Hello carries. Routers, monitors and pipelines are agents of that kind whose `route`, `on_message_processed`
     * and `run` are handlers like any other.
     *
     * @return complete
     */
    AgentDefinition definition();

    /**
     * The handlers. The host chooses among them by the definition's rules.
     *
     * @return by name; exactly those of the definition
     */
    Map<String, HandlerSpec> handlers();

    /**
     * A new instance, made when its first message comes, on the thread of a handler. What it throws fails the message.
     *
     * @param key of the instance
     * @param now the clock that memory expires by, in milliseconds from an arbitrary beginning; never jumps
     * @return the instance
     */
    AgentInstance createInstance(String key, DoubleSupplier now);

    /** Closes what instances share: capabilities that were built. Called once, when the agent is no longer hosted. */
    default void close() {}
}
