package com.aimatrix.engine;

import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.v1.InstanceRef;
import com.aimatrix.engine.v1.MemoryEntry;
import com.aimatrix.engine.v1.MemoryKind;
import com.aimatrix.engine.v1.MemoryOperation;
import com.aimatrix.engine.v1.MemoryOperationResult;
import com.fasterxml.jackson.databind.JavaType;
import com.google.protobuf.UnsafeByteOperations;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;

/**
 * The memory of another instance, by name. Reads see what is committed; writes are committed between messages, never
 * during a handler's run. Each method waits for the engine, and throws AmxException: AGENT_UNKNOWN, MEMORY_UNKNOWN,
 * PERMISSION_DENIED.
 */
public final class RemoteMemory {
    private static final int READ_LIMIT = 10_000;

    private final Json json;
    private final JavaType any;
    private final InstanceRef instance;
    private final Function<MemoryOperation, CompletableFuture<MemoryOperationResult>> call;

    RemoteMemory(
            Json json,
            AgentReference instance,
            Function<MemoryOperation, CompletableFuture<MemoryOperationResult>> call) {
        this.json = json;
        this.any = json.type(Object.class);
        this.instance = InstanceRef.newBuilder().setAgent(instance.name()).setKey(instance.key()).build();
        this.call = call;
    }

    /**
     * The whole of a memory, up to 10,000 entries.
     *
     * @param memory its name
     * @return a Map, Set or List, or the value; null if that was never written
     */
    public Object get(String memory) {
        return Calls.await(getAsync(memory));
    }

    /**
     * The whole of a memory, as `get`.
     *
     * @param memory its name
     * @return done with a Map, Set or List, or the value; with null if that was never written
     */
    public CompletableFuture<Object> getAsync(String memory) {
        return operate(operation(memory).setList("").setLimit(READ_LIMIT), this::whole);
    }

    private Object whole(MemoryOperationResult result) {
        List<MemoryEntry> entries = new ArrayList<>(result.getEntriesList());
        MemoryKind kind = result.getKind();
        if (kind == MemoryKind.MEMORY_KIND_MAP) {
            Map<Object, Object> map = new LinkedHashMap<>();
            entries.forEach(entry -> map.put(json.readCanonical(entry.getId(), any), value(entry)));
            return map;
        }
        if (kind == MemoryKind.MEMORY_KIND_SET) {
            Set<Object> set = new LinkedHashSet<>();
            entries.forEach(entry -> set.add(json.readCanonical(entry.getId(), any)));
            return set;
        }
        if (kind == MemoryKind.MEMORY_KIND_LIST) {
            entries.sort(Comparator.comparingLong(entry -> Long.parseLong(entry.getId())));
            return new ArrayList<>(entries.stream().map(this::value).toList());
        }
        return entries.isEmpty() ? null : value(entries.get(0));
    }

    /**
     * One entry.
     *
     * @param memory its name
     * @param item key of a map, member of a set, number of a list's entry
     * @return its value (a set's member is its own); null if there is none
     */
    public Object get(String memory, Object item) {
        return Calls.await(getAsync(memory, item));
    }

    /**
     * One entry, as `get`.
     *
     * @param memory its name
     * @param item key of a map, member of a set, number of a list's entry
     * @return done with its value (a set's member is its own); with null if there is none
     */
    public CompletableFuture<Object> getAsync(String memory, Object item) {
        return operate(
                operation(memory).setGet(json.canonical(item, any)),
                result -> {
                    if (!result.getFound()) {
                        return null;
                    }
                    return result.getKind() == MemoryKind.MEMORY_KIND_SET ? item : value(result.getEntries(0));
                });
    }

    /**
     * Whether there is an entry.
     *
     * @param memory its name
     * @param item as for `get`
     * @return whether there is
     */
    public boolean has(String memory, Object item) {
        return Calls.await(hasAsync(memory, item));
    }

    /**
     * Whether there is an entry.
     *
     * @param memory its name
     * @param item as for `get`
     * @return done with whether there is
     */
    public CompletableFuture<Boolean> hasAsync(String memory, Object item) {
        return operate(operation(memory).setGet(json.canonical(item, any)), MemoryOperationResult::getFound);
    }

    /**
     * Writes a single value.
     *
     * @param memory its name
     * @param value anything with a JSON form
     * @return version of the instance's memory after it
     */
    public long set(String memory, Object value) {
        return Calls.await(setAsync(memory, value));
    }

    /**
     * Writes a single value.
     *
     * @param memory its name
     * @param value anything with a JSON form
     * @return done with the version of the instance's memory after it
     */
    public CompletableFuture<Long> setAsync(String memory, Object value) {
        return write(memory, "", value);
    }

    /**
     * Writes an entry.
     *
     * @param memory its name
     * @param item as for `get`
     * @param value anything with a JSON form; ignored by sets
     * @return version of the instance's memory after it
     */
    public long put(String memory, Object item, Object value) {
        return Calls.await(putAsync(memory, item, value));
    }

    /**
     * Writes an entry.
     *
     * @param memory its name
     * @param item as for `get`
     * @param value anything with a JSON form; ignored by sets
     * @return done with the version of the instance's memory after it
     */
    public CompletableFuture<Long> putAsync(String memory, Object item, Object value) {
        return write(memory, json.canonical(item, any), value);
    }

    private CompletableFuture<Long> write(String memory, String id, Object value) {
        MemoryEntry.Builder entry = MemoryEntry.newBuilder().setId(id);
        entry.setValue(UnsafeByteOperations.unsafeWrap(json.write(value)));
        return operate(operation(memory).setPut(entry), MemoryOperationResult::getVersion);
    }

    /**
     * Removes an entry.
     *
     * @param memory its name
     * @param item as for `get`
     * @return whether it was there
     */
    public boolean remove(String memory, Object item) {
        return Calls.await(removeAsync(memory, item));
    }

    /**
     * Removes an entry.
     *
     * @param memory its name
     * @param item as for `get`
     * @return done with whether it was there
     */
    public CompletableFuture<Boolean> removeAsync(String memory, Object item) {
        return operate(operation(memory).setRemove(json.canonical(item, any)), MemoryOperationResult::getFound);
    }

    private MemoryOperation.Builder operation(String memory) {
        return MemoryOperation.newBuilder().setInstance(instance).setName(memory);
    }

    private <T> CompletableFuture<T> operate(
            MemoryOperation.Builder operation, Function<MemoryOperationResult, T> outcome) {
        return Calls.mapped(call.apply(operation.build()), outcome);
    }

    private Object value(MemoryEntry entry) {
        return entry.getValue().isEmpty() ? null : json.read(entry.getValue().toByteArray());
    }
}
