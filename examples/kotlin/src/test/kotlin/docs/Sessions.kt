package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.*
import kotlinx.serialization.Serializable
import kotlin.time.Duration.Companion.hours
import kotlin.time.Duration.Companion.minutes

@Serializable
data class Visit(val user: String, val page: String)

@Agent
class Sessions {
    private val pages by memoryMap<String, List<String>>(persistent = true, ttl = 24.hours, maxEntries = 10_000)
    private val users by memorySet<String>(persistent = true)
    private val last by memoryList<String>(maxEntries = 100)
    private var visits by memory(0L, persistent = true)

    @Handler
    suspend fun visit(visit: Visit): Long {
        pages[visit.user] = pages[visit.user].orEmpty() + visit.page
        users += visit.user
        last += visit.page
        if (visit.page == "/logout") {
            pages.expire(visit.user, 10.minutes)
        }
        return ++visits
    }
}
