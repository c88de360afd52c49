// The types of functions and properties: Java's reflection says what they are, Kotlin's metadata what may be null.

package com.aimatrix.engine.kotlin.values

import java.lang.reflect.GenericArrayType
import java.lang.reflect.ParameterizedType
import java.lang.reflect.Type
import java.lang.reflect.TypeVariable
import java.lang.reflect.WildcardType
import kotlin.metadata.KmType
import kotlin.metadata.isNullable
import kotlin.reflect.KClassifier
import kotlin.reflect.KType
import kotlin.reflect.KTypeProjection

/** A type that was put together without kotlin-reflect, which takes long to start. */
internal class JvmType(
    val java: Type,
    override val classifier: KClassifier,
    override val arguments: List<KTypeProjection>,
    override val isMarkedNullable: Boolean,
) : KType {
    override val annotations: List<Annotation> get() = emptyList()

    override fun equals(other: Any?): Boolean =
        other is KType &&
            classifier == other.classifier &&
            arguments == other.arguments &&
            isMarkedNullable == other.isMarkedNullable

    override fun hashCode(): Int = (classifier.hashCode() * 31 + arguments.hashCode()) * 31 + isMarkedNullable.hashCode()

    override fun toString(): String = "$java" + if (isMarkedNullable) "?" else ""
}

/** kotlin: null if nothing is known of it; then nothing in it may be null but itself. */
internal fun kotlinType(java: Type, kotlin: KmType?): KType {
    val plain = when (java) {
        is WildcardType -> java.lowerBounds.firstOrNull() ?: java.upperBounds.first()
        is TypeVariable<*> -> java.bounds.first()
        else -> java
    }
    val raw = when (plain) {
        is Class<*> -> plain
        is ParameterizedType -> plain.rawType as Class<*>
        is GenericArrayType -> Array<Any?>::class.java
        else -> Any::class.java
    }
    val given = (plain as? ParameterizedType)?.actualTypeArguments.orEmpty()
    val arguments = given.mapIndexed { index, one ->
        val inside = kotlin?.arguments?.takeIf { it.size == given.size }?.get(index)?.type
        KTypeProjection.invariant(kotlinType(one, inside))
    }
    val boxed = if (plain is Class<*>) plain.kotlin.javaObjectType else plain
    return JvmType(boxed, raw.kotlin, arguments, kotlin?.isNullable ?: !raw.isPrimitive)
}
