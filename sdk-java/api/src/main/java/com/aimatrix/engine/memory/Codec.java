package com.aimatrix.engine.memory;

import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.json.Json;
import com.fasterxml.jackson.databind.JavaType;

/** How the values and keys of one memory are stored: by the types of its field. */
final class Codec {
    private final Json json;
    private final JavaType value;
    private final JavaType key;

    /** key: of a map's keys or a set's members; null if it has none. */
    Codec(Json json, JavaType value, JavaType key) {
        this.json = json;
        this.value = value;
        this.key = key;
    }

    byte[] encode(Object item, String place) {
        try {
            return json.write(item, value);
        } catch (InvalidInputException error) {
            throw at(place, error);
        }
    }

    Object decode(byte[] data, String place) {
        try {
            return json.read(data, value);
        } catch (InvalidInputException error) {
            throw at(place, error);
        }
    }

    String keyId(Object item, String place) {
        try {
            return json.canonical(item, key);
        } catch (InvalidInputException error) {
            throw at(place, error);
        }
    }

    Object keyOf(String id, String place) {
        try {
            return json.readCanonical(id, key);
        } catch (InvalidInputException error) {
            throw at(place, error);
        }
    }

    private static InvalidInputException at(String place, InvalidInputException error) {
        String pointer = error.pointer().isEmpty() ? place : place + "." + error.pointer();
        return new InvalidInputException(
                error.reason(), "memory " + place + ": " + error.getMessage(), pointer, error.getCause());
    }
}
