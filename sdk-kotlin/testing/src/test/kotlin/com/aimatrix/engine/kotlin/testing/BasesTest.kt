package com.aimatrix.engine.kotlin.testing

import com.aimatrix.engine.kotlin.Agent
import com.aimatrix.engine.kotlin.AgentReference
import com.aimatrix.engine.kotlin.BaseAgent
import com.aimatrix.engine.kotlin.BaseMessageRouter
import com.aimatrix.engine.kotlin.BasePerformanceMonitor
import com.aimatrix.engine.kotlin.Handler
import com.aimatrix.engine.kotlin.Message
import com.aimatrix.engine.kotlin.MessageRouter
import com.aimatrix.engine.kotlin.Metrics
import com.aimatrix.engine.kotlin.PerformanceMonitor
import com.aimatrix.engine.kotlin.ProcessingResult
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertSame
import org.junit.jupiter.api.Test
import java.time.Duration

@Agent(name = "Boiler")
class BoilerAgent : BaseAgent() {
    @Handler
    suspend fun heat(degrees: Int): String = withContext(Dispatchers.IO) {
        metrics.recordProcessingTime("heat", Duration.ofMillis(degrees.toLong()))
        if (degrees > 90) alerts.sendAlert("heat", "it boils", "high")
        logger.name
    }

    fun counted(): Metrics = metrics

    fun shout() = alerts.sendAlert("nobody", "outside of a handler it only logs")
}

@MessageRouter
class TypeRouter : BaseMessageRouter() {
    override suspend fun route(message: Message): AgentReference? = when (message.type) {
        "order" -> findAgent("Orders")
        "cart" -> findAgent("Carts/${message.headers["user"]}")
        "refund" -> findAgent("Orders", "eu", "refund")
        else -> null
    }
}

@PerformanceMonitor
class Watcher : BasePerformanceMonitor() {
    override suspend fun onMessageProcessed(
        agentName: String,
        message: Message,
        result: ProcessingResult,
        duration: Duration,
    ) {
        metrics.recordProcessingTime(agentName, duration)
        if (!result.isSuccess) metrics.incrementErrorCount(agentName, result.errorType)
        if (duration > Duration.ofSeconds(1)) alerts.sendSlowProcessingAlert(agentName, message, duration)
    }

    fun counted(): Metrics = metrics
}

class BasesTest {
    @Test
    fun `an agent logs by its name and alerts with its commit, also from other threads`() = agentTest(BoilerAgent()) {
        val quiet = run<String>(20)
        assertEquals("amx.agent.Boiler", quiet.value)
        assertEquals(0, quiet.published.size)
        val alert = run<String>(95).published.single()
        assertEquals("alerts.heat", alert.topic)
        assertEquals(
            mapOf("channel" to "heat", "message" to "it boils", "severity" to "high", "source" to "Boiler"),
            alert.content,
        )
        assertEquals("high", alert.headers["severity"])
        BoilerAgent().shout()
    }

    @Test
    fun `what the instances of a class count is one`() {
        val before = BoilerAgent().counted().of("heat").processed
        agentTest(BoilerAgent::class) { request<String>(7) { key = "one" } }
        agentTest(BoilerAgent()) { request<String>(9) }
        assertEquals(2, BoilerAgent().counted().of("heat").processed - before)
        assertSame(BoilerAgent().counted(), BoilerAgent().counted())
    }

    private fun asked(type: String) = mapOf("type" to type, "headers" to mapOf("user" to "ada"), "content" to 1)

    @Test
    fun `a router answers with an address or leaves it to others`() = agentTest(TypeRouter::class) {
        assertEquals(mapOf("agent" to "Orders", "key" to "default"), request<Any?>(asked("order")))
        assertEquals(mapOf("agent" to "Carts", "key" to "ada"), request<Any?>(asked("cart")))
        assertEquals(mapOf("agent" to "Orders", "key" to "eu", "handler" to "refund"), request<Any?>(asked("refund")))
        assertNull(request<Any?>(asked("else")))
    }

    @Test
    fun `a monitor is told how long what took and how it ended`() {
        val watcher = Watcher()
        fun report(millis: Int, result: Map<String, Any?>) = mapOf(
            "agent_name" to "Echo", "message" to mapOf("id" to "m-1"), "result" to result, "duration_ms" to millis,
        )
        agentTest(watcher) {
            run<Unit>(report(10, mapOf("status" to "success")))
            val slow = run<Unit>(report(1500, mapOf("status" to "error", "error_type" to "SOLD_OUT"))).published.single()
            assertEquals("Echo took 1.500 s for message m-1", (slow.content as Map<*, *>)["message"])
        }
        val seen = watcher.counted().of("Echo")
        assertEquals(2, seen.processed)
        assertEquals(mapOf("SOLD_OUT" to 1L), seen.errors)
        assertEquals(1500, seen.longest.toMillis())
    }
}
