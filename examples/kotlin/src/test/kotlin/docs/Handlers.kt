package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.*
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.serialization.Serializable
import kotlin.time.Duration.Companion.milliseconds

@Serializable
data class Question(val text: String, val language: String = "en")

@Serializable
data class Answer(val text: String, val attempt: Int)

@Agent
class Reader {
    @Handler(byDefault = true)
    fun words(text: String): Flow<String> = flow {
        for (word in text.split(' ')) {
            delay(1.milliseconds)
            emit(word)
        }
    }

    @Handler(timeout = "5s", messageTypes = ["question"])
    suspend fun answer(question: Question, context: Context): Answer =
        Answer("${question.text} (${question.language})", context.attempt)

    @Handler
    fun area(width: Int, height: Int = 1): Int = width * height
}
