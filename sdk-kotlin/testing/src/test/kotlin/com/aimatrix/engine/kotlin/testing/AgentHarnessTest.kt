package com.aimatrix.engine.kotlin.testing

import com.aimatrix.engine.kotlin.Agent
import com.aimatrix.engine.kotlin.AmxException
import com.aimatrix.engine.kotlin.Context
import com.aimatrix.engine.kotlin.DefinitionException
import com.aimatrix.engine.kotlin.Handler
import com.aimatrix.engine.kotlin.Subscribe
import com.aimatrix.engine.kotlin.Timing
import com.aimatrix.engine.kotlin.memory
import com.aimatrix.engine.kotlin.reason
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import kotlinx.serialization.Serializable
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import kotlin.time.Duration.Companion.hours
import kotlin.time.Duration.Companion.minutes
import kotlin.time.Duration.Companion.seconds

@Serializable
data class Sum(val total: Int, val of: List<Int>)

@Agent
class Till {
    private var total by memory(0, persistent = true, ttl = 1.hours)
    private val sums = mutableListOf<Int>() // not remembered

    @Handler(byDefault = true)
    suspend fun add(amount: Int, context: Context): Sum {
        total += amount
        sums += amount
        context.send("Ledger", amount)
        context.publish("till.changed", total)
        context.schedule("close", "close", Timing.after(1.hours))
        check(amount >= 0) { "an amount is $amount" }
        return Sum(total, sums.toList())
    }

    @Handler
    suspend fun attempt(context: Context): Int = context.attempt

    @Handler
    suspend fun rate(context: Context): Double = context.request<Double>("Bank", "eur")

    @Handler
    suspend fun close(): Int = total.also { total = 0 }

    @Subscribe("bank.*")
    suspend fun heard(amount: Int) {
        total += amount
    }

    @Handler
    suspend fun setting(context: Context): Any? = context.config["till"]
}

@Agent
class Counter(private val begun: CompletableDeferred<Unit>, private val left: CompletableDeferred<Int>) {
    @Handler
    fun count(): Flow<Int> = flow {
        var number = 0
        try {
            while (true) emit(++number)
        } finally {
            left.complete(number)
        }
    }

    @Handler(byDefault = true)
    suspend fun wait() {
        begun.complete(Unit)
        try {
            awaitCancellation()
        } finally {
            left.complete(-1)
        }
    }
}

class AgentHarnessTest {
    private fun refused(call: suspend () -> Unit): String = assertThrows<AmxException> { runBlocking { call() } }.reason

    @Test
    fun `what a message leads to is all there`() = agentTest(Till::class) {
        val done = run<Sum>(5)
        assertEquals(Sum(5, listOf(5)), done.value)
        assertEquals(listOf("Ledger" to 5), done.sent.map { it.agent to it.content })
        assertEquals(listOf("till.changed" to 5), done.published.map { it.topic to it.content })
        assertEquals(listOf("close"), done.schedules)
        assertTrue(done.isMemoryChanged)
        assertEquals(setOf("default/close"), timers)
        request<Sum>(1) { key = "other" }
        assertEquals(listOf(5, 1), sent.map { it.content })
        assertEquals(2, published.size)
        assertEquals(1, memory("other").get("total"))
    }

    @Test
    fun `what a failed message did is undone`() = agentTest(Till::class) {
        request<Sum>(5)
        assertEquals("HANDLER_FAILED", refused { request<Sum>(-1) })
        assertEquals(5, memory().get("total"))
        assertEquals(1, sent.size)
        assertFalse(run<Int> { handler = "attempt" }.isMemoryChanged)
        assertEquals(3, run<Int>(attempt = 3) { handler = "attempt" }.value)
    }

    @Test
    fun `an object that hibernates comes back with its memory alone`() = agentTest(Till::class) {
        request<Sum>(5)
        hibernate()
        assertEquals(Sum(7, listOf(2)), request<Sum>(2))
    }

    @Test
    fun `memory expires by the clock of the test`() = agentTest(Till()) {
        request<Sum>(5)
        advance(59.minutes)
        assertEquals(5, memory().get("total"))
        advance(1.minutes)
        assertNull(memory().get("total"))
        assertEquals(1, request<Sum>(1).total)
    }

    @Test
    fun `events and timers reach their handlers`() = agentTest(Till::class) {
        assertEquals(1, deliver("bank.paid", 5).size)
        assertEquals(5, memory().get("total"))
        assertEquals("NO_SUBSCRIBER", refused { deliver("shop.paid", 5) })
        deliver("any", 2, handler = "heard") { key = "other" }
        assertEquals(2, memory("other").get("total"))
        request<Sum>(1)
        assertEquals(6, fire("close").value)
        assertEquals("SCHEDULE_UNKNOWN", refused { fire("close") }) // it ran once
    }

    @Test
    fun `another agent answers what the test says`() = agentTest(Till::class) {
        assertEquals("AGENT_UNKNOWN", refused { request<Double> { handler = "rate" } })
        replyTo("Bank") { asked -> if (asked.content == "eur") 1.5 else null }
        assertEquals(1.5, request<Double> { handler = "rate" })
        replyTo("Bank") { error("closed") }
        assertEquals("HANDLER_FAILED", refused { request<Double> { handler = "rate" } })
    }

    @Test
    fun `contexts show the configuration`() = agentTest(Till::class, mapOf("till" to "red")) {
        assertEquals("red", request<String> { handler = "setting" })
    }

    @Test
    fun `who leaves a stream ends it, and it has waited for its reader`() {
        val left = CompletableDeferred<Int>()
        agentTest(Counter(CompletableDeferred(), left)) {
            assertEquals(listOf(1, 2, 3), stream<Int> { handler = "count" }.take(3).toList())
            assertTrue(withTimeout(30.seconds) { left.await() } < 10_000)
        }
    }

    @Test
    fun `who is cancelled cancels the handler`() {
        val begun = CompletableDeferred<Unit>()
        val left = CompletableDeferred<Int>()
        agentTest(Counter(begun, left)) {
            coroutineScope {
                val waiting = launch { request<Unit>() }
                begun.await()
                waiting.cancelAndJoin()
            }
            assertEquals(-1, withTimeout(30.seconds) { left.await() })
        }
    }

    @Test
    fun `what is no agent says so`() {
        assertThrows<DefinitionException> { AgentHarness.start("text") }
        assertThrows<DefinitionException> { AgentHarness.start(String::class) }
    }
}
