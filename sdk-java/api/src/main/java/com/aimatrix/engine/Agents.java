package com.aimatrix.engine;

import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.v1.Event;
import com.aimatrix.engine.v1.Payload;
import com.fasterxml.jackson.databind.JavaType;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;

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
        return of(type, null, "", Json.standard());
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
        Class<?> type = object.getClass();
        return Declared.loaded(type, () -> new AgentCompiler(json, type, "").compile(Makers.copies(object)));
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
        return Declared.loaded(
                type,
                () -> new AgentCompiler(json, type, prefix).compile(maker == null ? Makers.constructor(type) : maker));
    }

    /**
     * A class whose objects somebody else makes, and wraps into proxies that extend it: a container with interception.
     * Handlers are called on the proxy, unless they are private or final; memories and capabilities are fields of the
     * object behind it.
     *
     * @param <T> the class
     * @param type with Agent, MessageRouter or PerformanceMonitor
     * @param maker called once for each instance key; each object is another one
     * @param behind from what `maker` made to the object of the class; itself if it is no proxy
     * @param json how values travel
     * @return compiled
     * @throws com.aimatrix.engine.errors.DefinitionException naming the culprit and the cure
     */
    public static <T> AgentSpec proxied(
            Class<T> type, Supplier<? extends T> maker, UnaryOperator<Object> behind, Json json) {
        return Declared.loaded(type, () -> new AgentCompiler(json, type, "").behind(behind).compile(maker));
    }

    /**
     * A message as {@link AmxEngine} would send it.
     *
     * @param json how values travel
     * @param agent `name` or `name/key`
     * @param content a Message, or anything with a JSON form
     * @param options more to say
     * @return as it travels
     * @throws com.aimatrix.engine.errors.InvalidInputException INVALID_VALUE if the content has no JSON form
     */
    public static com.aimatrix.engine.v1.Message message(
            Json json, String agent, Object content, MessageOptions options) {
        return Wire.message(json, agent, content, options).build();
    }

    /**
     * An event as {@link AmxEngine} would publish it.
     *
     * @param json how values travel
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     * @param options more to say
     * @return as it travels
     * @throws com.aimatrix.engine.errors.InvalidInputException INVALID_VALUE if the content has no JSON form
     */
    public static Event event(Json json, String topic, Object content, EventOptions options) {
        return Wire.event(json, topic, content, options).build();
    }

    /**
     * How long a call may take.
     *
     * @param options what was said
     * @return milliseconds; 0: nothing was said of it
     */
    public static long timeoutMs(MessageOptions options) {
        return options.timeoutMs;
    }

    /**
     * What a reply or chunk holds, as {@link AmxEngine} would return it.
     *
     * @param json how values travel
     * @param payload as it travelled
     * @param type what it shall be; Object: whatever it is
     * @return null: no value
     * @throws com.aimatrix.engine.errors.InvalidInputException if it does not fit
     */
    public static Object reply(Json json, Payload payload, JavaType type) {
        return Wire.reply(json, payload, type);
    }
}
