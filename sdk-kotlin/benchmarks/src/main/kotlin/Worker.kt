// The worker of the benchmark `kotlin_rr_256`: an agent, hosted until standard input ends.

@file:JvmName("Worker")

package com.aimatrix.engine.kotlin.benchmarks

import com.aimatrix.engine.kotlin.Agent
import com.aimatrix.engine.kotlin.Handler
import com.aimatrix.engine.kotlin.amxEngine
import java.io.OutputStream
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.runBlocking

/** Takes parsed JSON, and returns it. */
@Agent(name = "EchoKotlin", version = "1.0.0")
class Echo {
    @Handler
    suspend fun echo(content: Any?): Any? = content
}

fun main() = runBlocking {
    val engine = amxEngine { agent<Echo>() }.start(10.seconds)
    println("""{"id": 0, "result": "ready"}""")
    System.`in`.transferTo(OutputStream.nullOutputStream())
    engine.stop()
}
