package com.aimatrix.engine;

/** Chooses the agent of messages that name none. Extend it, annotate with {@link MessageRouter}, and write `route`. */
public abstract class BaseMessageRouter {
    /** For subclasses. */
    protected BaseMessageRouter() {}

    /**
     * The agent that gets a message.
     *
     * @param message without an agent
     * @return null: it is left to the next router
     */
    public abstract AgentReference route(Message message);

    /**
     * An address. Whether somebody hosts it is found out later.
     *
     * @param name of the agent, or `name/key`
     * @return the address
     */
    protected AgentReference findAgent(String name) {
        return AgentReference.parse(name);
    }

    /**
     * An address, with a handler for messages that name none.
     *
     * @param name of the agent
     * @param key of the instance
     * @param handler empty: not chosen
     * @return the address
     */
    protected AgentReference findAgent(String name, String key, String handler) {
        return new AgentReference(name, key, handler);
    }
}
