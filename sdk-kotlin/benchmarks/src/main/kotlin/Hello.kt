// The program of the benchmark `kotlin_start`: hosts an agent with memory, asks it once, says what it said, ends.

@file:JvmName("Hello")

package com.aimatrix.engine.kotlin.benchmarks

import com.aimatrix.engine.kotlin.Agent
import com.aimatrix.engine.kotlin.Handler
import com.aimatrix.engine.kotlin.amxEngine
import com.aimatrix.engine.kotlin.memory
import kotlinx.coroutines.runBlocking

/** The first agent of the README. */
@Agent(name = "HelloKotlin", version = "1.0.0")
class Greeter {
    private var times by memory(0, persistent = true)

    @Handler
    suspend fun greet(name: String): String = "Hello, $name! This is time ${++times}."
}

fun main() = runBlocking {
    amxEngine { agent<Greeter>() }.start().use { engine ->
        println(engine.request<String>("HelloKotlin", "Ada"))
    }
}
