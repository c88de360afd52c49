package com.aimatrix.engine.memory;

import com.aimatrix.engine.authoring.Durations;
import java.time.Duration;
import java.util.function.UnaryOperator;

/**
 * One value that an instance remembers, for final fields: {@code @Memory(persistent = true) private final
 * MemoryValue<Integer> total = new MemoryValue<>(0);}. Of an object that no engine hosts it is a plain holder.
 *
 * @param <T> type of the value
 */
public final class MemoryValue<T> {
    private final ValueRoot root;
    private T own;

    /**
     * With an initial value.
     *
     * @param initial may be null
     */
    public MemoryValue(T initial) {
        this.root = null;
        this.own = initial;
    }

    MemoryValue(ValueRoot root) {
        this.root = root;
    }

    /**
     * What is remembered.
     *
     * @return the handler's own until it ends: what it changes inside is noticed
     */
    @SuppressWarnings("unchecked")
    public T get() {
        if (root == null) {
            return own;
        }
        synchronized (root.memories) {
            return (T) root.get();
        }
    }

    /**
     * Remembers this from now on.
     *
     * @param value may be null
     */
    public void set(T value) {
        if (root == null) {
            own = value;
            return;
        }
        synchronized (root.memories) {
            root.set(value);
        }
    }

    /**
     * Remembers what a function makes of it.
     *
     * @param change old to new
     * @return the new one
     */
    public T update(UnaryOperator<T> change) {
        T value = change.apply(get());
        set(value);
        return value;
    }

    /**
     * Gives it a lifetime of its own, which starts now; it becomes the initial value again. The next write without one
     * ends it. Of an object that no engine hosts, does nothing.
     *
     * @param ttl positive
     */
    public void expire(Duration ttl) {
        long millis = Durations.positive(ttl, "ttl");
        if (root != null) {
            synchronized (root.memories) {
                root.expire(null, millis);
            }
        }
    }

    @Override
    public String toString() {
        return String.valueOf(get());
    }
}
