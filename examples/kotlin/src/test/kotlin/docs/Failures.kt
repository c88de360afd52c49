package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.*

@Agent
class Seats {
    @Handler(retry = Retry(attempts = 5, initial = "200ms", never = ["SEAT_UNKNOWN"]))
    suspend fun reserve(seat: String) {
        if (seat.isEmpty()) {
            throw HandlerException("SEAT_UNKNOWN", "there is no seat without a number")
        }
        error("the booking system does not answer") // tried again
    }
}

fun explain(error: AmxException): String = "${error.reason}: ${error.message} (${error.source})"
