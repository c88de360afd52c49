package com.aimatrix.engine.memory;

import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Objects;

/** A memory that is one value: behind a MemoryValue, or in a plain field that is compared with what it was. */
final class ValueRoot extends Root {
    private final Object initialValue;
    private final byte[] initialEncoded; // of one that can change
    private final FieldAccess field; // null: behind a MemoryValue
    private Item entry;

    /** A plain field of an agent's object. */
    interface FieldAccess {
        Object get();

        void set(Object value);
    }

    ValueRoot(InstanceMemories memories, MemorySpec spec, Object initialValue, FieldAccess field) {
        super(memories, spec, false);
        this.field = field;
        boolean fixed = Immutables.is(initialValue);
        this.initialValue = fixed ? initialValue : null;
        this.initialEncoded = fixed ? null : codec.encode(initialValue, spec.name());
        reset();
    }

    Object get() {
        return value(entry);
    }

    void set(Object value) {
        write(entry, value);
    }

    /** Looks at the plain field. */
    @Override
    void sync() {
        if (field == null) {
            return;
        }
        Object now = field.get();
        if (Immutables.is(now)) {
            if (!entry.decoded && Immutables.is(value(entry)) && Objects.equals(entry.live, now)) {
                return;
            }
            if (!entry.decoded || !Immutables.is(entry.live) || !Objects.equals(entry.live, now)) {
                write(entry, now);
            }
        } else if (!(entry.decoded && entry.live == now && entry.encoded == null)
                && !Arrays.equals(codec.encode(now, spec.name()), entry.encoded)) {
            write(entry, now);
        }
    }

    @Override
    void show() {
        if (field != null) {
            boolean kept = entry.encoded != null;
            Object value = kept ? codec.decode(entry.encoded, spec.name()) : entry.live;
            if (kept && Immutables.is(value)) {
                entry.live = value;
                entry.decoded = true;
                entry.encoded = null;
            }
            field.set(value);
        }
    }

    @Override
    boolean changed() {
        sync();
        return super.changed();
    }

    @Override
    boolean watched() {
        return field != null;
    }

    @Override
    Collection<Item> entries() {
        return List.of(entry);
    }

    @Override
    void reset() {
        entry = new Item(null, "", 0);
        entry.encoded = initialEncoded;
        entry.live = initialValue;
        entry.decoded = initialEncoded == null;
    }

    @Override
    void restoreStored(String id, byte[] value, double deadline) {
        entry.encoded = value;
        entry.live = null;
        entry.decoded = false;
        entry.deadline = deadline;
    }

    @Override
    void fillInitial() {}

    @Override
    void forget(Item expired) {
        reset();
        show();
    }

    @Override
    void evict(int limit) {}

    @Override
    void undoStructure() {}

    @Override
    void settleStructure() {}

    @Override
    Item entryFor(Object item) {
        sync();
        return entry;
    }
}
