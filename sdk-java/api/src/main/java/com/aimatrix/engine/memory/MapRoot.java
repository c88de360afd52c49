package com.aimatrix.engine.memory;

import java.util.AbstractMap;
import java.util.AbstractSet;
import java.util.Iterator;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentMap;

/** A memory that is a Map. Keys are told apart by their JSON: 1 and "1" are two keys, equal objects are one. */
final class MapRoot extends KeyedRoot {
    private final Map<?, ?> initialContent;
    private final View view = new View();

    MapRoot(InstanceMemories memories, MemorySpec spec, Map<?, ?> initialContent) {
        super(memories, spec, "key");
        this.initialContent = initialContent;
    }

    /** What the agent sees. */
    Map<Object, Object> view() {
        return view;
    }

    private Object put(Object key, Object value) {
        String id = id(key);
        Item entry = entries.get(id);
        if (entry != null) {
            Object old = value(entry);
            write(entry, value);
            return old;
        }
        entry = arrived(id, key);
        begin(entry, value);
        return null;
    }

    private Object removeEntry(Item entry) {
        Object old = value(entry);
        entries.remove(entry.id);
        noted(entry);
        return old;
    }

    @Override
    void restoreStored(String id, byte[] value, double deadline) {
        Item entry = new Item(keyOf(id), id, 0);
        entry.encoded = value;
        entry.deadline = deadline;
        entries.put(id, entry);
    }

    @Override
    void fillInitial() {
        initialContent.forEach(this::put);
    }

    /** A Map in every respect, whose changes are noticed. */
    private final class View extends AbstractMap<Object, Object> implements ConcurrentMap<Object, Object>, Rooted {
        @Override
        public Root root() {
            return MapRoot.this;
        }

        @Override
        public int size() {
            synchronized (memories) {
                return entries.size();
            }
        }

        @Override
        public boolean containsKey(Object key) {
            synchronized (memories) {
                return entries.containsKey(id(key));
            }
        }

        @Override
        public Object get(Object key) {
            synchronized (memories) {
                Item entry = entries.get(id(key));
                if (entry == null) {
                    return null;
                }
                used(entry);
                return value(entry);
            }
        }

        @Override
        public Object getOrDefault(Object key, Object otherwise) {
            synchronized (memories) {
                return containsKey(key) ? get(key) : otherwise;
            }
        }

        @Override
        public Object put(Object key, Object value) {
            synchronized (memories) {
                return MapRoot.this.put(key, value);
            }
        }

        @Override
        public Object remove(Object key) {
            synchronized (memories) {
                Item entry = entries.get(id(key));
                return entry == null ? null : removeEntry(entry);
            }
        }

        @Override
        public void clear() {
            synchronized (memories) {
                allLeft();
            }
        }

        @Override
        public Object putIfAbsent(Object key, Object value) {
            synchronized (memories) {
                Object old = get(key);
                return old == null ? put(key, value) : old;
            }
        }

        @Override
        public boolean remove(Object key, Object value) {
            synchronized (memories) {
                if (!containsKey(key) || !Objects.equals(get(key), value)) {
                    return false;
                }
                remove(key);
                return true;
            }
        }

        @Override
        public boolean replace(Object key, Object old, Object value) {
            synchronized (memories) {
                if (!containsKey(key) || !Objects.equals(get(key), old)) {
                    return false;
                }
                put(key, value);
                return true;
            }
        }

        @Override
        public Object replace(Object key, Object value) {
            synchronized (memories) {
                return containsKey(key) ? put(key, value) : null;
            }
        }

        @Override
        public Set<Map.Entry<Object, Object>> entrySet() {
            return new AbstractSet<>() {
                @Override
                public int size() {
                    return View.this.size();
                }

                @Override
                public void clear() {
                    View.this.clear();
                }

                @Override
                public Iterator<Map.Entry<Object, Object>> iterator() {
                    Iterator<Item> all = entries.values().iterator();
                    return new Iterator<>() {
                        private Item last;

                        @Override
                        public boolean hasNext() {
                            return all.hasNext();
                        }

                        @Override
                        public Map.Entry<Object, Object> next() {
                            last = all.next();
                            return new Pair(last);
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
            };
        }
    }

    /** One entry, as iterations see it: it is not used by that. */
    private final class Pair implements Map.Entry<Object, Object> {
        private final Item entry;

        Pair(Item entry) {
            this.entry = entry;
        }

        @Override
        public Object getKey() {
            return entry.key;
        }

        @Override
        public Object getValue() {
            synchronized (memories) {
                return value(entry);
            }
        }

        @Override
        public Object setValue(Object value) {
            synchronized (memories) {
                Object old = value(entry);
                write(entry, value);
                return old;
            }
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Map.Entry<?, ?> pair
                    && Objects.equals(getKey(), pair.getKey())
                    && Objects.equals(getValue(), pair.getValue());
        }

        @Override
        public int hashCode() {
            return Objects.hashCode(getKey()) ^ Objects.hashCode(getValue());
        }

        @Override
        public String toString() {
            return getKey() + "=" + getValue();
        }
    }
}
