package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.*
import kotlinx.coroutines.flow.toList
import kotlin.time.Duration.Companion.seconds

suspend fun calls(engine: AmxEngine): List<Any?> {
    val words: List<String> = engine.stream<String>("Reader", "one two") { handler = "words" }.toList()
    val area: Int = engine.request("Reader", mapOf("width" to 6, "height" to 7)) { handler = "area" }
    val answer = engine.request<Answer>("Reader/en", Question("Why?")) {
        type = "question"
        priority = Priority.HIGH
        timeout = 10.seconds
    }
    val receipt = engine.send("Sessions/ada", Visit("ada", "/")) { id = "visit-1" }
    return listOf(words, area, answer, receipt.isDuplicate)
}
