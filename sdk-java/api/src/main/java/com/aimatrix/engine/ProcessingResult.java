package com.aimatrix.engine;

import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.v1.Payload;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;

/**
 * What became of a message: a status, data, a text for people, and metadata. An error result is still a result: it is
 * committed and not retried. Throw to fail the message.
 */
public final class ProcessingResult implements Payloads.Source {
    private final Status status;
    private final Object data;
    private final String message;
    private final Map<String, Object> metadata;

    /** What became of it, in one word. */
    public enum Status {
        /** It worked. */
        SUCCESS,
        /** It worked, but someone should know something. */
        WARNING,
        /** It did not work, for a reason that repeating would not change. */
        ERROR
    }

    /**
     * With everything said.
     *
     * @param status in one word
     * @param data anything with a JSON form, or null
     * @param message for people; may be empty
     * @param metadata values with a JSON form
     */
    public ProcessingResult(Status status, Object data, String message, Map<String, ?> metadata) {
        this.status = Objects.requireNonNull(status, "status");
        this.data = data;
        this.message = Objects.requireNonNull(message, "message");
        this.metadata = Collections.unmodifiableMap(new LinkedHashMap<>(metadata));
    }

    /**
     * It worked.
     *
     * @return without data
     */
    public static ProcessingResult success() {
        return success(null);
    }

    /**
     * It worked.
     *
     * @param data what came of it
     * @return a success
     */
    public static ProcessingResult success(Object data) {
        return new ProcessingResult(Status.SUCCESS, data, "", Map.of());
    }

    /**
     * It worked.
     *
     * @param data what came of it
     * @param message for people
     * @return a success
     */
    public static ProcessingResult success(Object data, String message) {
        return new ProcessingResult(Status.SUCCESS, data, message, Map.of());
    }

    /**
     * It worked, but someone should know something.
     *
     * @param message what
     * @return without data
     */
    public static ProcessingResult warning(String message) {
        return warning(message, null);
    }

    /**
     * It worked, but someone should know something.
     *
     * @param message what
     * @param data what came of it
     * @return a warning
     */
    public static ProcessingResult warning(String message, Object data) {
        return new ProcessingResult(Status.WARNING, data, message, Map.of());
    }

    /**
     * It did not work, for a reason that repeating would not change.
     *
     * @param message what was wrong
     * @return an error of type PROCESSING_ERROR
     */
    public static ProcessingResult error(String message) {
        return error(message, "PROCESSING_ERROR", null);
    }

    /**
     * It did not work, for a reason that repeating would not change.
     *
     * @param message what was wrong
     * @param errorType UPPER_SNAKE
     * @param data may be null
     * @return an error
     */
    public static ProcessingResult error(String message, String errorType, Object data) {
        return new ProcessingResult(Status.ERROR, data, message, Map.of("error_type", errorType));
    }

    /**
     * The same with more metadata.
     *
     * @param name of a fact
     * @param value with a JSON form
     * @return a new result
     */
    public ProcessingResult with(String name, Object value) {
        Map<String, Object> more = new LinkedHashMap<>(metadata);
        more.put(name, value);
        return new ProcessingResult(status, data, message, more);
    }

    /**
     * What became of it.
     *
     * @return in one word
     */
    public Status status() {
        return status;
    }

    /**
     * What came of it.
     *
     * @return null if nothing
     */
    public Object data() {
        return data;
    }

    /**
     * For people.
     *
     * @return may be empty
     */
    public String message() {
        return message;
    }

    /**
     * Facts for programs.
     *
     * @return unmodifiable
     */
    public Map<String, Object> metadata() {
        return metadata;
    }

    /**
     * Whether it is no error; a warning is a success.
     *
     * @return whether it is
     */
    public boolean isSuccess() {
        return status != Status.ERROR;
    }

    /**
     * Whether it is a warning.
     *
     * @return whether it is
     */
    public boolean isWarning() {
        return status == Status.WARNING;
    }

    /**
     * Whether it is an error.
     *
     * @return whether it is
     */
    public boolean isError() {
        return status == Status.ERROR;
    }

    /**
     * UPPER_SNAKE kind of the error.
     *
     * @return empty if nobody said
     */
    public String errorType() {
        return metadata.get("error_type") instanceof String type ? type : "";
    }

    @Override
    public Payload toPayload(Json json) {
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("status", status.name().toLowerCase(Locale.ROOT));
        fields.put("data", data);
        fields.put("message", message);
        fields.put("metadata", metadata);
        return Payloads.ofJson(json.write(fields)).toBuilder().setContentType(Payloads.RESULT_TYPE).build();
    }

    /**
     * The result in a reply. Any other value becomes the data of a success.
     *
     * @param json how
     * @param payload of the reply
     * @return the result
     * @throws InvalidInputException INVALID_VALUE if it is none
     */
    public static ProcessingResult fromPayload(Json json, Payload payload) {
        Object value = Payloads.decode(json, payload);
        return payload.getContentType().equals(Payloads.RESULT_TYPE) ? fromFields(value) : success(value);
    }

    /**
     * The result that an object says.
     *
     * @param value `{"status", "data", "message", "metadata"}`
     * @return the result
     * @throws InvalidInputException INVALID_VALUE if it is none
     */
    static ProcessingResult fromFields(Object value) {
        Map<?, ?> fields = value instanceof Map<?, ?> map ? map : Map.of();
        Status status = null;
        for (Status one : Status.values()) {
            if (one.name().toLowerCase(Locale.ROOT).equals(fields.get("status"))) {
                status = one;
            }
        }
        if (status == null) {
            throw InvalidInputException.value(
                    "status is " + fields.get("status") + "; expected one of success, warning, error", "status");
        }
        Map<String, Object> metadata = new LinkedHashMap<>();
        if (fields.get("metadata") instanceof Map<?, ?> said) {
            said.forEach((name, fact) -> metadata.put(String.valueOf(name), fact));
        }
        String message = fields.get("message") instanceof String text ? text : "";
        return new ProcessingResult(status, fields.get("data"), message, metadata);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof ProcessingResult result
                && status == result.status
                && Objects.equals(data, result.data)
                && message.equals(result.message)
                && metadata.equals(result.metadata);
    }

    @Override
    public int hashCode() {
        return Objects.hash(status, data, message, metadata);
    }

    @Override
    public String toString() {
        return "ProcessingResult[" + status + (message.isEmpty() ? "" : ", " + message) + ", " + data + "]";
    }
}
