package com.aimatrix.engine;

import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.spec.EngineCalls;
import com.aimatrix.engine.v1.Event;
import java.util.concurrent.CompletableFuture;

/** A subscription in force: events as they come, until it is closed. A reader too far behind loses the oldest. */
public final class Events implements AutoCloseable {
    private final Json json;
    private final EngineCalls.EventSource source;

    Events(Json json, EngineCalls.EventSource source) {
        this.json = json;
        this.source = source;
    }

    /**
     * Waits for the next event.
     *
     * @return its topic, attributes (as headers) and content; null: it was closed, and everything is read
     */
    public Message next() {
        return Calls.await(nextAsync());
    }

    /**
     * The next event.
     *
     * @return done with it; with null when it was closed and everything is read
     */
    public CompletableFuture<Message> nextAsync() {
        return Calls.mapped(source.next(), event -> event == null ? null : message(event));
    }

    private Message message(Event event) {
        com.aimatrix.engine.v1.Message.Builder message =
                com.aimatrix.engine.v1.Message.newBuilder()
                        .setTopic(event.getTopic())
                        .setType(event.getTopic())
                        .putAllHeaders(event.getAttributesMap())
                        .setMessageId(event.getEventId())
                        .setSender(event.getPublisher())
                        .setKey(event.getKey())
                        .setPriority(event.getPriority())
                        .setTraceparent(event.getTraceparent());
        if (event.hasPayload()) {
            message.setPayload(event.getPayload());
        }
        return Message.received(json, message.build());
    }

    /**
     * Events lost because they were not read in time.
     *
     * @return how many
     */
    public long dropped() {
        return source.dropped();
    }

    /** Ends it. What has arrived can still be read. */
    @Override
    public void close() {
        source.close();
    }
}
