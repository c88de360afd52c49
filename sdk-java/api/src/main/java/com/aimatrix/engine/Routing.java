package com.aimatrix.engine;

import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.v1.Payload;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/** What routers and monitors are told by the engine, and what routers answer. */
final class Routing {
    private Routing() {}

    /** What a monitor is told, taken apart. */
    record Report(String agentName, Message message, ProcessingResult result, Duration duration) {}

    /** A router's answer as it travels. */
    static Payload answer(Json json, Object answer) {
        Object route = answer instanceof String text ? AgentReference.parse(text) : answer;
        if (route == null) {
            return Payloads.ofJson(json.write(null));
        }
        if (!(route instanceof AgentReference reference)) {
            throw InvalidInputException.value("a router answers an AgentReference, text or null; use findAgent", "");
        }
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("agent", reference.name());
        fields.put("key", reference.key());
        if (!reference.handler().isEmpty()) {
            fields.put("handler", reference.handler());
        }
        return Payloads.ofJson(json.write(fields));
    }

    /** The message that a router or monitor is told of. */
    static Message seen(Json json, Object said, String handler) {
        if (!(said instanceof Map<?, ?> fields)) {
            throw InvalidInputException.value("message: expected an object", "message");
        }
        com.aimatrix.engine.v1.Message.Builder message =
                com.aimatrix.engine.v1.Message.newBuilder()
                        .setAgent(text(fields, "agent"))
                        .setKey(text(fields, "key"))
                        .setHandler(text(fields, "handler").isEmpty() ? handler : text(fields, "handler"))
                        .setType(text(fields, "type"))
                        .setSource(text(fields, "source"))
                        .setMessageId(text(fields, "id"))
                        .setSender(text(fields, "sender"));
        String priority = text(fields, "priority").toUpperCase(Locale.ROOT);
        for (Priority one : Priority.values()) {
            if (one.name().equals(priority)) {
                message.setPriority(Wire.priority(one));
            }
        }
        if (fields.get("headers") instanceof Map<?, ?> headers) {
            headers.forEach((name, value) -> message.putHeaders(String.valueOf(name), String.valueOf(value)));
        }
        return Message.seen(json, message.build(), fields.get("content"));
    }

    static Report report(Json json, Object said) {
        if (said instanceof Map<?, ?> fields
                && fields.get("agent_name") instanceof String agent
                && fields.get("result") instanceof Map<?, ?> result
                && fields.get("duration_ms") instanceof Number millis) {
            Map<String, Object> outcome = new LinkedHashMap<>();
            result.forEach((name, value) -> outcome.put(String.valueOf(name), value));
            String type = text(result, "error_type");
            outcome.put("metadata", type.isEmpty() ? Map.of() : Map.of("error_type", type));
            return new Report(
                    agent,
                    seen(json, fields.get("message"), text(fields, "handler")),
                    ProcessingResult.fromFields(outcome),
                    Duration.ofNanos((long) (millis.doubleValue() * 1_000_000)));
        }
        throw InvalidInputException.value("the engine's report is incomplete", "");
    }

    private static String text(Map<?, ?> fields, String name) {
        return fields.get(name) instanceof String text ? text : "";
    }
}
