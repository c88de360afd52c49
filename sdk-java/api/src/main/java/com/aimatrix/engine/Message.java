package com.aimatrix.engine;

import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.v1.Payload;
import com.fasterxml.jackson.core.type.TypeReference;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.Optional;

/**
 * A message: one that a handler got, or one to be sent in place of bare content, with options of its own. Content that
 * several handlers get (an event's) is shared among them: treat it as read-only.
 */
public final class Message implements Payloads.Source {
    private final Json json;
    private final com.aimatrix.engine.v1.Message wire;
    private volatile Object value; // of one to be sent; decoded, of one that came
    private volatile boolean decoded;

    /**
     * A message to be sent.
     *
     * @param content anything with a JSON form; null: no value
     * @param options its own; those of the call that sends it come first
     */
    public Message(Object content, MessageOptions options) {
        this.json = Json.standard();
        this.wire = options.said.build();
        this.value = content;
        this.decoded = true;
    }

    private Message(Json json, com.aimatrix.engine.v1.Message wire) {
        this.json = json;
        this.wire = wire;
    }

    private Message(Json json, com.aimatrix.engine.v1.Message wire, Object content) {
        this(json, wire);
        this.value = content;
        this.decoded = true;
    }

    /**
     * A view of what arrived. Decodes nothing yet.
     *
     * @param json how it will
     * @param wire as it travelled
     * @return the view
     */
    public static Message received(Json json, com.aimatrix.engine.v1.Message wire) {
        return new Message(json, wire);
    }

    /** One that somebody else got, as routers and monitors are told of it. */
    static Message seen(Json json, com.aimatrix.engine.v1.Message wire, Object content) {
        return new Message(json, wire, content);
    }

    /**
     * The content, decoded at first use.
     *
     * @return JSON as maps, lists, text, numbers; text as text; anything else as bytes; null: there is none
     * @throws InvalidInputException INVALID_VALUE if it is not what it says
     */
    public Object content() {
        if (!decoded) {
            value = Payloads.decode(json, wire.getPayload());
            decoded = true;
        }
        return value;
    }

    /**
     * The content as a type.
     *
     * @param <T> the type
     * @param type what it shall be
     * @return null: there is none
     * @throws InvalidInputException INVALID_VALUE, or INVALID_INPUT if it does not fit
     */
    public <T> T content(Class<T> type) {
        Payload payload = toPayload(json);
        return Payloads.isNothing(payload) ? null : type.cast(Payloads.decode(json, payload, json.type(type)));
    }

    /**
     * The content as a type with parameters.
     *
     * @param <T> the type
     * @param type what it shall be
     * @return null: there is none
     * @throws InvalidInputException INVALID_VALUE, or INVALID_INPUT if it does not fit
     */
    @SuppressWarnings("unchecked")
    public <T> T content(TypeReference<T> type) {
        Payload payload = toPayload(json);
        return Payloads.isNothing(payload) ? null : (T) Payloads.decode(json, payload, json.type(type.getType()));
    }

    @Override
    public Payload toPayload(Json how) {
        return wire.hasPayload() ? wire.getPayload() : Payloads.encode(how, decoded ? value : null);
    }

    /** What is said of it, to be sent on: without sender and topic, which are whoever sends it. */
    com.aimatrix.engine.v1.Message.Builder forward() {
        return wire.toBuilder().clearSender().clearTopic();
    }

    /**
     * As it travelled.
     *
     * @return the engine's form
     */
    public com.aimatrix.engine.v1.Message wire() {
        return wire;
    }

    /**
     * Its id.
     *
     * @return empty if it has none yet
     */
    public String id() {
        return wire.getMessageId();
    }

    /**
     * Type that the application gave it.
     *
     * @return may be empty
     */
    public String type() {
        return wire.getType();
    }

    /**
     * Name of the agent.
     *
     * @return empty if none is named
     */
    public String agent() {
        return wire.getAgent();
    }

    /**
     * Key of the instance.
     *
     * @return never empty
     */
    public String key() {
        return wire.getKey().isEmpty() ? "default" : wire.getKey();
    }

    /**
     * Handler it names.
     *
     * @return empty if none
     */
    public String handler() {
        return wire.getHandler();
    }

    /**
     * How urgent it is.
     *
     * @return normal unless said
     */
    public Priority priority() {
        return Wire.priority(wire.getPriority());
    }

    /**
     * Its headers; of an event, its attributes.
     *
     * @return unmodifiable
     */
    public Map<String, String> headers() {
        return wire.getHeadersMap();
    }

    /**
     * Where the application says it came from.
     *
     * @return may be empty
     */
    public String source() {
        return wire.getSource();
    }

    /**
     * Who sent it: `agent/key`, or the subject of the caller's identity.
     *
     * @return may be empty
     */
    public String sender() {
        return wire.getSender();
    }

    /**
     * Topic of the event that it carries.
     *
     * @return empty if it is none
     */
    public String topic() {
        return wire.getTopic();
    }

    /**
     * A repeated request with the same gets the first one's outcome.
     *
     * @return may be empty
     */
    public String idempotencyKey() {
        return wire.getIdempotencyKey();
    }

    /**
     * W3C trace context.
     *
     * @return may be empty
     */
    public String traceparent() {
        return wire.getTraceparent();
    }

    /**
     * How long it may wait in a mailbox.
     *
     * @return empty: without end
     */
    public Optional<Duration> ttl() {
        return wire.getTtlMs() == 0 ? Optional.empty() : Optional.of(Duration.ofMillis(wire.getTtlMs()));
    }

    /**
     * When its sender made it.
     *
     * @return empty if unknown
     */
    public Optional<Instant> sentAt() {
        return wire.getSentAtMs() == 0 ? Optional.empty() : Optional.of(Instant.ofEpochMilli(wire.getSentAtMs()));
    }

    @Override
    public String toString() {
        return "Message[" + agent() + "/" + key() + (type().isEmpty() ? "" : ", " + type()) + ", " + id() + "]";
    }
}
