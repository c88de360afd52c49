// The memory of an instance, from outside.

package com.aimatrix.engine.kotlin

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.runInterruptible
import com.aimatrix.engine.RemoteMemory as JavaRemoteMemory

/** The memory of one instance, from outside, as it is committed. Calls end with [AmxException] and the engine's reason. */
public class RemoteMemory internal constructor(private val java: JavaRemoteMemory) {
    /** A whole memory: a value, or a map, set or list; of more than 10,000 entries, those. Null: there is nothing. */
    public suspend fun get(memory: String): Any? = io { java.get(memory) }

    /** One entry: of a map, the value; of a set, the member; of a list, the item of an index. Null: there is none. */
    public suspend fun get(memory: String, item: Any): Any? = io { java.get(memory, item) }

    /** Whether there is such an entry. */
    public suspend fun has(memory: String, item: Any): Boolean = io { java.has(memory, item) }

    /** Writes a memory that is one value. Returns the new version. */
    public suspend fun set(memory: String, value: Any?): Long = io { java.set(memory, value) }

    /** Writes one entry. Returns the new version. */
    public suspend fun put(memory: String, item: Any, value: Any?): Long = io { java.put(memory, item, value) }

    /** Removes one entry. Returns whether there was one. */
    public suspend fun remove(memory: String, item: Any): Boolean = io { java.remove(memory, item) }

    private suspend fun <T> io(body: () -> T): T = runInterruptible(Dispatchers.IO, body)
}
