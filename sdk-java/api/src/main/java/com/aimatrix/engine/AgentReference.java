package com.aimatrix.engine;

import com.aimatrix.engine.errors.InvalidInputException;

/**
 * The address of one agent instance, `name/key`; and of one of its handlers, where a router chooses that too.
 *
 * @param name of the agent; not empty
 * @param key of the instance; empty becomes `default`
 * @param handler empty: not chosen
 */
public record AgentReference(String name, String key, String handler) {
    /**
     * Checks and completes it.
     *
     * @param name of the agent
     * @param key of the instance
     * @param handler empty: not chosen
     * @throws InvalidInputException if the name is empty
     */
    public AgentReference {
        if (name.isEmpty()) {
            throw new InvalidInputException("an agent reference needs the name of an agent", "name");
        }
        key = key.isEmpty() ? "default" : key;
    }

    /**
     * An instance.
     *
     * @param name of the agent
     * @param key of the instance
     */
    public AgentReference(String name, String key) {
        this(name, key, "");
    }

    /**
     * The reference of `name/key`, or of `name` alone.
     *
     * @param address text
     * @return the reference
     */
    public static AgentReference parse(String address) {
        int slash = address.indexOf('/');
        return slash < 0
                ? new AgentReference(address, "")
                : new AgentReference(address.substring(0, slash), address.substring(slash + 1));
    }

    /** `name/key`, with `#handler` if there is one. */
    @Override
    public String toString() {
        return name + "/" + key + (handler.isEmpty() ? "" : "#" + handler);
    }
}
