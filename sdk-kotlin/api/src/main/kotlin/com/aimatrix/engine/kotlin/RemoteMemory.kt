// The memory of an instance, from outside.

package com.aimatrix.engine.kotlin

import kotlinx.coroutines.future.await
import com.aimatrix.engine.RemoteMemory as JavaRemoteMemory

/** The memory of one instance, from outside, as it is committed. Calls end with [AmxException] and the engine's reason. */
public class RemoteMemory internal constructor(private val java: JavaRemoteMemory) {
    /** A whole memory: a value, or a map, set or list; of more than 10,000 entries, those. Null: there is nothing. */
    public suspend fun get(memory: String): Any? = java.getAsync(memory).await()

    /** One entry: of a map, the value; of a set, the member; of a list, the item of an index. Null: there is none. */
    public suspend fun get(memory: String, item: Any): Any? = java.getAsync(memory, item).await()

    /** Whether there is such an entry. */
    public suspend fun has(memory: String, item: Any): Boolean = java.hasAsync(memory, item).await()

    /** Writes a memory that is one value. Returns the new version. */
    public suspend fun set(memory: String, value: Any?): Long = java.setAsync(memory, value).await()

    /** Writes one entry. Returns the new version. */
    public suspend fun put(memory: String, item: Any, value: Any?): Long = java.putAsync(memory, item, value).await()

    /** Removes one entry. Returns whether there was one. */
    public suspend fun remove(memory: String, item: Any): Boolean = java.removeAsync(memory, item).await()
}
