package com.aimatrix.engine.memory;

import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.spec.InstanceMemory;
import com.aimatrix.engine.v1.MemoryChange;
import com.aimatrix.engine.v1.MemoryEntry;
import com.aimatrix.engine.v1.MemoryImage;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.DoubleSupplier;
import java.util.function.Supplier;

/** Everything one instance remembers in this process. Its collections may be used by any thread of the handler. */
public final class InstanceMemories implements InstanceMemory {
    private final Map<String, Root> roots = new LinkedHashMap<>();
    private final DoubleSupplier now;
    private boolean dirty;
    private boolean watching;

    /**
     * Without memories yet.
     *
     * @param now the clock that memory expires by, in milliseconds
     */
    public InstanceMemories(DoubleSupplier now) {
        this.now = now;
    }

    /**
     * Adds a Map, Set, List, or a value behind a MemoryValue.
     *
     * @param spec of the memory
     * @param initial what it holds before it is ever written; of a MemoryValue, what that holds; may be null
     * @return what the agent's field shall hold
     */
    public Object attach(MemorySpec spec, Object initial) {
        Collection<?> items = initial instanceof Collection<?> some ? new ArrayList<>(some) : List.of();
        switch (spec.kind()) {
            case MEMORY_KIND_MAP -> {
                Map<?, ?> pairs = initial instanceof Map<?, ?> some ? new LinkedHashMap<>(some) : Map.of();
                MapRoot root = new MapRoot(this, spec, pairs);
                roots.put(spec.name(), root);
                return root.view();
            }
            case MEMORY_KIND_SET -> {
                SetRoot root = new SetRoot(this, spec, items);
                roots.put(spec.name(), root);
                return root.view();
            }
            case MEMORY_KIND_LIST -> {
                ListRoot root = new ListRoot(this, spec, items);
                roots.put(spec.name(), root);
                return root.view();
            }
            default -> {
                Object value = initial instanceof MemoryValue<?> holder ? holder.get() : initial;
                ValueRoot root = new ValueRoot(this, spec, value, null);
                roots.put(spec.name(), root);
                return new MemoryValue<>(root);
            }
        }
    }

    /**
     * Adds a value in a plain field.
     *
     * @param spec of the memory
     * @param read what the field holds
     * @param write what it shall hold
     */
    public void attachField(MemorySpec spec, Supplier<Object> read, Consumer<Object> write) {
        ValueRoot.FieldAccess access =
                new ValueRoot.FieldAccess() {
                    @Override
                    public Object get() {
                        return read.get();
                    }

                    @Override
                    public void set(Object value) {
                        write.accept(value);
                    }
                };
        roots.put(spec.name(), new ValueRoot(this, spec, read.get(), access));
        watching = true;
    }

    /** A handler begins: what has expired is dropped. The engine expires it by itself, so this is no change. */
    public synchronized void begin() {
        double at = now.getAsDouble();
        for (Root root : roots.values()) {
            root.dropExpired(at);
        }
    }

    /**
     * Gives a single value a lifetime of its own, which starts now.
     *
     * @param name of the memory
     * @param millis at least 1
     * @throws InvalidInputException if there is no such value
     */
    public synchronized void expire(String name, long millis) {
        if (!(roots.get(name) instanceof ValueRoot root)) {
            throw new InvalidInputException(
                    roots.containsKey(name)
                            ? "memory '" + name + "' has entries; say which one expires: Memories.expire(" + name
                                    + ", item, ttl)"
                            : "there is no memory '" + name + "'; there are: " + String.join(", ", roots.keySet()),
                    "name");
        }
        root.expire(null, millis);
    }

    double now() {
        return now.getAsDouble();
    }

    /** There may be something to commit. */
    void touched() {
        dirty = true;
    }

    @Override
    public synchronized void load(List<MemoryImage> image, long imageVersion) {
        Map<String, List<MemoryEntry>> stored = new HashMap<>();
        for (MemoryImage one : image) {
            stored.put(one.getName(), one.getEntriesList());
        }
        for (Root root : roots.values()) {
            boolean fresh = imageVersion == 0 || !root.spec.persistent();
            root.load(stored.getOrDefault(root.spec.name(), List.of()), fresh);
        }
        dirty = false;
    }

    @Override
    public synchronized boolean changed() {
        if (!dirty && !watching) {
            return false;
        }
        try {
            for (Root root : roots.values()) {
                if (root.changed()) {
                    dirty = true;
                    return true;
                }
            }
        } catch (RuntimeException error) {
            dirty = true;
            return true; // it has no JSON form any more: collecting says so
        }
        return false;
    }

    @Override
    public synchronized List<MemoryChange> collect() {
        List<MemoryChange> changes = new ArrayList<>();
        Map<Root, Map<Item, byte[]>> plan = new LinkedHashMap<>();
        for (Root root : roots.values()) {
            plan.put(root, root.encode());
        }
        plan.forEach((root, encoded) -> root.tell(encoded, changes));
        plan.forEach(Root::commit);
        dirty = false;
        return changes;
    }

    @Override
    public synchronized boolean rollback() {
        for (Root root : roots.values()) {
            root.rollback();
        }
        dirty = false;
        return true;
    }
}
