package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.testing.agentTest
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import kotlin.time.Duration.Companion.hours

class SessionsTest {
    @Test
    fun `pages of a user are forgotten after a day`() = agentTest(Sessions::class) {
        assertEquals(1L, request<Long>(Visit("ada", "/")))
        assertEquals(mapOf("ada" to listOf("/")), memory().get("pages"))
        advance(25.hours)
        assertEquals(emptyMap<String, Any>(), memory().get("pages"))
        assertEquals(setOf("ada"), memory().get("users"))
    }
}
