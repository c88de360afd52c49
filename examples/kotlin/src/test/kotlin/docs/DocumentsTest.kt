package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.AmxException
import com.aimatrix.engine.kotlin.testing.EmbeddedEngine
import com.aimatrix.engine.kotlin.testing.WithEmbeddedEngine
import com.aimatrix.engine.kotlin.testing.agentTest
import com.aimatrix.engine.kotlin.testing.link
import com.aimatrix.examples.Greeter
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.condition.EnabledIf

/** What docs/kotlin.md and README.md show does what they say. */
class DocumentsTest {
    @Test
    fun the_first_agent_counts() = agentTest(Greeter::class) {
        assertEquals("Hello, Ada! This is time 1.", request<String>("Ada"))
        assertEquals("Hello, Ada! This is time 2.", request<String>("Ada"))
    }

    @Test
    fun a_reader_answers_and_streams() = agentTest(Reader::class) {
        assertEquals(listOf("to", "be"), stream<String>("to be").toList())
        assertEquals(Answer("Why? (en)", 1), request<Answer>(mapOf("text" to "Why?")) { type = "question" })
        assertEquals(42, request<Int>(mapOf("width" to 6, "height" to 7)) { handler = "area" })
        assertEquals(6, request<Int>(mapOf("width" to 6)) { handler = "area" })
    }

    @Test
    fun failures_name_their_reasons() = agentTest(Seats::class) {
        val unknown = assertThrows<AmxException> { runBlocking { request<Unit>("") } }
        assertEquals("SEAT_UNKNOWN: there is no seat without a number (Seats/default#reserve)", explain(unknown))
        val failed = assertThrows<AmxException> { runBlocking { request<Unit>("4A") } }
        assertEquals("HANDLER_FAILED", failed.reason())
    }

    @Test
    fun what_is_done_with_an_order_is_staged() = agentTest(OrderDesk::class) {
        val order = Order("o-1", "north", "eu")
        val done = run<Unit>(order) { handler = "place" }
        assertEquals("Warehouse/north", done.sent.single().let { "${it.agent}/${it.key}" })
        assertEquals("orders.placed", done.published.single().topic)
        assertEquals(setOf("default/remind"), timers)
        replyTo("Prices", "of") { asked -> if (asked.content == "o-1") 12.5 else error("who?") }
        assertEquals(12.5, request<Double>(order) { handler = "price" })
        deliver("orders.eu.shipped", order)
        assertEquals(emptySet<String>(), timers)
    }

    @Test
    fun schedules_run() = agentTest(Reports::class) {
        fire("morning")
        assertEquals(1, request<Int>())
    }

    @Test
    fun capabilities_are_there() = agentTest(Search::class) {
        assertEquals("an engine for agents", request<String?>("amx"))
        assertNull(request<String?>("else"))
    }

    @Test
    fun pipelines_run_through() = agentTest(Import::class) {
        assertEquals(6, request<Int>("1,2,3"))
        assertEquals("parse failed: For input string: \"x\"", request<String>("1,x"))
    }
}

/** What needs an engine. */
@EnabledIf(value = "com.aimatrix.engine.testing.EmbeddedEngine#available", disabledReason = "no engine: AMX_COMMAND")
@WithEmbeddedEngine
class DocumentsWithEngineTest {
    @Test
    fun calls_are_answered(engine: EmbeddedEngine): Unit = runBlocking {
        engine.link { agent<Reader>(); agent<Sessions>() }.start().use { link ->
            assertEquals(listOf(listOf("one", "two"), 42, Answer("Why? (en)", 1), false), calls(link))
        }
    }
}
