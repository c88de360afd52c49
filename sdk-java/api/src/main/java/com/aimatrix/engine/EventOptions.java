package com.aimatrix.engine;

import com.aimatrix.engine.v1.Event;
import java.util.Map;

/** What may be said of an event besides its topic and content. Each method changes this and returns it. */
public final class EventOptions {
    final Event.Builder said = Event.newBuilder();

    /** Says nothing yet. */
    public EventOptions() {}

    /**
     * What filters of subscriptions look at.
     *
     * @param attributes in place of others
     * @return this
     */
    public EventOptions attributes(Map<String, String> attributes) {
        said.clearAttributes().putAllAttributes(attributes);
        return this;
    }

    /**
     * Whether it is stored for each subscriber before it is acknowledged.
     *
     * @param durable whether it is
     * @return this
     */
    public EventOptions durable(boolean durable) {
        said.setDurability(Wire.durability(durable ? Durability.DURABLE : Durability.VOLATILE));
        return this;
    }

    /**
     * Key of the instance that agents subscribed by definition receive it at.
     *
     * @param key of the instance
     * @return this
     */
    public EventOptions key(String key) {
        said.setKey(key);
        return this;
    }

    /**
     * Two durable events with one id are one event.
     *
     * @param id unique
     * @return this
     */
    public EventOptions id(String id) {
        said.setEventId(id);
        return this;
    }

    /**
     * How urgent it is.
     *
     * @param priority normal unless said
     * @return this
     */
    public EventOptions priority(Priority priority) {
        said.setPriority(Wire.priority(priority));
        return this;
    }
}
