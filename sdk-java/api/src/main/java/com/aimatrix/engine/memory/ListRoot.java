package com.aimatrix.engine.memory;

import java.util.AbstractList;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.List;

/** A memory that is a List. Entries are numbered in order, with gaps, so that most changes touch few of them. */
final class ListRoot extends Root {
    private final Collection<?> initialContent;
    private List<Item> list = new ArrayList<>();
    /** Entries at the last commit; kept from the first change on that is not an append. */
    private List<Item> snapshot;
    /** Length at the last commit. */
    private int base;
    private final View view = new View();

    ListRoot(InstanceMemories memories, MemorySpec spec, Collection<?> initialContent) {
        super(memories, spec, false);
        this.initialContent = initialContent;
    }

    List<Object> view() {
        return view;
    }

    private static Item numbered(long number) {
        return new Item(null, Long.toString(number), number);
    }

    private void append(Object value) {
        Item entry = numbered(list.isEmpty() ? 0 : list.get(list.size() - 1).ordinal + 1);
        list.add(entry);
        begin(entry, value);
    }

    private void insert(int index, Object value) {
        if (index == list.size()) {
            append(value);
            return;
        }
        beforeStructure();
        Item entry = numbered(numberBefore(index));
        list.add(index, entry);
        begin(entry, value);
    }

    private Object removeAt(int index) {
        Object old = value(list.get(index));
        dropAt(index);
        return old;
    }

    private void dropAt(int index) {
        beforeStructure();
        take(list.remove(index));
    }

    /** A free number for a new entry before `index`; entries after it move up if there is none. */
    private long numberBefore(int index) {
        long high = list.get(index).ordinal;
        if (index == 0) {
            return high - 1;
        }
        long low = list.get(index - 1).ordinal;
        if (high - low > 1) {
            return low + (high - low) / 2;
        }
        long needed = low + 2;
        List<Item> moved = new ArrayList<>();
        List<Object> values = new ArrayList<>();
        int end = index;
        while (end < list.size() && list.get(end).ordinal < needed) {
            Item old = list.get(end);
            Item next = numbered(needed++);
            next.deadline = old.deadline;
            moved.add(next);
            values.add(value(old));
            end++;
        }
        for (int position = index; position < end; position++) {
            take(list.get(position));
        }
        for (int position = index; position < end; position++) {
            Item next = moved.get(position - index);
            double deadline = next.deadline;
            list.set(position, next);
            begin(next, values.get(position - index));
            next.deadline = deadline;
        }
        return low + 1;
    }

    private void beforeStructure() {
        if (snapshot == null) {
            snapshot = new ArrayList<>(list.subList(0, base));
        }
    }

    @Override
    Collection<Item> entries() {
        return list;
    }

    @Override
    void reset() {
        list = new ArrayList<>();
        snapshot = null;
        base = 0;
    }

    @Override
    void restoreStored(String id, byte[] value, double deadline) {
        Item entry = numbered(Long.parseLong(id));
        entry.encoded = value;
        entry.deadline = deadline;
        list.add(entry);
    }

    @Override
    void fillInitial() {
        initialContent.forEach(this::append);
    }

    @Override
    void forget(Item entry) {
        list.remove(entry);
    }

    @Override
    void evict(int limit) {
        while (list.size() > limit) {
            dropAt(0);
        }
    }

    @Override
    void undoStructure() {
        if (snapshot != null) {
            list = snapshot;
            snapshot = null;
        } else {
            list.subList(base, list.size()).clear();
        }
    }

    @Override
    void settleStructure() {
        list.sort(Comparator.comparingLong(entry -> entry.ordinal)); // as they came from the engine, too
        snapshot = null;
        base = list.size();
    }

    @Override
    Item entryFor(Object item) {
        int index = item instanceof Integer number ? number : -1;
        if (index < 0 || index >= list.size()) {
            throw none(item);
        }
        return list.get(index);
    }

    /** A List in every respect, whose changes are noticed. */
    private final class View extends AbstractList<Object> implements Rooted {
        @Override
        public Root root() {
            return ListRoot.this;
        }

        @Override
        public int size() {
            synchronized (memories) {
                return list.size();
            }
        }

        @Override
        public Object get(int index) {
            synchronized (memories) {
                return value(list.get(index));
            }
        }

        @Override
        public Object set(int index, Object value) {
            synchronized (memories) {
                Item entry = list.get(index);
                Object old = value(entry);
                write(entry, value);
                return old;
            }
        }

        @Override
        public void add(int index, Object value) {
            synchronized (memories) {
                if (index < 0 || index > list.size()) {
                    throw new IndexOutOfBoundsException("index " + index + " of a list of " + list.size());
                }
                modCount++;
                insert(index, value);
            }
        }

        @Override
        public Object remove(int index) {
            synchronized (memories) {
                Object old = removeAt(index);
                modCount++;
                return old;
            }
        }

        @Override
        protected void removeRange(int from, int to) {
            synchronized (memories) {
                modCount++;
                boolean all = from == 0 && to == list.size() && to > 0;
                for (int index = to - 1; index >= from; index--) {
                    dropAt(index);
                }
                if (all) {
                    tookAll();
                }
            }
        }
    }
}
