// The first agent, and a program that asks it.

package com.aimatrix.examples

import com.aimatrix.engine.kotlin.*
import kotlinx.coroutines.runBlocking

@Agent
class Greeter {
    private var times by memory(0, persistent = true)

    @Handler
    suspend fun greet(name: String): String = "Hello, $name! This is time ${++times}."
}

fun main() = runBlocking {
    amxEngine { agent<Greeter>() }.start().use { engine ->
        println(engine.request<String>("Greeter", "Ada"))
    }
}
