package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.*
import kotlinx.coroutines.runBlocking

fun main() = runBlocking {
    val engine = amxEngine {
        agent<Sessions>() // an object of its own for each instance key
        agent { Members() } // made by you
        withAgent(Search()) // copied
        concurrency = 256
    }
    engine.runForever()
}
