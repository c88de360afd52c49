// What type parameters of the classes that an agent extends stand for.

package com.aimatrix.engine.kotlin.values

import java.lang.reflect.ParameterizedType
import java.lang.reflect.Type
import java.lang.reflect.TypeVariable
import java.lang.reflect.WildcardType

/** Of a class, as far as those that it extends are told. */
internal class Bindings(type: Class<*>) {
    private val known = HashMap<TypeVariable<*>, Type>()

    init {
        for (at in generateSequence(type) { it.superclass }) {
            (at.genericSuperclass as? ParameterizedType)?.let { its ->
                (its.rawType as Class<*>).typeParameters.forEachIndexed { index, one ->
                    known[one] = resolve(its.actualTypeArguments[index])
                }
            }
        }
    }

    /** The type with what is known in place of its parameters. */
    fun resolve(type: Type): Type = when (type) {
        is TypeVariable<*> -> known[type] ?: type
        is WildcardType -> resolve(type.lowerBounds.firstOrNull() ?: type.upperBounds.first())
        is ParameterizedType ->
            Resolved(type.rawType, type.ownerType, type.actualTypeArguments.map { resolve(it) })
        else -> type
    }

    private data class Resolved(val raw: Type, val owner: Type?, val arguments: List<Type>) : ParameterizedType {
        override fun getActualTypeArguments(): Array<Type> = arguments.toTypedArray()
        override fun getRawType(): Type = raw
        override fun getOwnerType(): Type? = owner
    }
}
