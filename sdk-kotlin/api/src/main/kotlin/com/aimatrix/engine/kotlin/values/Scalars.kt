// Java's scalars, and bytes, inside classes with @Serializable: read and written as the Java SDK does.

package com.aimatrix.engine.kotlin.values

import com.aimatrix.engine.errors.InvalidInputException
import com.aimatrix.engine.json.Json
import com.fasterxml.jackson.databind.JavaType
import kotlinx.serialization.KSerializer
import kotlinx.serialization.SerializationException
import kotlinx.serialization.descriptors.PrimitiveKind
import kotlinx.serialization.descriptors.PrimitiveSerialDescriptor
import kotlinx.serialization.descriptors.SerialDescriptor
import kotlinx.serialization.encoding.Decoder
import kotlinx.serialization.encoding.Encoder
import kotlinx.serialization.json.JsonDecoder
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.modules.SerializersModule
import kotlinx.serialization.modules.SerializersModuleBuilder
import java.math.BigDecimal
import java.time.Duration
import java.time.Instant
import java.time.LocalDate
import java.time.LocalDateTime
import java.time.LocalTime
import java.time.OffsetDateTime
import java.time.ZonedDateTime
import java.util.UUID
import kotlin.reflect.KClass

/** A class that travels as text, through the Java SDK's JSON. */
internal class JavaScalar<T : Any>(type: Class<T>, name: String = type.name) : KSerializer<T> {
    private val json = Json.standard()
    private val type: JavaType = json.type(type)

    override val descriptor: SerialDescriptor = PrimitiveSerialDescriptor(name, PrimitiveKind.STRING)

    override fun serialize(encoder: Encoder, value: T) {
        encoder.encodeString(json.read(json.write(value), json.type(String::class.java)) as String)
    }

    override fun deserialize(decoder: Decoder): T {
        val text = (decoder as? JsonDecoder)?.decodeJsonElement()?.jsonPrimitive?.content ?: decoder.decodeString()
        try {
            return parse(text)
        } catch (error: InvalidInputException) {
            throw SerializationException(error.message, error)
        }
    }

    @Suppress("UNCHECKED_CAST")
    private fun parse(text: String): T = json.read(json.write(text), type) as T

    /** What is wrong with a text; null: nothing. */
    fun misfit(text: String): String? = try {
        parse(text)
        null
    } catch (error: InvalidInputException) {
        error.message?.removePrefix("value: ")
    }
}

/** Bytes as base64. */
internal val BYTES: JavaScalar<ByteArray> = JavaScalar(ByteArray::class.java, "com.aimatrix.engine.kotlin.Base64")

private val SCALARS = listOf(
    BigDecimal::class, Duration::class, Instant::class, LocalDate::class, LocalDateTime::class, LocalTime::class,
    OffsetDateTime::class, ZonedDateTime::class, UUID::class,
)

/** Classes of Java that are scalars to both libraries. */
internal val JAVA_SCALARS: Set<Class<*>> = SCALARS.mapTo(HashSet()) { it.java }

/** Their serializers, by the name of the descriptor. */
internal val SCALARS_BY_NAME: Map<String, JavaScalar<*>> =
    SCALARS.map { JavaScalar(it.java) }.plus(BYTES).associateBy { it.descriptor.serialName }

/** What properties with `@Contextual` are read and written by. */
internal val CONTEXTUAL: SerializersModule = SerializersModule {
    fun <T : Any> SerializersModuleBuilder.scalar(type: KClass<T>) = contextual(type, JavaScalar(type.java))
    SCALARS.forEach { scalar(it) }
}
