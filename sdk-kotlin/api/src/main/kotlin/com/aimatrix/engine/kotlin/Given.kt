// Members of objects that may be left out, apart from those that are null.

package com.aimatrix.engine.kotlin

import com.aimatrix.engine.kotlin.values.GIVEN
import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.KSerializer
import kotlinx.serialization.Serializable
import kotlinx.serialization.descriptors.SerialDescriptor
import kotlinx.serialization.descriptors.buildClassSerialDescriptor
import kotlinx.serialization.descriptors.nullable
import kotlinx.serialization.encoding.Decoder
import kotlinx.serialization.encoding.Encoder

/**
 * Something that was said, in a property of a class with @Serializable: `val limit: Given<Int?>? = null` tells what was
 * left out (null) from what was set to null (`Given(null)`); `val name: Given<String>? = null` may be left out, but not be
 * null.
 *
 * @property value what was said
 */
@Serializable(with = GivenSerializer::class)
public data class Given<out T>(val value: T)

/** Serializer of [Given]. */
public class GivenSerializer<T>(private val inner: KSerializer<T>) : KSerializer<Given<T>> {
    // It is asked for null, too: whether that fits is for the serializer inside to say.
    @OptIn(ExperimentalSerializationApi::class)
    override val descriptor: SerialDescriptor =
        buildClassSerialDescriptor(GIVEN) { element("value", inner.descriptor) }.nullable

    override fun serialize(encoder: Encoder, value: Given<T>): Unit = encoder.encodeSerializableValue(inner, value.value)

    override fun deserialize(decoder: Decoder): Given<T> = Given(decoder.decodeSerializableValue(inner))
}
