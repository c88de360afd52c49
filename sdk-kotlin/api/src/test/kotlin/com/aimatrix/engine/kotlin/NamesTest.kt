package com.aimatrix.engine.kotlin

import com.aimatrix.engine.Agents
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

@Agent(name = "Greeter")
private class Greeter {
    @Handler
    fun greet(name: String): String = "Hello, $name"
}

class NamesTest {
    @Test
    fun `an agent in Kotlin is an agent`() {
        val definition = Agents.of(Greeter::class.java).definition()
        assertEquals("Greeter", definition.name)
        assertEquals(listOf("greet"), definition.handlersList.map { it.name })
    }
}
