package com.aimatrix.engine;

import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.spec.AgentSpec;
import java.util.function.Supplier;

/** Annotated classes, compiled: for hosts other than {@link AmxEngine}, such as testing kits. */
public final class Agents {
    private Agents() {}

    /**
     * A class: each instance key gets `new Type()`.
     *
     * @param type with Agent, MessageRouter or PerformanceMonitor, and a constructor without parameters
     * @return compiled
     * @throws com.aimatrix.engine.errors.DefinitionException naming the culprit and the cure
     */
    public static AgentSpec of(Class<?> type) {
        return new AgentCompiler(Json.standard(), type, "").compile(Makers.constructor(type));
    }

    /**
     * An object: each instance key gets a shallow copy. What it holds is shared, its memories are not.
     *
     * @param object of an annotated class
     * @return compiled
     * @throws com.aimatrix.engine.errors.DefinitionException naming the culprit and the cure
     */
    public static AgentSpec of(Object object) {
        return copies(object, Json.standard());
    }

    static AgentSpec copies(Object object, Json json) {
        return new AgentCompiler(json, object.getClass(), "").compile(Makers.copies(object));
    }

    /**
     * A class whose objects somebody else makes, such as a container with injection.
     *
     * @param <T> the class
     * @param type with Agent, MessageRouter or PerformanceMonitor
     * @param maker called once for each instance key; each object is another one
     * @param prefix put before the agent's name; empty: none
     * @param json how values travel
     * @return compiled
     * @throws com.aimatrix.engine.errors.DefinitionException naming the culprit and the cure
     */
    public static <T> AgentSpec of(Class<T> type, Supplier<? extends T> maker, String prefix, Json json) {
        return new AgentCompiler(json, type, prefix).compile(maker == null ? Makers.constructor(type) : maker);
    }
}
