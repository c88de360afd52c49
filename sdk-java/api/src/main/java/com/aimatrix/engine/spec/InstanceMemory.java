package com.aimatrix.engine.spec;

import com.aimatrix.engine.v1.MemoryChange;
import com.aimatrix.engine.v1.MemoryImage;
import java.util.List;

/**
 * The memories of one instance, tracked. Versions are counted by the host, which calls `load` first, then, after each
 * handler that ran alone, either `collect` (it succeeded) or `rollback` (it failed) if `changed`. Called by one thread
 * at a time; each sees what the ones before did.
 */
public interface InstanceMemory {
    /**
     * Forgets everything, and begins with this image; a memory that the image lacks is empty or has its initial value.
     *
     * @param image of every memory
     * @param version of the image; 0: the instance has never remembered anything, so all have their initial value
     */
    void load(List<MemoryImage> image, long version);

    /**
     * Whether there may be anything to collect: something was written or removed, or was handed out and is no longer
     * what it was. Asked after every run; must be cheap.
     *
     * @return whether there may be
     */
    boolean changed();

    /**
     * What changed since `load`, the last `collect` or the last `rollback`, in order; takes that for committed.
     *
     * @return may be empty
     * @throws com.aimatrix.engine.errors.AmxException INVALID_MEMORY_CHANGE, INVALID_OUTPUT if a value has no JSON form;
     *     the memory is dropped then: `load` comes next
     */
    List<MemoryChange> collect();

    /**
     * Undoes what changed since then.
     *
     * @return false if it cannot: the memory is dropped, and `load` comes next
     */
    boolean rollback();
}
