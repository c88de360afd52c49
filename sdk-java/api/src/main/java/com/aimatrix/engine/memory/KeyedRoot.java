package com.aimatrix.engine.memory;

import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;

/** A memory whose entries are told apart by the JSON of a key or member: 1 and "1" are two, equal objects are one. */
abstract class KeyedRoot extends Root {
    /** By id, in order of arrival. */
    final Map<String, Item> entries = new LinkedHashMap<>();

    /** Id -> its entry at the last commit, null if it had none; of those that came or went since. */
    private final Map<String, Item> undo = new HashMap<>();

    private final String what;

    /** what: its keys, for messages. */
    KeyedRoot(InstanceMemories memories, MemorySpec spec, String what) {
        super(memories, spec, true);
        this.what = spec.name() + " " + what;
    }

    final String id(Object key) {
        return codec.keyId(key, what);
    }

    final Object keyOf(String id) {
        return codec.keyOf(id, what);
    }

    /** A new entry; its value is not begun. */
    final Item arrived(String id, Object key) {
        Item entry = new Item(Immutables.is(key) ? key : keyOf(id), id, 0);
        entries.put(id, entry);
        if (!undo.containsKey(id)) {
            undo.put(id, null);
        }
        return entry;
    }

    /** The entry has gone. */
    final void noted(Item entry) {
        if (!undo.containsKey(entry.id)) {
            undo.put(entry.id, entry);
        }
        take(entry);
    }

    /** Every entry has gone. */
    final void allLeft() {
        if (entries.isEmpty()) {
            return;
        }
        entries.values().forEach(this::noted);
        entries.clear();
        tookAll();
    }

    @Override
    final Collection<Item> entries() {
        return entries.values();
    }

    @Override
    final void reset() {
        entries.clear();
        undo.clear();
    }

    @Override
    final void forget(Item entry) {
        entries.remove(entry.id);
    }

    @Override
    final void evict(int limit) {
        for (Item entry : recency.oldest(entries.size() - limit)) {
            entries.remove(entry.id);
            noted(entry);
        }
    }

    @Override
    final void undoStructure() {
        undo.forEach(
                (id, entry) -> {
                    if (entry == null) {
                        entries.remove(id);
                    } else if (entries.get(id) != entry) {
                        entries.put(id, entry);
                    }
                });
        undo.clear();
    }

    @Override
    final void settleStructure() {
        undo.clear();
    }

    @Override
    final Item entryFor(Object item) {
        Item entry = entries.get(id(item));
        if (entry == null) {
            throw none(item);
        }
        return entry;
    }
}
