package com.aimatrix.engine.kotlin

import com.aimatrix.engine.Agents
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import kotlin.time.Duration.Companion.days
import kotlin.time.Duration.Companion.milliseconds

@Agent(name = "Tested")
internal class Remembering {
    private var count by memory(0, persistent = true)
    private var last: Order? by memory(null)
    private val seen by memorySet<String>(persistent = true, ttl = 7.days)
    private val orders by memoryMap<Int, Order>(persistent = true, maxEntries = 10)
    private val log by memoryList<String>(initial = listOf("begun"))

    @Memory(persistent = true)
    private val annotated = mutableMapOf<String, Order>()

    @Memory
    private var plain = 1

    @Handler
    fun remember(order: Order): Int {
        count += 1
        plain += 1
        last = order
        seen += order.id
        orders[count] = order
        annotated[order.id] = order
        log += "remembered ${order.id}"
        return count
    }

    @Handler
    fun all(): String = "$count $plain ${last?.id} $seen ${orders.keys} ${annotated.keys} $log"
}

class MemoryTest {
    private val hosted = Hosted(Remembering::class)

    @Test
    fun `memories by delegation are in the definition`() {
        val memories = hosted.spec.definition().memoriesList.associateBy { it.name }
        assertEquals(setOf("count", "last", "seen", "orders", "log", "annotated", "plain"), memories.keys)
        assertEquals("MEMORY_KIND_VALUE", memories.getValue("count").kind.name)
        assertTrue(memories.getValue("count").persistent)
        assertEquals(7.days.inWholeMilliseconds, memories.getValue("seen").ttlMs)
        assertEquals("MEMORY_KIND_SET", memories.getValue("seen").kind.name)
        assertEquals(10, memories.getValue("orders").maxEntries)
    }

    @Test
    fun `changes are collected, and undone`() {
        hosted.ask("remember", """{"id":"a"}""")
        val memory = hosted.instance.memory()
        assertTrue(memory.changed())
        val changes = memory.collect()
        assertEquals(setOf("count", "last", "seen", "orders", "log", "annotated", "plain"), changes.map { it.name }.toSet())
        hosted.ask("remember", """{"id":"b"}""")
        memory.rollback()
        assertEquals("\"1 2 a [a] [1] [a] [begun, remembered a]\"", hosted.ask("all"))
    }

    @Test
    fun `instances do not share their memories, nor do copies of an object`() {
        for (agent in listOf(hosted, Hosted(Agents.of(Remembering())))) {
            agent.ask("remember", """{"id":"a"}""")
            assertEquals("\"0 1 null [] [] [] [begun]\"", agent.ask("all", on = agent.instance("other")))
        }
    }

    @Test
    fun `an object without a host remembers by itself`() {
        val agent = Remembering()
        assertEquals(1, agent.remember(Order("a")))
        assertEquals("1 2 a [a] [1] [a] [begun, remembered a]", agent.all())
    }

    @Test
    fun `a lifetime below a millisecond is refused`() {
        @Agent
        class Short {
            private var value by memory("", ttl = 0.milliseconds)

            @Handler
            fun get(): String = value.also { value = it }
        }
        val error = assertThrows(DefinitionException::class.java) { Agents.of(Short::class.java) }
        assertTrue(error.message!!.contains("ttl is 0s"))
    }
}
