// How the Java SDK understands classes of Kotlin as agents.

package com.aimatrix.engine.kotlin.hosting

import com.aimatrix.engine.authoring.Dialect
import com.aimatrix.engine.errors.DefinitionException
import com.aimatrix.engine.json.Json
import com.aimatrix.engine.kotlin.Remembered
import com.aimatrix.engine.kotlin.values.KOTLIN_JSON
import com.aimatrix.engine.kotlin.values.ValueTypes
import com.aimatrix.engine.kotlin.values.kotlinType
import com.aimatrix.engine.kotlin.values.raw
import com.fasterxml.jackson.databind.JavaType
import java.lang.reflect.Field
import java.lang.reflect.Method
import java.util.concurrent.ConcurrentMap
import kotlin.metadata.KmClass
import kotlin.metadata.KmFunction
import kotlin.metadata.jvm.KotlinClassMetadata
import kotlin.metadata.jvm.fieldSignature
import kotlin.metadata.jvm.signature

/** Found by java.util.ServiceLoader. */
internal class KotlinDialect : Dialect {
    private val described = object : ClassValue<KmClass?>() {
        override fun computeValue(type: Class<*>): KmClass? = describe(type)
    }

    /** A class that a container made of one of Kotlin's is one of Kotlin's, too. */
    override fun speaks(type: Class<*>): Boolean =
        generateSequence(type) { it.superclass }.any { it.isAnnotationPresent(Metadata::class.java) }

    override fun function(type: Class<*>, method: Method, json: Json): Dialect.Function? {
        val function = functionOf(method) ?: return null
        return KotlinFunction(type, method, function, ValueTypes(json.kotlins()))
    }

    private fun functionOf(method: Method): KmFunction? {
        val signature = method.name + descriptor(method)
        return described.get(method.declaringClass)?.functions?.firstOrNull { it.signature?.toString() == signature }
    }

    override fun type(field: Field, json: Json): JavaType {
        val property = described.get(field.declaringClass)?.properties?.firstOrNull { it.fieldSignature?.name == field.name }
        val type = kotlinType(field.genericType, property?.returnType)
        val types = ValueTypes(json.kotlins())
        val inside = type.arguments.map { one -> one.type?.let { types.of(it) } ?: json.type(Any::class.java) }
        val factory = json.mapper().typeFactory
        return when (field.type) {
            Map::class.java, ConcurrentMap::class.java -> factory.constructMapType(Map::class.java, inside[0], inside[1])
            Set::class.java, List::class.java, Collection::class.java ->
                factory.constructCollectionLikeType(type.raw(), inside[0])
            com.aimatrix.engine.memory.MemoryValue::class.java -> json.type(field.genericType)
            else -> types.of(type)
        }
    }

    override fun delegates(field: Field): Boolean = Remembered::class.java.isAssignableFrom(field.type)

    override fun delegate(field: Field, held: Any?, json: Json): Dialect.Delegate =
        (held as? Remembered ?: throw DefinitionException("${field.declaringClass.simpleName}.${field.name} holds nothing"))
            .delegate(json.kotlins())

    private companion object {
        fun describe(type: Class<*>): KmClass? {
            val metadata = type.getAnnotation(Metadata::class.java) ?: return null
            return (KotlinClassMetadata.readLenient(metadata) as? KotlinClassMetadata.Class)?.kmClass
        }

        fun descriptor(method: Method): String =
            method.parameterTypes.joinToString("", "(", ")") { it.descriptorString() } + method.returnType.descriptorString()
    }
}

/** Whoever says nothing of JSON gets Kotlin's, not Java's. */
internal fun Json.kotlins(): Json = if (this === Json.standard()) KOTLIN_JSON else this
