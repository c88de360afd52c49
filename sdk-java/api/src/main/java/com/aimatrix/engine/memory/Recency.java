package com.aimatrix.engine.memory;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Which entries of a bounded memory were used last. The engine learns it with each commit, and agrees. */
final class Recency {
    // As of the last commit. Removed entries keep their place until the next one, for the case that they come back.
    private Set<Item> order = new LinkedHashSet<>();
    /** Read or written since the last commit, in the order of their last use. What a failed handler read stays used. */
    private Set<Item> used = new LinkedHashSet<>();

    void load(Collection<Item> entries) {
        order = new LinkedHashSet<>(entries);
        used = new LinkedHashSet<>();
    }

    void use(Item entry) {
        used.remove(entry);
        used.add(entry);
    }

    /** The least recently used entries, at most `count`. */
    List<Item> oldest(int count) {
        settle();
        List<Item> found = new ArrayList<>();
        for (Item entry : order) {
            if (found.size() >= count) {
                break;
            }
            if (!entry.dead) {
                found.add(entry);
            }
        }
        return found;
    }

    /** Entries to be written, with their data, and entries only read, in order of use: as the engine is told. */
    Map<Item, byte[]> steps(Map<Item, byte[]> encoded) {
        used.addAll(encoded.keySet());
        settle();
        Map<Item, byte[]> steps = new LinkedHashMap<>();
        for (Item entry : used) {
            if (!entry.dead) {
                steps.put(entry, encoded.get(entry));
            }
        }
        return steps;
    }

    void commit(Collection<Item> gone) {
        gone.forEach(order::remove);
        used = new LinkedHashSet<>();
    }

    /** Changes since the last commit are undone; `alive` are left. */
    void undo(Set<Item> alive) {
        order.retainAll(alive);
        used.retainAll(alive);
    }

    void forget(Item entry) {
        order.remove(entry);
        used.remove(entry);
    }

    private void settle() {
        for (Item entry : used) {
            order.remove(entry);
            order.add(entry);
        }
    }
}
