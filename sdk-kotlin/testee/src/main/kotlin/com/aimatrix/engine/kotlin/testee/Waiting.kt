// Handlers that wait until somebody releases or cancels them, in this process.

package com.aimatrix.engine.kotlin.testee

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicInteger

object Waiting {
    private val waiting: MutableSet<CompletableDeferred<String>> = ConcurrentHashMap.newKeySet()
    private val stopped = AtomicInteger()

    /** How many were cancelled. */
    val cancelled: Int get() = stopped.get()

    /** Waits; counts a cancellation and lets it through. */
    suspend fun here(): String {
        val released = CompletableDeferred<String>()
        waiting += released
        try {
            return released.await()
        } catch (cancelled: CancellationException) {
            stopped.incrementAndGet()
            throw cancelled
        } finally {
            waiting -= released
        }
    }

    /** Releases all that wait. Returns how many. */
    fun release(): Int = waiting.toList().count { it.complete("released") }
}
