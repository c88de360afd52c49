package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.*

@Agent
class Search {
    @Capability
    private val index = mapOf("amx" to "an engine for agents") // built once, shared by all instances

    @Handler
    suspend fun find(word: String): String? = index[word]
}
