// Kotlin's types as the Java SDK takes them.

package com.aimatrix.engine.kotlin.values

import com.aimatrix.engine.errors.InvalidInputException
import com.aimatrix.engine.json.ForeignType
import com.aimatrix.engine.json.Json
import com.aimatrix.engine.json.Schemas
import com.aimatrix.engine.kotlin.ProcessingResult
import com.aimatrix.engine.v1.Payload
import com.fasterxml.jackson.core.JsonGenerator
import com.fasterxml.jackson.core.JsonParser
import com.fasterxml.jackson.databind.JavaType
import com.fasterxml.jackson.databind.JsonNode
import com.fasterxml.jackson.databind.node.JsonNodeFactory
import com.fasterxml.jackson.databind.node.ObjectNode
import kotlinx.serialization.KSerializer
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.serializerOrNull
import java.lang.reflect.Type
import kotlin.reflect.KClass
import kotlin.reflect.KType
import kotlin.reflect.javaType

/** What a parameter is given that was not sent and has a default value. */
internal object Default

/** Types of Kotlin for a [Json]. */
internal class ValueTypes(private val json: Json) {
    /**
     * A type as the Java SDK takes it.
     *
     * @param optional nothing may be sent, which is [Default] then
     */
    fun of(type: KType, optional: Boolean = false): JavaType {
        val raw = type.raw()
        return when {
            raw == Unit::class.java || raw == Void::class.java || raw == Nothing::class.java -> json.type(Void.TYPE)
            raw == ProcessingResult::class.java -> json.type(com.aimatrix.engine.ProcessingResult::class.java)
            raw == Any::class.java && !optional -> json.type(Any::class.java)
            raw == Payload::class.java -> json.type(raw)
            else -> KotlinType(type, raw, optional, serializerOf(type), json)
        }
    }

    /** The serializer of a type that needs one; null: Jackson reads and writes it. */
    private fun serializerOf(type: KType): KSerializer<Any?>? =
        if (kindOf(type) == Kind.SERIALIZABLE) {
            Kotlinx.format.serializersModule.serializerOrNull(type)
        } else {
            null
        }

    /** Which library a type is for. */
    private enum class Kind {
        /** Either, such as text. */
        EITHER,
        SERIALIZABLE,
        JACKSON,
    }

    private fun kindOf(type: KType): Kind {
        val raw = type.raw()
        return when {
            raw in SCALARS || raw in JAVA_SCALARS || (raw.isEnum && !raw.isAnnotationPresent(SERIALIZABLE)) -> Kind.EITHER
            raw in COLLECTIONS || raw == Pair::class.java || raw == Triple::class.java -> {
                val inside = type.arguments.map { one -> one.type?.let { kindOf(it) } ?: Kind.JACKSON }
                when {
                    Kind.JACKSON in inside -> Kind.JACKSON
                    Kind.SERIALIZABLE in inside || raw !in COLLECTIONS -> Kind.SERIALIZABLE
                    else -> Kind.EITHER
                }
            }
            raw.isAnnotationPresent(SERIALIZABLE) || raw in KOTLIN_SCALARS -> Kind.SERIALIZABLE
            JsonElement::class.java.isAssignableFrom(raw) -> Kind.SERIALIZABLE
            else -> Kind.JACKSON
        }
    }

    private companion object {
        val SERIALIZABLE = Serializable::class.java
        val SCALARS: Set<Class<*>> = setOf(
            Boolean::class, Byte::class, Short::class, Int::class, Long::class, Float::class, Double::class,
        ).flatMapTo(HashSet()) { listOf(it.java, it.javaObjectType) } + setOf(String::class.java)
        val COLLECTIONS: Set<Class<*>> =
            setOf(List::class.java, Set::class.java, Map::class.java, Collection::class.java, Iterable::class.java)
        val KOTLIN_SCALARS: Set<Class<*>> = setOf(
            kotlin.time.Duration::class.java, kotlin.time.Instant::class.java, UInt::class.java, ULong::class.java,
            Char::class.javaObjectType, Char::class.java,
        )
    }
}

/** The class of a type's values; Any's where it has none of its own. */
internal fun KType.raw(): Class<*> = (classifier as? KClass<*>)?.java ?: Any::class.java

/** A type of Kotlin, with what it says of null. serializer: null if Jackson reads and writes it. */
internal class KotlinType(
    @Transient private val type: KType,
    raw: Class<*>,
    private val optional: Boolean,
    @Transient private val serializer: KSerializer<Any?>?,
    @Transient private val json: Json,
) : ForeignType(raw) {
    @Transient private val jackson: JavaType? = if (serializer == null) json.type(type.java()) else null

    @Transient private val holes: Holes? = if (serializer == null) Holes.of(type) else null

    override fun read(parser: JsonParser, place: String): Any? {
        if (rawClass == JsonElement::class.java) return Elements.read(parser) // null is a value, too
        if (serializer != null) return Kotlinx.read(parser, serializer, place)
        val value: Any? = json.mapper().readerFor(jackson).readValue(parser)
        if (jackson?.rawClass != JsonNode::class.java) holes?.check(value, place)
        return value
    }

    override fun write(value: Any?, generator: JsonGenerator) {
        when {
            value == null -> generator.writeNull()
            serializer != null -> Kotlinx.write(value, serializer, generator)
            else -> json.mapper().writerFor(jackson).writeValue(generator, value)
        }
    }

    override fun absent(place: String): Any? = when {
        optional -> Default
        type.isMarkedNullable || rawClass == Any::class.java || rawClass == JsonNode::class.java -> null
        rawClass == java.util.Optional::class.java -> java.util.Optional.empty<Any>()
        else -> throw InvalidInputException(
            "${place.ifEmpty { "value" }}: is missing; expected ${rawClass.kotlin.simpleName}",
            place,
        )
    }

    override fun schema(): ObjectNode {
        val schema = if (serializer != null) {
            schemaOf(serializer.descriptor)
        } else {
            val text = Schemas.text(json, jackson)
            if (text.isEmpty()) JsonNodeFactory.instance.objectNode() else json.mapper().readTree(text) as ObjectNode
        }
        if (serializer != null || schema.isEmpty || !type.isMarkedNullable) return schema
        val either = JsonNodeFactory.instance.objectNode()
        either.putArray("anyOf").add(schema).add(JsonNodeFactory.instance.objectNode().put("type", "null"))
        return either
    }

    private companion object {
        const val serialVersionUID: Long = 1
    }
}

/** Where null must not be, in what Jackson read: it knows nothing of it. */
private class Holes(private val nullable: Boolean, private val inside: List<Holes?>) {
    fun check(value: Any?, place: String) {
        when (value) {
            null -> if (!nullable) {
                throw InvalidInputException("${place.ifEmpty { "value" }}: is null, which it must not be", place)
            }
            is Map<*, *> -> inside.lastOrNull()?.let { its ->
                value.forEach { (name, member) -> its.check(member, if (place.isEmpty()) "$name" else "$place.$name") }
            }
            is Collection<*> -> inside.lastOrNull()?.let { its ->
                value.forEachIndexed { index, member -> its.check(member, "$place[$index]") }
            }
        }
    }

    companion object {
        /** Null: there is nothing to look at. */
        fun of(type: KType): Holes? {
            val raw = type.raw()
            val contents = Map::class.java.isAssignableFrom(raw) || Collection::class.java.isAssignableFrom(raw)
            val inside = if (contents) type.arguments.map { one -> one.type?.let { of(it) } } else emptyList()
            val nullable = type.isMarkedNullable || raw == Any::class.java
            return if (nullable && inside.all { it == null }) null else Holes(nullable, inside)
        }
    }
}

/** A type as Java's reflection has it. */
@OptIn(ExperimentalStdlibApi::class)
internal fun KType.java(): Type = if (this is JvmType) java else javaType.let { boxed(it) }

private fun boxed(type: Type): Type = if (type is Class<*>) type.kotlin.javaObjectType else type
