package com.aimatrix.engine.memory;

import com.aimatrix.engine.authoring.Durations;
import com.aimatrix.engine.errors.InvalidInputException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Lifetimes of single entries. They start now and count as a write: the next one without a lifetime ends them. For
 * collections of objects that no engine hosts, nothing is done.
 */
public final class Memories {
    private Memories() {}

    /**
     * Of an entry of a Map.
     *
     * @param <K> type of its keys
     * @param map a field with Memory
     * @param key whose entry
     * @param ttl positive
     * @throws InvalidInputException if there is no such entry, or the lifetime is not positive
     */
    public static <K> void expire(Map<K, ?> map, K key, Duration ttl) {
        expireItem(map, key, ttl);
    }

    /**
     * Of a member of a Set.
     *
     * @param <T> type of its members
     * @param set a field with Memory
     * @param member which
     * @param ttl positive
     * @throws InvalidInputException if there is no such member, or the lifetime is not positive
     */
    public static <T> void expire(Set<T> set, T member, Duration ttl) {
        expireItem(set, member, ttl);
    }

    /**
     * Of an item of a List.
     *
     * @param list a field with Memory
     * @param index of the item
     * @param ttl positive
     * @throws InvalidInputException if there is no such item, or the lifetime is not positive
     */
    public static void expire(List<?> list, int index, Duration ttl) {
        expireItem(list, index, ttl);
    }

    private static void expireItem(Object collection, Object item, Duration ttl) {
        long millis = Durations.positive(ttl, "ttl");
        if (collection instanceof Rooted rooted) {
            Root root = rooted.root();
            synchronized (root.memories) {
                root.expire(item, millis);
            }
        }
    }
}
