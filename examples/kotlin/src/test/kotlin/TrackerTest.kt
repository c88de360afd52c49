package com.aimatrix.examples

import com.aimatrix.engine.kotlin.testing.agentTest
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

/** What the engine tells monitors, told to one alone. */
class TrackerTest {
    private val tracker = AgentPerformanceTracker()

    private fun report(agent: String, seconds: Double, status: String = "success", error: String? = null) = mapOf(
        "agent_name" to agent,
        "message" to mapOf("id" to "m-1"),
        "result" to mapOf("status" to status, "error_type" to error),
        "duration_ms" to seconds * 1000,
    )

    @Test
    fun a_message_that_takes_more_than_five_seconds_raises_an_alert() = agentTest(tracker) {
        assertEquals(0, run<Unit>(report("Quick", 5.0)).published.size)
        val alert = run<Unit>(report("Slow", 5.25)).published.single()
        assertEquals("alerts.performance", alert.topic)
        assertEquals("Slow took 5.250 s for message m-1", (alert.content as Map<*, *>)["message"])
        assertEquals(mapOf("severity" to "high", "source" to "AgentPerformanceTracker"), alert.headers)
    }

    @Test
    fun durations_are_recorded_and_errors_counted_by_type() = agentTest(tracker) {
        request<Unit>(report("Counted", 1.0))
        request<Unit>(report("Counted", 2.0, "error", "FILE_MISSING"))
        request<Unit>(report("Counted", 3.0, "error", "FILE_MISSING"))
        val seen = tracker.seen("Counted")
        assertEquals(3, seen.processed)
        assertEquals(mapOf("FILE_MISSING" to 2L), seen.errors)
        assertEquals(3, seen.longest.toSeconds())
    }
}
