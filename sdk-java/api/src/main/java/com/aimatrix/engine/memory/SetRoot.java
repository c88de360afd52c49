package com.aimatrix.engine.memory;

import java.util.AbstractSet;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

/** A memory that is a Set. Members are told apart by their JSON, and must not be changed. */
final class SetRoot extends Root {
    private static final byte[] NOTHING = new byte[0];

    private final Collection<?> initialContent;
    private final Map<String, Item> entries = new LinkedHashMap<>();
    private final Map<String, Item> undo = new HashMap<>();
    private final View view = new View();

    SetRoot(InstanceMemories memories, MemorySpec spec, Collection<?> initialContent) {
        super(memories, spec, true);
        this.initialContent = initialContent;
    }

    Set<Object> view() {
        return view;
    }

    private String id(Object member) {
        return codec.keyId(member, spec.name() + " member");
    }

    private boolean add(Object member) {
        String id = id(member);
        Item entry = entries.get(id);
        if (entry != null) {
            if (spec.ttlMs() > 0 || entry.deadline > 0) {
                write(entry, null); // its lifetime begins anew
            } else {
                used(entry);
            }
            return false;
        }
        Object kept = Immutables.is(member) ? member : codec.keyOf(id, spec.name() + " member");
        entry = new Item(kept, id, 0);
        entries.put(id, entry);
        if (!undo.containsKey(id)) {
            undo.put(id, null);
        }
        begin(entry, null);
        return true;
    }

    private void noted(Item entry) {
        if (!undo.containsKey(entry.id)) {
            undo.put(entry.id, entry);
        }
        take(entry);
    }

    @Override
    byte[] encodeEntry(Item entry) {
        return NOTHING;
    }

    @Override
    Collection<Item> entries() {
        return entries.values();
    }

    @Override
    void reset() {
        entries.clear();
        undo.clear();
    }

    @Override
    void restoreStored(String id, byte[] value, double deadline) {
        Item entry = new Item(codec.keyOf(id, spec.name() + " member"), id, 0);
        entry.decoded = true;
        entry.deadline = deadline;
        entries.put(id, entry);
    }

    @Override
    void fillInitial() {
        initialContent.forEach(this::add);
    }

    @Override
    void forget(Item entry) {
        entries.remove(entry.id);
    }

    @Override
    void evict(int limit) {
        for (Item entry : recency.oldest(entries.size() - limit)) {
            entries.remove(entry.id);
            noted(entry);
        }
    }

    @Override
    void undoStructure() {
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
    void settleStructure() {
        undo.clear();
    }

    @Override
    Item entryFor(Object item) {
        Item entry = entries.get(id(item));
        if (entry == null) {
            throw none(item);
        }
        return entry;
    }

    /** A Set in every respect, whose changes are noticed. */
    private final class View extends AbstractSet<Object> implements Rooted {
        @Override
        public Root root() {
            return SetRoot.this;
        }

        @Override
        public int size() {
            synchronized (memories) {
                return entries.size();
            }
        }

        @Override
        public boolean contains(Object member) {
            synchronized (memories) {
                Item entry = entries.get(id(member));
                if (entry != null) {
                    used(entry);
                }
                return entry != null;
            }
        }

        @Override
        public boolean add(Object member) {
            synchronized (memories) {
                return SetRoot.this.add(member);
            }
        }

        @Override
        public boolean remove(Object member) {
            synchronized (memories) {
                Item entry = entries.remove(id(member));
                if (entry != null) {
                    noted(entry);
                }
                return entry != null;
            }
        }

        @Override
        public void clear() {
            synchronized (memories) {
                if (entries.isEmpty()) {
                    return;
                }
                for (Item entry : new ArrayList<>(entries.values())) {
                    noted(entry);
                }
                entries.clear();
                tookAll();
            }
        }

        @Override
        public Iterator<Object> iterator() {
            Iterator<Item> all = entries.values().iterator();
            return new Iterator<>() {
                private Item last;

                @Override
                public boolean hasNext() {
                    return all.hasNext();
                }

                @Override
                public Object next() {
                    last = all.next();
                    return last.key;
                }

                @Override
                public void remove() {
                    synchronized (memories) {
                        all.remove();
                        noted(last);
                    }
                }
            };
        }
    }
}
