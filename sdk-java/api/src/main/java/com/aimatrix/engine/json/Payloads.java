package com.aimatrix.engine.json;

import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.v1.Payload;
import com.fasterxml.jackson.databind.JavaType;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import java.util.Locale;

/** Values as they travel, and back. */
public final class Payloads {
    /** Content type of JSON. */
    public static final String JSON_TYPE = "application/json";
    /** Content type of processing results. */
    public static final String RESULT_TYPE = "application/vnd.amx.result+json";

    private Payloads() {}

    /** Something that writes itself: messages and processing results. */
    public interface Source {
        /**
         * As it travels.
         *
         * @param json how
         * @return the payload
         * @throws InvalidInputException INVALID_VALUE if it has no JSON form
         */
        Payload toPayload(Json json);
    }

    /**
     * A value as it travels.
     *
     * @param json how
     * @param value null: no value; a Payload or Source: itself; anything else: JSON
     * @return the payload
     * @throws InvalidInputException INVALID_VALUE naming the place of what has no JSON form
     */
    public static Payload encode(Json json, Object value) {
        if (value == null) {
            return Payload.getDefaultInstance();
        }
        if (value instanceof Payload payload) {
            return payload;
        }
        return value instanceof Source source ? source.toPayload(json) : ofJson(json.write(value));
    }

    /**
     * A value as it travels, by the type that was declared for it.
     *
     * @param json how
     * @param value as for `encode` without a type
     * @param type what it was declared as
     * @return the payload
     * @throws InvalidInputException INVALID_VALUE naming the place of what has no JSON form
     */
    public static Payload encode(Json json, Object value, JavaType type) {
        if (value == null || value instanceof Payload || value instanceof Source) {
            return encode(json, value);
        }
        return ofJson(json.write(value, type));
    }

    /**
     * A payload of JSON.
     *
     * @param data JSON text; not to be changed afterwards
     * @return the payload
     */
    public static Payload ofJson(byte[] data) {
        return Payload.newBuilder().setContentType(JSON_TYPE).setData(UnsafeByteOperations.unsafeWrap(data)).build();
    }

    /**
     * Bytes of any content type, passed on as they are.
     *
     * @param data the bytes
     * @param contentType media type
     * @return the payload
     */
    public static Payload ofBytes(byte[] data, String contentType) {
        return Payload.newBuilder().setContentType(contentType).setData(ByteString.copyFrom(data)).build();
    }

    /**
     * The value of a payload without a type.
     *
     * @param json how
     * @param payload as it travelled
     * @return JSON decoded, text as text, anything else as bytes; null if there is none
     * @throws InvalidInputException INVALID_VALUE: it is not what it says
     */
    public static Object decode(Json json, Payload payload) {
        if (isNothing(payload)) {
            return null;
        }
        byte[] data = payload.getData().toByteArray();
        if (isJson(payload)) {
            return json.read(data);
        }
        String type = payload.getContentType();
        return type.trim().toLowerCase(Locale.ROOT).startsWith("text/")
                ? Text.decode(data, "content of type " + type)
                : data;
    }

    /**
     * The value of a payload, by a type.
     *
     * @param json how
     * @param payload as it travelled
     * @param type what it shall be; byte[] and String also take content that is not JSON
     * @return null if there is none
     * @throws InvalidInputException INVALID_VALUE: it is not JSON; INVALID_INPUT: it does not fit
     */
    public static Object decode(Json json, Payload payload, JavaType type) {
        if (isJson(payload)) {
            byte[] data = payload.getData().toByteArray();
            return json.read(data, type);
        }
        Object value = decode(json, payload);
        if (type.isTypeOrSuperTypeOf(value.getClass())) {
            return value;
        }
        throw InvalidInputException.value("expected JSON, got content of type " + payload.getContentType(), "");
    }

    /**
     * Whether there is no value.
     *
     * @param payload as it travelled
     * @return whether it is empty
     */
    public static boolean isNothing(Payload payload) {
        return payload.getContentType().isEmpty() && payload.getData().isEmpty();
    }

    /**
     * Whether a payload says that it is JSON.
     *
     * @param payload as it travelled
     * @return whether it does
     */
    public static boolean isJson(Payload payload) {
        String type = payload.getContentType();
        if (type.isEmpty() || type.equals(JSON_TYPE)) {
            return true;
        }
        int end = type.indexOf(';');
        String media = (end < 0 ? type : type.substring(0, end)).trim().toLowerCase(Locale.ROOT);
        return media.equals(JSON_TYPE) || media.endsWith("+json");
    }
}
