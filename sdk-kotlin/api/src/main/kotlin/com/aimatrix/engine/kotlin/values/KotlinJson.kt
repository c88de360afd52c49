// The JSON of Kotlin's values: kotlinx.serialization for classes with @Serializable, Jackson for the rest.

package com.aimatrix.engine.kotlin.values

import com.aimatrix.engine.errors.InvalidInputException
import com.aimatrix.engine.json.Json
import com.fasterxml.jackson.core.JsonGenerator
import com.fasterxml.jackson.core.JsonParser
import com.fasterxml.jackson.databind.BeanDescription
import com.fasterxml.jackson.databind.DeserializationConfig
import com.fasterxml.jackson.databind.DeserializationContext
import com.fasterxml.jackson.databind.JavaType
import com.fasterxml.jackson.databind.JsonDeserializer
import com.fasterxml.jackson.databind.JsonSerializer
import com.fasterxml.jackson.databind.SerializationConfig
import com.fasterxml.jackson.databind.SerializerProvider
import com.fasterxml.jackson.databind.deser.Deserializers
import com.fasterxml.jackson.databind.jsontype.TypeSerializer
import com.fasterxml.jackson.databind.module.SimpleModule
import com.fasterxml.jackson.databind.ser.Serializers
import com.fasterxml.jackson.databind.type.CollectionType
import com.fasterxml.jackson.databind.type.MapType
import com.fasterxml.jackson.module.kotlin.KotlinModule
import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.KSerializer
import kotlinx.serialization.Serializable
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.serializerOrNull
import kotlinx.serialization.json.Json as KotlinxJson

/** kotlinx.serialization over strict tokens. A member that is null is left out; unknown members are ignored. */
internal object Kotlinx {
    @OptIn(ExperimentalSerializationApi::class)
    val format: KotlinxJson = KotlinxJson {
        ignoreUnknownKeys = true
        encodeDefaults = true
        explicitNulls = false
        serializersModule = CONTEXTUAL
    }

    private val strict = Misfits(whole = false)
    private val thorough = Misfits(whole = true)

    fun <T> read(parser: JsonParser, serializer: KSerializer<T>, place: String): T {
        val element = Elements.read(parser)
        strict.check(serializer.descriptor, element, place)
        try {
            return format.decodeFromJsonElement(serializer, element)
        } catch (error: InvalidInputException) {
            throw error
        } catch (error: IllegalArgumentException) { // SerializationException is one, and so is what `require` throws
            thorough.check(serializer.descriptor, element, place)
            val said = error.message?.lineSequence()?.first() ?: error.javaClass.simpleName
            throw InvalidInputException("${place.ifEmpty { "value" }}: $said", place)
        }
    }

    fun <T> write(value: T, serializer: KSerializer<T>, generator: JsonGenerator) {
        val element = try {
            format.encodeToJsonElement(serializer, value)
        } catch (error: SerializationException) {
            throw InvalidInputException.value(error.message?.lineSequence()?.first().orEmpty(), "")
        }
        Elements.write(element, generator)
    }

    /** The serializer of a class; of one below a sealed class, that one's, which says which it is. Null: it has none. */
    fun ofClass(type: Class<*>): KSerializer<Any>? {
        if (!type.isAnnotationPresent(Serializable::class.java) || type.typeParameters.isNotEmpty() || type.isEnum) {
            return null
        }
        val sealed = generateSequence<Class<*>>(type) { it.superclass }
            .plus(type.interfaces)
            .lastOrNull { it.isSealedSerializable() }
        return format.serializersModule.serializerOrNull(sealed ?: type)
    }

    private fun Class<*>.isSealedSerializable() =
        isAnnotationPresent(Serializable::class.java) && (isSealed || modifiers and ABSTRACT != 0) && typeParameters.isEmpty()

    private const val ABSTRACT = java.lang.reflect.Modifier.ABSTRACT
}

/** Lets Jackson meet classes with @Serializable inside of what it reads and writes. */
private class KotlinxModule : SimpleModule("kotlinx.serialization") {
    private class Reader(private val serializer: KSerializer<Any>) : JsonDeserializer<Any>() {
        override fun deserialize(parser: JsonParser, context: DeserializationContext): Any =
            Kotlinx.read(parser, serializer, "")
    }

    private class Writer(private val serializer: KSerializer<Any>) : JsonSerializer<Any>() {
        override fun serialize(value: Any, generator: JsonGenerator, provider: SerializerProvider) =
            Kotlinx.write(value, serializer, generator)
    }

    override fun setupModule(context: SetupContext) {
        super.setupModule(context)
        context.addDeserializers(
            object : Deserializers.Base() {
                override fun findBeanDeserializer(
                    type: JavaType,
                    config: DeserializationConfig,
                    description: BeanDescription,
                ): JsonDeserializer<*>? = Kotlinx.ofClass(type.rawClass)?.let { Reader(it) }
            },
        )
        context.addSerializers(
            object : Serializers.Base() {
                override fun findSerializer(
                    config: SerializationConfig,
                    type: JavaType,
                    description: BeanDescription,
                ): JsonSerializer<*>? = when {
                    JsonElement::class.java.isAssignableFrom(type.rawClass) -> ElementWriter
                    else -> Kotlinx.ofClass(type.rawClass)?.let { Writer(it) }
                }

                override fun findMapSerializer(
                    config: SerializationConfig,
                    type: MapType,
                    description: BeanDescription,
                    keys: JsonSerializer<Any>?,
                    typed: TypeSerializer?,
                    values: JsonSerializer<Any>?,
                ): JsonSerializer<*>? = findSerializer(config, type, description)

                override fun findCollectionSerializer(
                    config: SerializationConfig,
                    type: CollectionType,
                    description: BeanDescription,
                    typed: TypeSerializer?,
                    items: JsonSerializer<Any>?,
                ): JsonSerializer<*>? = findSerializer(config, type, description)
            },
        )
    }

    private object ElementWriter : JsonSerializer<JsonElement>() {
        override fun serialize(value: JsonElement, generator: JsonGenerator, provider: SerializerProvider) =
            Elements.write(value, generator)
    }
}

/** How Kotlin's values travel unless an application says otherwise. */
internal val KOTLIN_JSON: Json = Json { builder ->
    builder.addModule(KotlinModule.Builder().build()).addModule(KotlinxModule())
}
