package com.aimatrix.engine.memory;

import java.util.AbstractSet;
import java.util.Collection;
import java.util.Iterator;
import java.util.Set;

/** A memory that is a Set. Members are told apart by their JSON, and must not be changed. */
final class SetRoot extends KeyedRoot {
    private static final byte[] NOTHING = new byte[0];

    private final Collection<?> initialContent;
    private final View view = new View();

    SetRoot(InstanceMemories memories, MemorySpec spec, Collection<?> initialContent) {
        super(memories, spec, "member");
        this.initialContent = initialContent;
    }

    Set<Object> view() {
        return view;
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
        entry = arrived(id, member);
        begin(entry, null);
        return true;
    }

    @Override
    byte[] encodeEntry(Item entry) {
        return NOTHING;
    }

    @Override
    void restoreStored(String id, byte[] value, double deadline) {
        Item entry = new Item(keyOf(id), id, 0);
        entry.decoded = true;
        entry.deadline = deadline;
        entries.put(id, entry);
    }

    @Override
    void fillInitial() {
        initialContent.forEach(this::add);
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
                allLeft();
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
