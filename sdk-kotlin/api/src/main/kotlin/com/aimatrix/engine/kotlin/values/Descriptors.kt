// What a serializer's descriptor says of JSON: where something does not fit it, and the schema of what does.

@file:OptIn(ExperimentalSerializationApi::class)

package com.aimatrix.engine.kotlin.values

import com.aimatrix.engine.errors.InvalidInputException
import com.fasterxml.jackson.databind.node.JsonNodeFactory
import com.fasterxml.jackson.databind.node.ObjectNode
import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.descriptors.PrimitiveKind
import kotlinx.serialization.descriptors.SerialDescriptor
import kotlinx.serialization.descriptors.SerialKind
import kotlinx.serialization.descriptors.StructureKind
import kotlinx.serialization.descriptors.getContextualDescriptor
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNames
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive

/** Looks for what does not fit. whole: finds fault with structure as well, not with text in place of numbers only. */
internal class Misfits(private val whole: Boolean) {
    /** Throws InvalidInputException with the place of the first misfit. */
    fun check(descriptor: SerialDescriptor, element: JsonElement, place: String) {
        if (descriptor.plainName in UNSIGNED) return unsigned(descriptor, element, place)
        if (descriptor.isWrapper) return check(descriptor.getElementDescriptor(0), element, place)
        if (element is JsonNull) {
            if (whole && !descriptor.isNullable && isKnown(descriptor.kind)) fail(place, "is null", descriptor)
            return
        }
        when (descriptor.kind) {
            SerialKind.CONTEXTUAL -> CONTEXTUAL.getContextualDescriptor(descriptor)?.let { check(it, element, place) }
            is PrimitiveKind -> primitive(descriptor, element, place)
            SerialKind.ENUM -> {
                if (element is JsonPrimitive && !(element.isString && element.content in names(descriptor))) {
                    fail(place, "is ${shown(element)}", descriptor)
                }
                if (whole && element !is JsonPrimitive) fail(place, "is ${shown(element)}", descriptor)
            }
            StructureKind.CLASS, StructureKind.OBJECT -> members(descriptor, element, place)
            StructureKind.LIST -> when {
                element is JsonArray -> element.forEachIndexed { index, item ->
                    check(descriptor.getElementDescriptor(0), item, "$place[$index]")
                }
                whole -> fail(place, "is ${shown(element)}", descriptor)
            }
            StructureKind.MAP -> when {
                element is JsonObject -> element.forEach { (name, value) ->
                    check(descriptor.getElementDescriptor(1), value, inside(place, name))
                }
                whole -> fail(place, "is ${shown(element)}", descriptor)
            }
            else -> {}
        }
    }

    private fun members(descriptor: SerialDescriptor, element: JsonElement, place: String) {
        if (element !is JsonObject) {
            if (whole) fail(place, "is ${shown(element)}", descriptor)
            return
        }
        for (index in 0 until descriptor.elementsCount) {
            val name = descriptor.getElementName(index)
            val member = element[name]
            val its = descriptor.getElementDescriptor(index)
            if (member != null) {
                check(its, member, inside(place, name))
            } else if (whole && !descriptor.isElementOptional(index) && !its.isNullable) {
                val renamed = descriptor.getElementAnnotations(index).any { it is JsonNames }
                if (!renamed) fail(inside(place, name), "is missing", its)
            }
        }
    }

    private fun primitive(descriptor: SerialDescriptor, element: JsonElement, place: String) {
        if (element !is JsonPrimitive) {
            if (whole) fail(place, "is ${shown(element)}", descriptor)
            return
        }
        val text = element.content
        val fits = when (descriptor.kind) {
            PrimitiveKind.STRING, PrimitiveKind.CHAR -> element.isString || descriptor.plainName == DECIMAL
            PrimitiveKind.BOOLEAN -> !element.isString && (text == "true" || text == "false")
            PrimitiveKind.BYTE -> !element.isString && text.toByteOrNull() != null
            PrimitiveKind.SHORT -> !element.isString && text.toShortOrNull() != null
            PrimitiveKind.INT -> !element.isString && text.toIntOrNull() != null
            PrimitiveKind.LONG -> text.toLongOrNull() != null
            else -> !element.isString && text.toDoubleOrNull() != null
        }
        if (!fits) fail(place, "is ${shown(element)}", descriptor)
        if (whole) {
            SCALARS_BY_NAME[descriptor.plainName]?.misfit(text)?.let { said ->
                throw InvalidInputException("${place.ifEmpty { "value" }}: $said", place)
            }
        }
    }

    private fun unsigned(descriptor: SerialDescriptor, element: JsonElement, place: String) {
        val wide = descriptor.plainName == "kotlin.ULong" // which may be text
        val fits = element is JsonPrimitive && (wide || !element.isString) && element.content.toULongOrNull() != null
        if (!fits && (whole || element is JsonPrimitive)) fail(place, "is ${shown(element)}", descriptor.getElementDescriptor(0))
    }

    private fun fail(place: String, what: String, descriptor: SerialDescriptor): Nothing = throw InvalidInputException(
        "${place.ifEmpty { "value" }}: $what; expected ${expected(descriptor)}",
        place,
    )

    private fun isKnown(kind: SerialKind) = kind is PrimitiveKind || kind is StructureKind || kind == SerialKind.ENUM

    private fun names(descriptor: SerialDescriptor) =
        (0 until descriptor.elementsCount).map { descriptor.getElementName(it) }

    private fun shown(element: JsonElement): String = when (element) {
        is JsonArray -> "a list"
        is JsonObject -> "an object"
        is JsonNull -> "null"
        is JsonPrimitive -> if (element.isString) "the text \"${short(element.content)}\"" else short(element.content)
    }

    private fun short(text: String) = if (text.length > MAX_SHOWN) text.take(MAX_SHOWN) + "…" else text

    private fun expected(descriptor: SerialDescriptor): String = when (descriptor.kind) {
        PrimitiveKind.STRING -> "text"
        PrimitiveKind.CHAR -> "one character"
        PrimitiveKind.BOOLEAN -> "true or false"
        PrimitiveKind.BYTE -> "a whole number of 8 bits"
        PrimitiveKind.SHORT -> "a whole number of 16 bits"
        PrimitiveKind.INT -> "a whole number of 32 bits"
        PrimitiveKind.LONG -> "a whole number of 64 bits"
        is PrimitiveKind -> "a number"
        SerialKind.ENUM -> "one of " + names(descriptor).joinToString(", ")
        StructureKind.LIST -> "a list"
        else -> "an object"
    }

    private companion object {
        const val MAX_SHOWN = 60
        val UNSIGNED = setOf("kotlin.UByte", "kotlin.UShort", "kotlin.UInt", "kotlin.ULong")
        const val DECIMAL = "java.math.BigDecimal" // which may be a number

        fun inside(place: String, name: String) = if (place.isEmpty()) name else "$place.$name"
    }
}

/** Name of the descriptor of [com.aimatrix.engine.kotlin.Given]. */
internal const val GIVEN: String = "com.aimatrix.engine.kotlin.Given"

/** Whether it travels as the one thing in it. */
private val SerialDescriptor.isWrapper: Boolean get() = isInline || plainName == GIVEN

/** Its name, whether or not it may be null. */
private val SerialDescriptor.plainName: String get() = serialName.removeSuffix("?")

/** JSON Schema (2020-12) of what fits a descriptor. What contains itself is described once, and inside accepts anything. */
internal fun schemaOf(descriptor: SerialDescriptor, outer: List<String> = emptyList()): ObjectNode {
    val schema = JsonNodeFactory.instance.objectNode()
    if (descriptor.isWrapper) return schemaOf(descriptor.getElementDescriptor(0), outer)
    if (descriptor.kind == SerialKind.CONTEXTUAL) {
        return CONTEXTUAL.getContextualDescriptor(descriptor)?.let { schemaOf(it, outer).orNull(descriptor) } ?: schema
    }
    val name = descriptor.plainName
    FORMATS[name]?.let { return it(schema).orNull(descriptor) }
    when (descriptor.kind) {
        PrimitiveKind.STRING, PrimitiveKind.CHAR -> schema.put("type", "string")
        PrimitiveKind.BOOLEAN -> schema.put("type", "boolean")
        PrimitiveKind.BYTE, PrimitiveKind.SHORT, PrimitiveKind.INT -> schema.put("type", "integer")
        PrimitiveKind.LONG -> {
            schema.putArray("type").add("integer").add("string")
            schema.put("format", "int64").put("pattern", "^-?[0-9]+$")
        }
        is PrimitiveKind -> schema.put("type", "number")
        SerialKind.ENUM -> {
            val names = schema.put("type", "string").putArray("enum")
            for (index in 0 until descriptor.elementsCount) names.add(descriptor.getElementName(index))
        }
        StructureKind.LIST -> {
            schema.put("type", "array")
            val items = schemaOf(descriptor.getElementDescriptor(0), outer)
            if (!items.isEmpty) schema.set<ObjectNode>("items", items)
        }
        StructureKind.MAP -> {
            schema.put("type", "object")
            val values = schemaOf(descriptor.getElementDescriptor(1), outer)
            if (!values.isEmpty) schema.set<ObjectNode>("additionalProperties", values)
        }
        StructureKind.CLASS -> if (name !in outer) members(schema, descriptor, outer + name)
        StructureKind.OBJECT -> schema.put("type", "object")
        else -> {}
    }
    return schema.orNull(descriptor)
}

private fun members(schema: ObjectNode, descriptor: SerialDescriptor, outer: List<String>) {
    val properties = schema.put("type", "object").putObject("properties")
    for (index in 0 until descriptor.elementsCount) {
        val its = descriptor.getElementDescriptor(index)
        properties.set<ObjectNode>(descriptor.getElementName(index), schemaOf(its, outer))
        if (!descriptor.isElementOptional(index) && !its.isNullable) {
            schema.withArray("/required").add(descriptor.getElementName(index))
        }
    }
}

private fun ObjectNode.orNull(descriptor: SerialDescriptor): ObjectNode {
    if (isEmpty || !descriptor.isNullable) return this
    val either = JsonNodeFactory.instance.objectNode()
    either.putArray("anyOf").add(this).add(JsonNodeFactory.instance.objectNode().put("type", "null"))
    return either
}

private fun format(format: String): (ObjectNode) -> ObjectNode = { it.put("type", "string").put("format", format) }

/** Of scalars that have a format, by the name of their serializers: Kotlin's own, and [JavaScalar]s. */
private val FORMATS: Map<String, (ObjectNode) -> ObjectNode> = mapOf(
    "java.math.BigDecimal" to format("decimal"),
    "java.time.Instant" to format("date-time"),
    "java.time.OffsetDateTime" to format("date-time"),
    "java.time.ZonedDateTime" to format("date-time"),
    "java.time.LocalDate" to format("date"),
    "java.time.LocalTime" to format("time"),
    "java.time.Duration" to format("duration"),
    "java.util.UUID" to format("uuid"),
    "kotlin.time.Instant" to format("date-time"),
    "kotlin.time.Duration" to format("duration"),
    "kotlin.uuid.Uuid" to format("uuid"),
    "com.aimatrix.engine.kotlin.Base64" to { it.put("type", "string").put("contentEncoding", "base64") },
)
