package com.aimatrix.engine.host;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.spec.AgentInstance;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.InstanceMemory;
import com.aimatrix.engine.v1.MemoryImage;
import java.util.ArrayDeque;
import java.util.List;
import java.util.function.DoubleSupplier;

/**
 * An instance placed in this process under one epoch: its object, the version of its memory, and whose turn it is.
 *
 * <p>Turns (`busy`, `waiting`) belong to the link's thread. The object and its memory are made and loaded by the thread
 * of the handler that needs them, under the monitor of this.
 */
final class Activation {
    static final long ANY_VERSION = -1;

    final AgentSpec agent;
    final String key;
    final long epoch;
    /** A handler that may change memory runs. */
    boolean busy;
    /** What came meanwhile, in order. */
    final ArrayDeque<Run> waiting = new ArrayDeque<>();

    private final DoubleSupplier now;
    private AgentInstance instance;
    private boolean current; // object and memory are there
    private long version; // of the memory, as the engine counts it
    private List<MemoryImage> image; // came, and is not loaded yet
    private long imageVersion;

    Activation(AgentSpec agent, String key, long epoch, DoubleSupplier now) {
        this.agent = agent;
        this.key = key;
        this.epoch = epoch;
        this.now = now;
    }

    /** Takes a memory image in; it is loaded when it is next needed. */
    synchronized void hold(List<MemoryImage> memories, long memoryVersion) {
        image = memories;
        imageVersion = memoryVersion;
        current = false;
    }

    /** The memory here is not what the engine has: the next invocation must bring it. */
    synchronized void drop() {
        image = null;
        current = false;
    }

    /** Something that cannot be stopped still uses the object: the next invocation gets a new one. */
    synchronized void abandon() {
        drop();
        instance = null;
    }

    /** Whether object and memory are there, and are these. */
    synchronized boolean holds(AgentInstance other) {
        return current && instance == other;
    }

    /** Whether object and memory are there. */
    synchronized boolean current() {
        return current;
    }

    /** The engine has, or will have, the changes of a handler. */
    synchronized void committed() {
        version++;
    }

    /**
     * Makes the activation current. wanted: the version that the engine says the memory is at, or ANY_VERSION.
     *
     * <p>Throws AmxException MEMORY_NOT_HELD if that is not here, and whatever the agent's constructor throws.
     */
    synchronized AgentInstance prepare(long wanted) {
        if (instance == null) {
            instance = agent.createInstance(key, now);
        }
        InstanceMemory memory = instance.memory();
        if (memory == null) {
            current = true;
            return instance;
        }
        if (image != null) {
            List<MemoryImage> loaded = image;
            image = null;
            memory.load(loaded, imageVersion);
            version = imageVersion;
            current = true;
        } else if (!current && wanted == 0) {
            // Nothing was ever remembered, so there is nothing to bring.
            memory.load(List.of(), 0);
            version = 0;
            current = true;
        }
        if (!current || (wanted != ANY_VERSION && version != wanted)) {
            drop();
            throw new AmxException.Facts(
                            Code.FAILED_PRECONDITION,
                            "MEMORY_NOT_HELD",
                            "this process does not hold version " + (wanted == ANY_VERSION ? "any" : wanted)
                                    + " of the memory of " + agent.definition().getName() + "/" + key
                                    + "; send it again")
                    .retryable(true)
                    .exception();
        }
        return instance;
    }

    /** As prepare(wanted), for a handler that runs beside others: it takes the memory as it is now. */
    synchronized AgentInstance join() {
        return current ? instance : prepare(image != null ? ANY_VERSION : 0);
    }
}
