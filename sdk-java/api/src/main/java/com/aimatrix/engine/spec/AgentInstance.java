package com.aimatrix.engine.spec;

/** One instance in this process. Opaque to the host but for its memory. */
public interface AgentInstance {
    /**
     * Its memory.
     *
     * @return null: the agent has no memories; nothing is ever loaded or committed then
     */
    InstanceMemory memory();
}
