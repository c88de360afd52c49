package com.aimatrix.engine.memory;

import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.v1.MemoryChange;
import com.aimatrix.engine.v1.MemoryEntry;
import com.aimatrix.engine.v1.MemoryKind;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * One memory of one instance: what changed since the last commit, and what it takes to undo that. What a handler gets
 * out of it is its own until it ends: values that can change are compared with what they were, and decoded anew for the
 * next handler.
 */
abstract class Root {
    private static final Pattern ORDINAL = Pattern.compile("-?\\d+");

    final InstanceMemories memories;
    final MemorySpec spec;
    final Codec codec;
    /** Of a bounded map or set; else null. */
    final Recency recency;

    private boolean cleared;
    private final Set<Item> dirty = new LinkedHashSet<>();
    private final Set<String> removed = new LinkedHashSet<>();
    private final List<Item> gone = new ArrayList<>();
    private final Map<Item, Saved> saved = new IdentityHashMap<>();
    /** Handed out, and able to change without telling. */
    private final Set<Item> lent = new LinkedHashSet<>();
    /** Of the initial value, never committed. */
    private final Set<Item> initial = new LinkedHashSet<>();
    private double soonest = Double.POSITIVE_INFINITY;

    private record Saved(Object live, boolean decoded, byte[] encoded, double deadline) {}

    Root(InstanceMemories memories, MemorySpec spec, boolean bounded) {
        this.memories = memories;
        this.spec = spec;
        this.codec = spec.codec();
        this.recency = bounded && spec.maxEntries() > 0 ? new Recency() : null;
    }

    /** Every entry. */
    abstract Collection<Item> entries();

    /** Empties it, unnoticed. */
    abstract void reset();

    /** Takes a stored entry, unnoticed. */
    abstract void restoreStored(String id, byte[] value, double deadline);

    /** Puts the initial content into the empty memory, each entry by `begin`. */
    abstract void fillInitial();

    /** Drops an expired entry, unnoticed. */
    abstract void forget(Item entry);

    /** Removes entries until `limit` are left, least recently used first. */
    abstract void evict(int limit);

    /** Brings back the entries there were at the last commit; their values follow. */
    abstract void undoStructure();

    /** The structure is the new ground for undoing. */
    abstract void settleStructure();

    /** The entry of a key, a member or an index. Throws InvalidInputException if there is none. */
    abstract Item entryFor(Object item);

    /** Looks for changes that nobody told of. */
    void sync() {}

    /** Shows the agent what there is now, where it has a copy. */
    void show() {}

    /** Whether it changes without telling. */
    boolean watched() {
        return false;
    }

    // --- what kinds of memory call ----------------------------------------------------------------------------------

    /** The value of a live entry. */
    final Object value(Item entry) {
        if (!entry.decoded) {
            entry.live = codec.decode(entry.encoded, place(entry));
            entry.decoded = true;
            if (Immutables.is(entry.live)) {
                entry.encoded = null;
            }
        }
        if (entry.encoded != null && !dirty.contains(entry) && lent.add(entry)) {
            memories.touched();
        }
        return entry.live;
    }

    final void used(Item entry) {
        if (recency != null) {
            recency.use(entry);
        }
    }

    /** `entry` has another value, and lives as long as the memory says. */
    final void write(Item entry, Object value) {
        save(entry);
        entry.live = value;
        entry.decoded = true;
        entry.encoded = null;
        lent.remove(entry);
        wrote(entry);
    }

    private void wrote(Item entry) {
        dirty.add(entry);
        removed.remove(entry.id);
        expireAt(entry, spec.ttlMs() > 0 ? memories.now() + spec.ttlMs() : 0);
        used(entry);
        memories.touched();
    }

    private void expireAt(Item entry, double deadline) {
        entry.deadline = deadline;
        if (deadline > 0) {
            soonest = Math.min(soonest, deadline);
        }
    }

    /** A new entry with a value. */
    final void begin(Item entry, Object value) {
        entry.fresh = true;
        write(entry, value);
    }

    /** `entry` is removed. */
    final void take(Item entry) {
        save(entry);
        entry.dead = true;
        gone.add(entry);
        dirty.remove(entry);
        lent.remove(entry);
        removed.add(entry.id);
        memories.touched();
    }

    /** Everything was removed, each entry by `take`. */
    final void tookAll() {
        if (initial.isEmpty()) {
            cleared = true;
            removed.clear();
        }
    }

    private void save(Item entry) {
        if (!entry.fresh && !saved.containsKey(entry)) {
            // Of a value that can change only what was committed counts.
            boolean changes = entry.encoded != null;
            saved.put(entry, new Saved(changes ? null : entry.live, !changes, entry.encoded, entry.deadline));
        }
    }

    /** Gives an entry a lifetime of its own, which starts now. */
    final void expire(Object item, long millis) {
        Item entry = entryFor(item);
        if (!dirty.contains(entry)) {
            Object value = value(entry);
            byte[] encoded = entry.encoded;
            write(entry, value);
            entry.encoded = encoded;
        }
        expireAt(entry, memories.now() + millis);
    }

    final String place(Item entry) {
        return entry.id.isEmpty() ? spec.name() : spec.name() + "[" + entry.id + "]";
    }

    final InvalidInputException none(Object item) {
        return new InvalidInputException("memory '" + spec.name() + "' has no entry " + item, "item");
    }

    // --- what the instance calls ------------------------------------------------------------------------------------

    /** Loads what was stored, or the initial value. */
    void load(List<MemoryEntry> stored, boolean fresh) {
        reset();
        forgetChanges();
        initial.clear();
        soonest = Double.POSITIVE_INFINITY;
        double now = memories.now();
        boolean any = false;
        for (MemoryEntry one : stored) {
            any = true;
            requireEntry(one.getId());
            double deadline = one.getExpiresInMs() > 0 ? now + one.getExpiresInMs() : 0;
            restoreStored(one.getId(), one.getValue().toByteArray(), deadline);
            if (deadline > 0) {
                soonest = Math.min(soonest, deadline);
            }
        }
        if (!any && fresh) {
            fill();
        }
        settleStructure();
        if (recency != null) {
            recency.load(entries());
        }
        show();
    }

    /** A memory of this kind has entries with such ids; another class may have stored it under the name. */
    private void requireEntry(String id) {
        boolean fits =
                spec.kind() == MemoryKind.MEMORY_KIND_LIST
                        ? ORDINAL.matcher(id).matches()
                        : id.isEmpty() == (spec.kind() == MemoryKind.MEMORY_KIND_VALUE);
        if (!fits) {
            throw new InvalidInputException(
                    "memory '" + spec.name() + "' was of another kind before; give it another name, or remove what is"
                            + " remembered (`amx memory`)",
                    spec.name());
        }
    }

    /** Takes the initial value; stored with the first commit, and not a reason for one. */
    final void fill() {
        fillInitial();
        Map<Item, byte[]> written = new LinkedHashMap<>();
        for (Item entry : dirty) {
            initial.add(entry);
            written.put(entry, encodeEntry(entry));
        }
        settle(written);
        forgetChanges();
    }

    /** Whether something was written or removed, or is no longer what it was when it was handed out. */
    boolean changed() {
        if (!dirty.isEmpty() || !removed.isEmpty() || cleared || !gone.isEmpty()) {
            return true;
        }
        for (Item entry : lent) {
            if (!Arrays.equals(encodeEntry(entry), entry.encoded)) {
                return true;
            }
        }
        return false;
    }

    /** The entries to write, encoded. Throws InvalidInputException naming the entry. */
    final Map<Item, byte[]> encode() {
        sync();
        if (spec.maxEntries() > 0) {
            evict(spec.maxEntries());
        }
        Map<Item, byte[]> encoded = new LinkedHashMap<>();
        for (Set<Item> some : List.of(initial, dirty)) {
            for (Item entry : some) {
                if (!entry.dead) {
                    encoded.put(entry, entry.decoded ? encodeEntry(entry) : entry.encoded);
                }
            }
        }
        for (Item entry : lent) {
            if (!encoded.containsKey(entry)) {
                byte[] now = encodeEntry(entry);
                if (!Arrays.equals(now, entry.encoded)) {
                    encoded.put(entry, now);
                    // A detail that changes renews the memory's lifetime, and keeps the entry's own.
                    if (spec.ttlMs() > 0) {
                        expireAt(entry, memories.now() + spec.ttlMs());
                    }
                }
            }
        }
        return encoded;
    }

    /** Tells the engine. */
    final void tell(Map<Item, byte[]> encoded, List<MemoryChange> changes) {
        String name = spec.name();
        if (encoded.isEmpty() && removed.isEmpty() && !cleared) {
            return; // reads are told with the next changes
        }
        if (cleared) {
            changes.add(MemoryChange.newBuilder().setName(name).setClear(true).build());
        }
        for (String id : removed) {
            changes.add(MemoryChange.newBuilder().setName(name).setRemove(id).build());
        }
        double now = memories.now();
        Map<Item, byte[]> steps = recency == null ? encoded : recency.steps(encoded);
        steps.forEach(
                (entry, value) -> {
                    if (value == null) {
                        changes.add(MemoryChange.newBuilder().setName(name).setTouch(entry.id).build());
                        return;
                    }
                    long left = entry.deadline == 0 ? 0 : Math.max(1, Math.round(entry.deadline - now));
                    ByteString data = UnsafeByteOperations.unsafeWrap(value);
                    changes.add(
                            MemoryChange.newBuilder()
                                    .setName(name)
                                    .setPut(
                                            MemoryEntry.newBuilder()
                                                    .setId(entry.id)
                                                    .setValue(data)
                                                    .setExpiresInMs(left))
                                    .build());
                });
    }

    /** What `tell` said is the new ground for changes and undoing. */
    final void commit(Map<Item, byte[]> encoded) {
        settle(encoded);
        for (Item entry : lent) {
            if (!encoded.containsKey(entry)) {
                detach(entry);
            }
        }
        if (recency != null && !(encoded.isEmpty() && removed.isEmpty() && !cleared)) {
            recency.commit(gone);
        }
        initial.clear();
        forgetChanges();
        settleStructure();
    }

    /** Undoes everything since the last commit. */
    void rollback() {
        for (Item entry : gone) {
            entry.dead = false;
        }
        undoStructure();
        for (Item entry : lent) {
            detach(entry);
        }
        saved.forEach(
                (entry, was) -> {
                    entry.live = was.live;
                    entry.decoded = was.decoded;
                    entry.encoded = was.encoded;
                    entry.deadline = was.deadline;
                });
        forgetChanges();
        Set<Item> alive = Collections.newSetFromMap(new IdentityHashMap<>());
        for (Item entry : entries()) {
            alive.add(entry);
            if (entry.deadline > 0) {
                soonest = Math.min(soonest, entry.deadline);
            }
        }
        if (recency != null) {
            recency.undo(alive);
        }
        show();
    }

    /** Drops what has expired, unless there is something to commit. The engine expires it by itself: no change. */
    final void dropExpired(double now) {
        if (now < soonest || !dirty.isEmpty() || !removed.isEmpty() || !gone.isEmpty() || !lent.isEmpty()) {
            return;
        }
        soonest = Double.POSITIVE_INFINITY;
        for (Item entry : new ArrayList<>(entries())) {
            if (entry.deadline == 0) {
                continue;
            }
            if (entry.deadline <= now) {
                if (recency != null) {
                    recency.forget(entry);
                }
                initial.remove(entry);
                forget(entry);
            } else {
                soonest = Math.min(soonest, entry.deadline);
            }
        }
        settleStructure();
    }

    /** As it is stored. */
    byte[] encodeEntry(Item entry) {
        return codec.encode(entry.live, place(entry));
    }

    private void settle(Map<Item, byte[]> written) {
        written.forEach(
                (entry, data) -> {
                    entry.fresh = false;
                    if (!entry.decoded || Immutables.is(entry.live)) {
                        return;
                    }
                    entry.encoded = data;
                    detach(entry);
                });
    }

    /** What the handler has of it is no longer the memory's. */
    private static void detach(Item entry) {
        if (entry.encoded != null) {
            entry.live = null;
            entry.decoded = false;
        }
    }

    private void forgetChanges() {
        cleared = false;
        dirty.clear();
        removed.clear();
        gone.clear();
        saved.clear();
        lent.clear();
    }
}
