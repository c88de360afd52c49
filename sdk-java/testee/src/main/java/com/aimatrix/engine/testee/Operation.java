package com.aimatrix.engine.testee;

import com.aimatrix.engine.EventOptions;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.Priority;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** One operation of the Interpreter, as a case says it. */
record Operation(Map<String, Object> said) {
    String op() {
        return text("op");
    }

    /** Empty if it is not said. */
    String text(String name) {
        return said.get(name) instanceof String text ? text : "";
    }

    boolean has(String name) {
        return said.get(name) != null;
    }

    boolean flag(String name) {
        return Boolean.TRUE.equals(said.get(name));
    }

    int number(String name) {
        return ((Number) said.get(name)).intValue();
    }

    Duration millis(String name) {
        return Duration.ofMillis(((Number) said.get(name)).longValue());
    }

    List<String> texts(String name) {
        return said.get(name) instanceof List<?> list ? list.stream().map(String::valueOf).toList() : List.of();
    }

    List<Operation> operations() {
        return ((List<?>) said.get("ops")).stream().map(one -> new Operation(fields(one))).toList();
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> fields(Object one) {
        return (Map<String, Object>) one;
    }

    /** What is said of a message, and of the call. */
    MessageOptions options() {
        MessageOptions options = new MessageOptions();
        if (has("key")) {
            options.key(text("key"));
        }
        if (has("handler")) {
            options.handler(text("handler"));
        }
        if (has("type")) {
            options.type(text("type"));
        }
        if (said.get("headers") instanceof Map<?, ?> headers) {
            options.headers(Errors.texts(headers));
        }
        if (has("priority")) {
            options.priority(Priority.valueOf(text("priority").toUpperCase(Locale.ROOT)));
        }
        if (has("source")) {
            options.source(text("source"));
        }
        if (has("message_id")) {
            options.id(text("message_id"));
        }
        if (has("idempotency_key")) {
            options.idempotencyKey(text("idempotency_key"));
        }
        if (has("ttl_ms")) {
            options.ttl(millis("ttl_ms"));
        }
        if (has("delay_ms")) {
            options.delay(millis("delay_ms"));
        }
        if (said.get("durable") instanceof Boolean durable) {
            options.durable(durable);
        }
        if (has("timeout_ms")) {
            options.timeout(millis("timeout_ms"));
        }
        return options;
    }

    /** What is said of an event. */
    EventOptions event() {
        EventOptions options = new EventOptions();
        if (said.get("attributes") instanceof Map<?, ?> attributes) {
            options.attributes(Errors.texts(attributes));
        }
        if (has("key")) {
            options.key(text("key"));
        }
        if (has("event_id")) {
            options.id(text("event_id"));
        }
        if (said.get("durable") instanceof Boolean durable) {
            options.durable(durable);
        }
        return options;
    }
}
