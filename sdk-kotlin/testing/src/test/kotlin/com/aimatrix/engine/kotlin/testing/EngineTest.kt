package com.aimatrix.engine.kotlin.testing

import com.aimatrix.engine.kotlin.Agent
import com.aimatrix.engine.kotlin.AmxEngine
import com.aimatrix.engine.kotlin.AmxException
import com.aimatrix.engine.kotlin.Context
import com.aimatrix.engine.kotlin.Handler
import com.aimatrix.engine.kotlin.memory
import com.aimatrix.engine.kotlin.memoryMap
import com.aimatrix.engine.kotlin.reason
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import kotlinx.coroutines.withTimeout
import kotlinx.serialization.Serializable
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.condition.EnabledIf
import kotlin.time.Duration.Companion.minutes
import kotlin.time.Duration.Companion.seconds

@Serializable
internal data class Parcel(val to: String, val grams: Int = 100)

@Agent
internal class Depot {
    private var handled by memory(0, persistent = true)
    private val parcels by memoryMap<String, Parcel>(persistent = true)

    @Handler
    suspend fun store(parcel: Parcel, context: Context): Int = withContext(Dispatchers.Default) {
        parcels[parcel.to] = parcel
        context.publish("parcels.stored", parcel)
        ++handled
    }

    @Handler
    fun stored(): Map<String, Parcel> = parcels

    @Handler
    fun labels(count: Int): Flow<String> = flow {
        try {
            repeat(count) { emit("label $it") }
        } finally {
            ended.complete("after the reader")
        }
    }

    @Handler
    suspend fun wait(): String = try {
        reached.complete(Unit)
        awaitCancellation()
    } finally {
        cancelled.complete("cancelled")
    }

    @Handler
    suspend fun forward(to: String, context: Context): Int = coroutineScope {
        val counts = listOf("a", "b").map { async { context.request<Int>("Depot/$to", Parcel(it)) { handler = "store" } } }
        counts.maxOf { it.await() }
    }

    companion object {
        var reached = CompletableDeferred<Unit>()
        var cancelled = CompletableDeferred<String>()
        var ended = CompletableDeferred<String>()
    }
}

/** Kotlin's agents and callers with a real engine; `make kotlin` names its program. */
@EnabledIf(value = "com.aimatrix.engine.testing.EmbeddedEngine#available", disabledReason = "no engine: AMX_COMMAND")
@WithEmbeddedEngine
class EngineTest {
    private fun with(engine: EmbeddedEngine, test: suspend (AmxEngine) -> Unit): Unit = runBlocking {
        engine.link { agent<Depot>() }.use { link ->
            link.start(60.seconds)
            withTimeout(2.minutes) { test(link) }
        }
    }

    @Test
    fun `values travel by their types`(engine: EmbeddedEngine) = with(engine) { link ->
        assertEquals(1, link.request<Int>("Depot/typed", Parcel("Ada", 7)) { handler = "store" })
        assertEquals(
            mapOf("Ada" to Parcel("Ada", 7)),
            link.request<Map<String, Parcel>>("Depot/typed") { handler = "stored" },
        )
        assertEquals(mapOf("to" to "Ada", "grams" to 7), link.memory("Depot/typed").get("parcels", "Ada"))
        assertNull(link.memory("Depot/typed").get("parcels", "Bob"))
    }

    @Test
    fun `a handler asks others at the same time`(engine: EmbeddedEngine) = with(engine) { link ->
        assertEquals(2, link.request<Int>("Depot/asking", "asked") { handler = "forward" })
    }

    @Test
    fun `a stream is read as far as it is wanted`(engine: EmbeddedEngine) = with(engine) { link ->
        assertEquals(
            listOf("label 0", "label 1"),
            link.stream<String>("Depot/streaming", 1_000_000) { handler = "labels" }.take(2).toList(),
        )
        assertEquals("after the reader", Depot.ended.await())
    }

    @Test
    fun `a caller that is cancelled cancels the handler`(engine: EmbeddedEngine) = with(engine) { link ->
        Depot.reached = CompletableDeferred()
        Depot.cancelled = CompletableDeferred()
        coroutineScope {
            val call = launch { link.request<String>("Depot/cancelled") { handler = "wait" } }
            Depot.reached.await()
            call.cancel()
        }
        assertEquals("cancelled", Depot.cancelled.await())
    }

    @Test
    fun `a call that takes too long ends with its reason`(engine: EmbeddedEngine) = with(engine) { link ->
        val error = assertThrows<AmxException> {
            link.request<String>("Depot/late") {
                handler = "wait"
                timeout = 1.seconds
            }
        }
        assertEquals("DEADLINE_EXCEEDED", error.reason)
    }

    @Test
    fun `events are a flow`(engine: EmbeddedEngine) = with(engine) { link ->
        coroutineScope {
            val seen = async(start = CoroutineStart.UNDISPATCHED) {
                link.subscribe("parcels.*").map { it.contentAs<Parcel>() }.first()
            }
            while (seen.isActive) { // until the subscription is in force
                link.request<Int>("Depot/events", Parcel("Bob")) { handler = "store" }
            }
            assertEquals(Parcel("Bob"), seen.await())
        }
    }

    @Test
    fun `what was answered is there after the engine was killed`(engine: EmbeddedEngine) = with(engine) { link ->
        assertEquals(1, link.request<Int>("Depot/killed", Parcel("Ada")) { handler = "store" })
        coroutineScope {
            engine.kill()
            val waits = async {
                link.request<Int>("Depot/killed", Parcel("Bob")) {
                    handler = "store"
                    idempotencyKey = "bob" // it may be sent before the link knows of the kill
                }
            }
            withContext(Dispatchers.IO) { engine.restart() }
            assertEquals(2, waits.await())
        }
        assertEquals(setOf("Ada", "Bob"), link.request<Map<String, Parcel>>("Depot/killed") { handler = "stored" }.keys)
    }
}
