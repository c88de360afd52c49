// One function of an agent, as the Java SDK calls it.

package com.aimatrix.engine.kotlin.hosting

import com.aimatrix.engine.authoring.Dialect
import com.aimatrix.engine.errors.DefinitionException
import com.aimatrix.engine.kotlin.Context
import com.aimatrix.engine.kotlin.Message
import com.aimatrix.engine.kotlin.ProcessingResult
import com.aimatrix.engine.kotlin.values.Bindings
import com.aimatrix.engine.kotlin.values.Default
import com.aimatrix.engine.kotlin.values.KOTLIN_JSON
import com.aimatrix.engine.kotlin.values.ValueTypes
import com.aimatrix.engine.kotlin.values.java
import com.aimatrix.engine.kotlin.values.kotlinType
import com.aimatrix.engine.kotlin.values.raw
import com.aimatrix.engine.kotlin.values.toPayload
import com.fasterxml.jackson.databind.JavaType
import kotlinx.coroutines.flow.Flow
import java.lang.invoke.MethodHandle
import java.lang.invoke.MethodHandles
import java.lang.reflect.Method
import java.lang.reflect.ParameterizedType
import java.lang.reflect.Type
import kotlin.coroutines.intrinsics.suspendCoroutineUninterceptedOrReturn
import kotlin.metadata.KmClassifier
import kotlin.metadata.KmFunction
import kotlin.metadata.KmType
import kotlin.metadata.declaresDefaultValue
import kotlin.metadata.isSuspend
import kotlin.reflect.KType
import com.aimatrix.engine.Context as JavaContext
import com.aimatrix.engine.Message as JavaMessage
import com.aimatrix.engine.ProcessingResult as JavaResult

internal class KotlinFunction(
    agent: Class<*>,
    method: Method,
    private val function: KmFunction,
    types: ValueTypes,
) : Dialect.Function {
    private val suspending = function.isSuspend
    private val count = function.valueParameters.size
    private val handle: MethodHandle
    private val defaults: MethodHandle? // with the defaults of parameters; null: there are none
    private val blanks: Array<Any?> // in place of what has a default
    private val parameters: List<Dialect.Parameter>
    private val returns: JavaType
    private val streaming: Boolean
    private val place = "${agent.simpleName}.${function.name}"

    init {
        val compiled = function.valueParameters.mapIndexed { index, one -> one.type to method.parameterTypes[index] }
        if ((compiled + (function.returnType to method.returnType)).any { (said, its) -> isUnwrapped(said, its) }) {
            throw DefinitionException(
                "$place takes or returns a value class, such as kotlin.time.Duration or UInt, by itself; make it nullable, or" +
                    " put it into a class with @Serializable",
            )
        }
        method.isAccessible = true
        val lookup = MethodHandles.lookup()
        handle = spread(lookup.unreflect(method))
        defaults = if (function.valueParameters.any { it.declaresDefaultValue }) defaultsOf(method, lookup) else null
        blanks = Array(count) { BLANKS[method.parameterTypes[it]] }
        val bindings = Bindings(agent)
        val genericTypes = method.genericParameterTypes.map { bindings.resolve(it) }
        parameters = function.valueParameters.mapIndexed { index, one ->
            val type = kotlinType(genericTypes[index], one.type)
            Dialect.Parameter(one.name, parameterType(type, one.declaresDefaultValue && defaults != null, types))
        }
        val generic = if (suspending) continued(genericTypes.last()) else bindings.resolve(method.genericReturnType)
        val returned = kotlinType(generic, function.returnType)
        streaming = Flow::class.java.isAssignableFrom(returned.raw())
        val value = if (streaming) returned.arguments.single().type else returned
        returns = when {
            value == null -> types.of(kotlinType(Any::class.java, null))
            value.raw() == com.aimatrix.engine.AgentReference::class.java -> types.of(kotlinType(Any::class.java, null))
            else -> types.of(value)
        }
    }

    private fun parameterType(type: KType, optional: Boolean, types: ValueTypes): JavaType = when (type.raw()) {
        Context::class.java -> types.java(JavaContext::class.java)
        Message::class.java -> types.java(JavaMessage::class.java)
        in PASSED -> types.java(type.raw())
        Flow::class.java -> throw DefinitionException("$place takes a Flow; take the whole content, or several messages")
        else -> types.of(type, optional)
    }

    override fun name(): String = function.name

    override fun parameters(): List<Dialect.Parameter> = parameters

    override fun returns(): JavaType = returns

    override fun streaming(): Boolean = streaming

    override fun call(arguments: Array<Any?>): Any? {
        val invocation = JavaContext.current()
        val given = arguments.copyOf(count + if (suspending) 2 else 1)
        var missing = 0
        for (index in 1..count) {
            given[index] = when (val one = given[index]) {
                is JavaContext -> Context(one)
                is JavaMessage -> Message(one)
                is JavaResult -> ProcessingResult.of(one)
                Default -> blanks[index - 1].also { missing = missing or (1 shl (index - 1)) }
                else -> one
            }
        }
        if (!suspending) return outcome(invoke(given, missing), invocation)
        return Coroutines.run(Context.of(invocation)) {
            val value = suspendCoroutineUninterceptedOrReturn<Any?> { continuation ->
                given[count + 1] = continuation
                invoke(given, missing)
            }
            outcome(value, invocation)
        }
    }

    private fun invoke(given: Array<Any?>, missing: Int): Any? =
        if (missing == 0) handle.invokeExact(given) else defaults!!.invokeExact(arrayOf(*given, missing, null))

    private fun outcome(value: Any?, invocation: JavaContext): Any? = when (value) {
        Unit -> null
        is ProcessingResult -> value.toPayload(KOTLIN_JSON)
        is Message -> value.java
        is Flow<*> -> FlowPublisher(value, Context.of(invocation))
        else -> value
    }

    private companion object {
        /** Classes of the Java SDK that handlers take as they are. */
        val PASSED: Set<Class<*>> = setOf(
            com.aimatrix.engine.PipelineContext::class.java, java.time.Duration::class.java, Throwable::class.java,
            JavaContext::class.java, JavaMessage::class.java,
        )

        val BLANKS: Map<Class<*>, Any> = mapOf(
            Boolean::class.java to false, Byte::class.java to 0.toByte(), Short::class.java to 0.toShort(),
            Int::class.java to 0, Long::class.java to 0L, Float::class.java to 0f, Double::class.java to 0.0,
            Char::class.java to ' ',
        )

        /** Whether a type is a value class of which the compiler leaves what is in it. */
        fun isUnwrapped(said: KmType, compiled: Class<*>): Boolean {
            val name = (said.classifier as? KmClassifier.Class)?.name?.replace('.', '$')?.replace('/', '.') ?: return false
            if (name == compiled.name) return false
            val type = try {
                Class.forName(name, false, compiled.classLoader ?: KotlinFunction::class.java.classLoader)
            } catch (_: ClassNotFoundException) {
                return false // one of Kotlin's that Java has another name for
            }
            return type.isAnnotationPresent(JvmInline::class.java)
        }

        /** As one that takes all arguments in an array. */
        fun spread(handle: MethodHandle): MethodHandle =
            handle.asType(handle.type().generic()).asSpreader(Array<Any?>::class.java, handle.type().parameterCount())

        /** What the compiler made for calls that leave something out; null: for more parameters than a mask has bits. */
        fun defaultsOf(method: Method, lookup: MethodHandles.Lookup): MethodHandle? {
            val name = method.name + "\$default"
            val found = method.declaringClass.declaredMethods.singleOrNull { it.name == name && it.isSynthetic } ?: return null
            if (found.parameterCount != method.parameterCount + 3) return null
            found.isAccessible = true
            return spread(lookup.unreflect(found))
        }

        /** The type of a suspending function, whose continuation takes it. */
        fun continued(continuation: Type): Type =
            (continuation as? ParameterizedType)?.actualTypeArguments?.single() ?: Any::class.java
    }
}
