package com.aimatrix.engine.memory;

import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.v1.MemoryKind;
import com.fasterxml.jackson.databind.JavaType;

/**
 * One memory of an agent, as it was declared and understood.
 *
 * @param name unique in the agent
 * @param kind map, set, list or value
 * @param type of its values: of a single value, of a map's values, a list's items
 * @param keyType of a map's keys or a set's members; null if it has none
 * @param persistent whether it survives hibernation
 * @param ttlMs lifetime of entries; 0: without end
 * @param maxEntries 0: unbounded
 * @param json how values are stored
 */
public record MemorySpec(
        String name,
        MemoryKind kind,
        JavaType type,
        JavaType keyType,
        boolean persistent,
        long ttlMs,
        int maxEntries,
        Json json) {
    Codec codec() {
        return new Codec(json, type, keyType);
    }
}
