package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.*

@Agent
class Reports {
    private var mornings by memory(0)

    @Scheduled(cron = "0 30 7 * * 1-5", zone = "Europe/Berlin", missed = Missed.SKIP)
    suspend fun morning() {
        mornings++
    }

    @Handler
    suspend fun count(): Int = mornings
}
