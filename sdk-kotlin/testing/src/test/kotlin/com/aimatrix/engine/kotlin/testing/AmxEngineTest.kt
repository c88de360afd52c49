package com.aimatrix.engine.kotlin.testing

import com.aimatrix.engine.kotlin.Agent
import com.aimatrix.engine.kotlin.AmxException
import com.aimatrix.engine.kotlin.Handler
import com.aimatrix.engine.kotlin.amxEngine
import com.aimatrix.engine.kotlin.memory
import com.aimatrix.engine.kotlin.reason
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.condition.EnabledIf
import kotlin.time.Duration
import kotlin.time.Duration.Companion.minutes

@Agent
class Tally {
    private var total by memory(0, persistent = true)

    @Handler
    suspend fun add(amount: Int): Int {
        total += amount
        return total
    }
}

/** The first connection of a JVM loads a great many classes: on a busy machine that takes long. */
private val PATIENCE = 1.minutes

/** With a real engine; `make kotlin` names its program. */
@EnabledIf(value = "com.aimatrix.engine.testing.EmbeddedEngine#available", disabledReason = "no engine: AMX_COMMAND")
@WithEmbeddedEngine
class AmxEngineTest {
    private fun within(body: suspend kotlinx.coroutines.CoroutineScope.() -> Unit): Unit =
        runBlocking { withTimeout(2.minutes, body) }

    @Test
    fun `an engine whose coroutine is cancelled is stopped nevertheless`(process: EmbeddedEngine) = within {
        val engine = process.link { agent<Tally>() }.start(PATIENCE)
        val holding = launch(start = CoroutineStart.UNDISPATCHED) {
            try {
                awaitCancellation()
            } finally {
                engine.stop()
            }
        }
        holding.cancelAndJoin()
        assertFalse(engine.isStarted)
    }

    @Test
    fun `a worker runs until its coroutine is cancelled`(process: EmbeddedEngine) = within {
        val worker = process.link { agent<Tally>() }
        val running = launch { worker.runForever() }
        process.link().start(PATIENCE).use { engine ->
            while (runCatching { engine.request<Int>("Tally/worker", 0) }.isFailure) delay(10) // nobody hosts it yet
            assertEquals(5, engine.request<Int>("Tally/worker", 5))
            assertEquals(5, engine.memory("Tally/worker").get("total"))
        }
        running.cancelAndJoin()
        assertFalse(worker.isStarted)
    }

    @Test
    fun `the engine is told that it is Kotlin`(): Unit = within {
        EmbeddedEngine.builder().config("logging", mapOf("level" to "info", "format" to "json")).start().use { process ->
            process.link().start(PATIENCE).use {}
            fun opened() = process.output().lines().firstOrNull { "link_opened" in it }
            while (opened() == null) delay(10) // its output is read by a thread
            val opened = opened()!!
            assertTrue("\"amx-engine-kotlin 0.1.0\"" in opened, opened)
        }
    }

    @Test
    fun `events flow while they are collected`(process: EmbeddedEngine) = within {
        process.link().start(PATIENCE).use { engine ->
            val publishing = launch {
                while (true) {
                    engine.publish("news.local", "rain") // until somebody listens
                    delay(10)
                }
            }
            assertEquals("rain", engine.subscribe("news.*").first().content)
            publishing.cancelAndJoin()
            assertEquals(listOf(1), engine.apply { host { agent<Tally>() } }.stream<Int>("Tally/one", 1).toList())
        }
    }

    @Test
    fun `an engine that is not there says so`() = within {
        val nowhere = amxEngine { address = "127.0.0.1:1" }
        assertEquals("NOT_STARTED", assertThrows<AmxException> { runBlocking { nowhere.send("Tally") } }.reason)
        val refused = assertThrows<AmxException> { runBlocking { nowhere.start(patience = Duration.ZERO) } }
        assertEquals("ENGINE_UNREACHABLE", refused.reason)
        assertFalse(nowhere.isStarted)
        nowhere.stop()
    }
}
