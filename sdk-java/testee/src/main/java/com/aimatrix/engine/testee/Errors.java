package com.aimatrix.engine.testee;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.errors.HandlerException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Errors as the fixtures throw and show them. */
public final class Errors {
    private Errors() {}

    /**
     * The error that `Failing.fail` and the operation `raise` are asked for.
     *
     * @param asked reason, message, code, retryable, metadata, details and cause, all optional
     * @return with its cause; without a reason an ordinary exception
     */
    public static RuntimeException thrown(Map<?, ?> asked) {
        RuntimeException cause = asked.get("cause") instanceof Map<?, ?> why ? thrown(why) : null;
        String message = asked.get("message") instanceof String text ? text : "";
        if (!(asked.get("reason") instanceof String reason)) {
            return new IllegalStateException(message, cause);
        }
        Code code = asked.get("code") instanceof Integer number ? Code.of(number) : Code.UNKNOWN;
        AmxException.Facts facts = new AmxException.Facts(code, reason, message).cause(cause);
        if (asked.get("retryable") instanceof Boolean retryable) {
            facts.retryable(retryable);
        }
        if (asked.get("metadata") instanceof Map<?, ?> metadata) {
            facts.metadata(texts(metadata));
        }
        if (asked.get("details") instanceof List<?> details) {
            facts.details(new ArrayList<>(details));
        }
        return new HandlerException(facts);
    }

    /**
     * An error as the Interpreter shows it.
     *
     * @param error whatever was thrown
     * @return without what is empty
     */
    public static Map<String, Object> shown(Throwable error) {
        Map<String, Object> fields = new LinkedHashMap<>();
        if (error instanceof AmxException known) {
            fields.put("code", known.code().number());
            fields.put("reason", known.reason());
            fields.put("message", known.getMessage());
            fields.put("retryable", known.retryable());
            fields.put("metadata", known.metadata());
            fields.put("details", known.details());
            fields.put("source", known.source());
        } else {
            fields.put("code", Code.UNKNOWN.number());
            fields.put("reason", "HANDLER_FAILED");
            fields.put("message", error.getMessage() == null ? error.getClass().getSimpleName() : error.getMessage());
            fields.put("retryable", true);
        }
        if (error.getCause() != null) {
            fields.put("cause", shown(error.getCause()));
        }
        fields.values().removeIf(Errors::isEmpty);
        return fields;
    }

    private static boolean isEmpty(Object value) {
        return value == null
                || value.equals("")
                || value.equals(false)
                || (value instanceof Map<?, ?> map && map.isEmpty())
                || (value instanceof Collection<?> some && some.isEmpty());
    }

    static Map<String, String> texts(Map<?, ?> values) {
        Map<String, String> texts = new LinkedHashMap<>();
        values.forEach((name, value) -> texts.put(String.valueOf(name), String.valueOf(value)));
        return texts;
    }
}
