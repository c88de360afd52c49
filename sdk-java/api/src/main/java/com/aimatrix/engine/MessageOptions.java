package com.aimatrix.engine;

import com.aimatrix.engine.authoring.Durations;
import java.time.Duration;
import java.util.Map;

/**
 * What may be said of a message besides its agent and content, and of a call how long it may take. What is not said
 * takes its default. Each method changes this and returns it.
 */
public final class MessageOptions {
    final com.aimatrix.engine.v1.Message.Builder said = com.aimatrix.engine.v1.Message.newBuilder();
    long timeoutMs;

    /** Says nothing yet. */
    public MessageOptions() {}

    /**
     * Key of the instance; also as `name/key` in the agent's name.
     *
     * @param key of the instance
     * @return this
     */
    public MessageOptions key(String key) {
        said.setKey(key);
        return this;
    }

    /**
     * Handler; otherwise chosen by type, else the agent's default.
     *
     * @param handler its name
     * @return this
     */
    public MessageOptions handler(String handler) {
        said.setHandler(handler);
        return this;
    }

    /**
     * Type that the application gives it.
     *
     * @param type such as customer_inquiry
     * @return this
     */
    public MessageOptions type(String type) {
        said.setType(type);
        return this;
    }

    /**
     * How urgent it is.
     *
     * @param priority normal unless said
     * @return this
     */
    public MessageOptions priority(Priority priority) {
        said.setPriority(Wire.priority(priority));
        return this;
    }

    /**
     * Text to text, at most 8 KiB together.
     *
     * @param headers in place of others
     * @return this
     */
    public MessageOptions headers(Map<String, String> headers) {
        said.clearHeaders().putAllHeaders(headers);
        return this;
    }

    /**
     * Where the application says it came from.
     *
     * @param source text
     * @return this
     */
    public MessageOptions source(String source) {
        said.setSource(source);
        return this;
    }

    /**
     * Two durable messages with one id are one message.
     *
     * @param id unique
     * @return this
     */
    public MessageOptions id(String id) {
        said.setMessageId(id);
        return this;
    }

    /**
     * A repeated request with the same gets the first one's outcome.
     *
     * @param key of the application
     * @return this
     */
    public MessageOptions idempotencyKey(String key) {
        said.setIdempotencyKey(key);
        return this;
    }

    /**
     * How long it may wait in a mailbox.
     *
     * @param ttl length of time
     * @return this
     */
    public MessageOptions ttl(Duration ttl) {
        said.setTtlMs(Durations.milliseconds(ttl, "ttl"));
        return this;
    }

    /**
     * How long it is held back.
     *
     * @param delay length of time
     * @return this
     */
    public MessageOptions delay(Duration delay) {
        said.setDelayMs(Durations.milliseconds(delay, "delay"));
        return this;
    }

    /**
     * Whether it is stored before it is acknowledged. Otherwise what the operation and the handler say.
     *
     * @param durable whether it is
     * @return this
     */
    public MessageOptions durable(boolean durable) {
        said.setDurability(Wire.durability(durable ? Durability.DURABLE : Durability.VOLATILE));
        return this;
    }

    /**
     * W3C trace context.
     *
     * @param traceparent otherwise the one of the handler that sends it
     * @return this
     */
    public MessageOptions traceparent(String traceparent) {
        said.setTraceparent(traceparent);
        return this;
    }

    /**
     * Longest time until the call has an outcome. A handler's own deadline counts as well.
     *
     * @param timeout positive
     * @return this
     */
    public MessageOptions timeout(Duration timeout) {
        timeoutMs = Durations.positive(timeout, "timeout");
        return this;
    }
}
