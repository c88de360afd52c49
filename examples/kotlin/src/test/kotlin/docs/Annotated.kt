package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.*

@Agent
class Members {
    @Memory(persistent = true, ttl = "7d")
    private val seen = mutableSetOf<String>()

    @Handler
    suspend fun join(name: String): Int {
        seen += name
        return seen.size
    }
}
