package com.aimatrix.engine;

import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.v1.Event;
import com.aimatrix.engine.v1.Payload;
import com.fasterxml.jackson.databind.JavaType;

/** What applications say, as it travels. */
final class Wire {
    private Wire() {}

    static com.aimatrix.engine.v1.Priority priority(Priority priority) {
        return com.aimatrix.engine.v1.Priority.forNumber(priority.ordinal() + 1);
    }

    static Priority priority(com.aimatrix.engine.v1.Priority priority) {
        int number = priority == com.aimatrix.engine.v1.Priority.UNRECOGNIZED ? 0 : priority.getNumber();
        return number == 0 ? Priority.NORMAL : Priority.values()[number - 1];
    }

    static com.aimatrix.engine.v1.Durability durability(Durability durability) {
        return com.aimatrix.engine.v1.Durability.forNumber(durability.ordinal());
    }

    /** A message to `agent` (`name`, `name/key`). A Message as content keeps what options do not say. */
    static com.aimatrix.engine.v1.Message.Builder message(
            Json json, String agent, Object content, MessageOptions options) {
        com.aimatrix.engine.v1.Message.Builder message =
                content instanceof Message known ? known.forward() : com.aimatrix.engine.v1.Message.newBuilder();
        Payload payload = Payloads.encode(json, content);
        if (!Payloads.isNothing(payload)) {
            message.setPayload(payload);
        }
        if (message.getSentAtMs() == 0) {
            message.setSentAtMs(System.currentTimeMillis());
        }
        if (!agent.isEmpty()) {
            boolean keyed = options != null && !options.said.getKey().isEmpty();
            int slash = keyed ? -1 : agent.indexOf('/');
            message.setAgent(slash < 0 ? agent : agent.substring(0, slash));
            if (slash >= 0) {
                message.setKey(agent.substring(slash + 1));
            }
        }
        if (options != null) {
            if (options.said.getHeadersCount() > 0) {
                message.clearHeaders();
            }
            message.mergeFrom(options.said.buildPartial());
        }
        return message;
    }

    static Event.Builder event(Json json, String topic, Object content, EventOptions options) {
        if (topic.isEmpty()) {
            throw new InvalidInputException("an event needs a topic, e.g. 'orders.eu.created'", "topic");
        }
        Event.Builder event = Event.newBuilder();
        if (options != null) {
            event.mergeFrom(options.said.buildPartial());
        }
        Payload payload = Payloads.encode(json, content);
        if (!Payloads.isNothing(payload)) {
            event.setPayload(payload);
        }
        return event.setTopic(topic);
    }

    /** The value of a reply or chunk, as the type that is wanted. */
    static Object reply(Json json, Payload payload, JavaType type) {
        Class<?> raw = type.getRawClass();
        if (raw == ProcessingResult.class) {
            return ProcessingResult.fromPayload(json, payload);
        }
        if (raw == Payload.class) {
            return payload;
        }
        if (payload.getContentType().equals(Payloads.RESULT_TYPE)) {
            if (raw == Object.class) {
                return ProcessingResult.fromPayload(json, payload);
            }
            Object data = ProcessingResult.fromPayload(json, payload).data();
            return data == null ? null : json.read(json.write(data), type);
        }
        if (Payloads.isNothing(payload)) {
            return null;
        }
        return raw == Object.class ? Payloads.decode(json, payload) : Payloads.decode(json, payload, type);
    }
}
