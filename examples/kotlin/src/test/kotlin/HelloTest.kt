package com.aimatrix.examples

import com.aimatrix.engine.kotlin.testing.EmbeddedEngine
import com.aimatrix.engine.kotlin.testing.WithEmbeddedEngine
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.condition.EnabledIf
import java.io.File
import java.util.concurrent.TimeUnit

/** The first agent of the README as a program of its own, beside a real engine. */
@EnabledIf(value = "com.aimatrix.engine.testing.EmbeddedEngine#available", disabledReason = "no engine: AMX_COMMAND")
@WithEmbeddedEngine
class HelloTest {
    private fun run(engine: EmbeddedEngine): String {
        val java = File(System.getProperty("java.home"), "bin/java").path
        val process = ProcessBuilder(java, "-cp", System.getProperty("java.class.path"), "com.aimatrix.examples.HelloKt")
            .apply { environment()["AMX_ADDRESS"] = engine.address() }
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start()
        val printed = process.inputStream.bufferedReader().readText()
        assertTrue(process.waitFor(60, TimeUnit.SECONDS))
        assertEquals(0, process.exitValue())
        return printed.trim()
    }

    @Test
    fun the_first_agent_remembers_over_restarts(engine: EmbeddedEngine) {
        assertEquals(listOf("Hello, Ada! This is time 1.", "Hello, Ada! This is time 2."), listOf(run(engine), run(engine)))
    }
}
