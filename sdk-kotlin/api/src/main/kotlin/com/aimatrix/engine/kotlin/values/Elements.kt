// JSON between Jackson's tokens, which are read strictly, and the elements of kotlinx.serialization.

@file:OptIn(ExperimentalSerializationApi::class)

package com.aimatrix.engine.kotlin.values

import com.fasterxml.jackson.core.JsonGenerator
import com.fasterxml.jackson.core.JsonParser
import com.fasterxml.jackson.core.JsonToken
import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.JsonUnquotedLiteral

internal object Elements {
    // 2^53 - 1 has sixteen digits; longer integers, and those beyond it, travel as text.
    private const val SAFE_DIGITS = 16
    private const val MAX_SAFE_INTEGER = 9_007_199_254_740_991

    /** The value that begins at the parser's token; numbers keep their digits. */
    fun read(parser: JsonParser): JsonElement = when (val token = parser.currentToken()) {
        JsonToken.START_OBJECT -> {
            val members = LinkedHashMap<String, JsonElement>()
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                val name = parser.currentName()
                parser.nextToken()
                members[name] = read(parser)
            }
            JsonObject(members)
        }
        JsonToken.START_ARRAY -> {
            val items = ArrayList<JsonElement>()
            while (parser.nextToken() != JsonToken.END_ARRAY) items += read(parser)
            JsonArray(items)
        }
        JsonToken.VALUE_STRING -> JsonPrimitive(parser.text)
        JsonToken.VALUE_NUMBER_INT, JsonToken.VALUE_NUMBER_FLOAT -> JsonUnquotedLiteral(parser.text)
        JsonToken.VALUE_TRUE -> JsonPrimitive(true)
        JsonToken.VALUE_FALSE -> JsonPrimitive(false)
        JsonToken.VALUE_NULL -> JsonNull
        else -> throw IllegalStateException("no value begins with $token")
    }

    fun write(element: JsonElement, generator: JsonGenerator) {
        when (element) {
            is JsonNull -> generator.writeNull()
            is JsonPrimitive -> write(element, generator)
            is JsonArray -> {
                generator.writeStartArray()
                element.forEach { write(it, generator) }
                generator.writeEndArray()
            }
            is JsonObject -> {
                generator.writeStartObject()
                element.forEach { (name, value) ->
                    generator.writeFieldName(name)
                    write(value, generator)
                }
                generator.writeEndObject()
            }
        }
    }

    private fun write(value: JsonPrimitive, generator: JsonGenerator) {
        val text = value.content
        when {
            value.isString || isLargeInteger(text) -> generator.writeString(text)
            text == "true" || text == "false" -> generator.writeBoolean(text == "true")
            isTiny(text) -> generator.writeNumber(text.toDouble())
            else -> generator.writeNumber(text)
        }
    }

    /** Of the smallest doubles Kotlin says more digits than they have. */
    private fun isTiny(text: String): Boolean = text.endsWith("E-324")

    private fun isLargeInteger(text: String): Boolean =
        text.length >= SAFE_DIGITS &&
            text.all { it.isDigit() || it == '-' } &&
            text.toLongOrNull().let { it == null || it > MAX_SAFE_INTEGER || it < -MAX_SAFE_INTEGER }
}
