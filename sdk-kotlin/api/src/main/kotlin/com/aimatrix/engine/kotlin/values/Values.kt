// Values of Kotlin as they travel, and back.

package com.aimatrix.engine.kotlin.values

import com.aimatrix.engine.errors.InvalidInputException
import com.aimatrix.engine.json.ForeignType
import com.aimatrix.engine.json.Json
import com.aimatrix.engine.json.Payloads
import com.aimatrix.engine.kotlin.Message
import com.aimatrix.engine.kotlin.ProcessingResult
import com.aimatrix.engine.kotlin.toJava
import com.aimatrix.engine.v1.Payload
import com.fasterxml.jackson.databind.JavaType
import kotlin.reflect.KType
import com.aimatrix.engine.ProcessingResult as JavaResult

private val TYPES = ValueTypes(KOTLIN_JSON)

/** A class of Java as it is. */
internal fun ValueTypes.java(type: Class<*>): JavaType = KOTLIN_JSON.type(type)

/** Any value, by its own class. */
internal fun payloadOf(value: Any?): Payload = when (value) {
    is ProcessingResult -> value.toPayload(KOTLIN_JSON)
    is Message -> value.java.toPayload(KOTLIN_JSON)
    else -> Payloads.encode(KOTLIN_JSON, value)
}

/** What Java's calls take: messages keep what they say of themselves. */
internal fun contentOf(value: Any?): Any = if (value is Message) value.java else payloadOf(value)

internal fun ProcessingResult.toPayload(json: Json): Payload = toJava { it }.toPayload(json)

/** A content or reply by a type; a result, where another type is wanted, is its data. */
internal fun decode(payload: Payload, type: KType): Any? {
    val raw = type.raw()
    val isResult = payload.contentType == Payloads.RESULT_TYPE
    return when {
        raw == Payload::class.java -> payload
        raw == ProcessingResult::class.java -> ProcessingResult.of(JavaResult.fromPayload(KOTLIN_JSON, payload))
        isResult && raw == Any::class.java -> ProcessingResult.of(JavaResult.fromPayload(KOTLIN_JSON, payload))
        isResult -> decode(payloadOf(JavaResult.fromPayload(KOTLIN_JSON, payload).data()), type)
        raw == Unit::class.java -> Unit
        Payloads.isNothing(payload) -> nothing(type)
        raw == Any::class.java -> Payloads.decode(KOTLIN_JSON, payload)
        else -> Payloads.decode(KOTLIN_JSON, payload, typeOf(type))
    }
}

private val cached = java.util.concurrent.ConcurrentHashMap<KType, JavaType>()
private const val MOST_CACHED = 10_000

/** Making serializers and readers takes longer than using them. */
private fun typeOf(type: KType): JavaType {
    cached[type]?.let { return it }
    if (cached.size >= MOST_CACHED) cached.clear()
    return TYPES.of(type).also { cached[type] = it }
}

private fun nothing(type: KType): Any? {
    if (type.isMarkedNullable || type.raw() == Any::class.java) return null
    val foreign = typeOf(type) as? ForeignType
    return if (foreign != null) foreign.absent("") else throw InvalidInputException("value: is missing", "")
}

/** The type of a memory's values. */
internal fun memoryType(type: KType, json: Json): JavaType = ValueTypes(json).of(type)
