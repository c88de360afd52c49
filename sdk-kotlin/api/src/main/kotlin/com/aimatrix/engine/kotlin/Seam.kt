// What the other modules of this SDK need of this one, and nobody else.

package com.aimatrix.engine.kotlin

import com.aimatrix.engine.Agents
import com.aimatrix.engine.json.Json
import com.aimatrix.engine.kotlin.values.KOTLIN_JSON
import com.aimatrix.engine.kotlin.values.contentOf
import com.aimatrix.engine.kotlin.values.decode
import com.aimatrix.engine.spec.AgentSpec
import com.aimatrix.engine.v1.Payload
import kotlin.reflect.KClass
import kotlin.reflect.KType
import com.aimatrix.engine.EventOptions as JavaEventOptions
import com.aimatrix.engine.Message as JavaMessage
import com.aimatrix.engine.MessageOptions as JavaMessageOptions
import com.aimatrix.engine.RemoteMemory as JavaRemoteMemory

/** Marks what the modules of this SDK share; it may change with every release. */
@RequiresOptIn("This is for the other modules of the SDK, and may change with every release.")
@Retention(AnnotationRetention.BINARY)
public annotation class InternalAmxApi

/** Between Kotlin's classes and Java's. */
@InternalAmxApi
public object Seam {
    /** How Kotlin's values travel. */
    public val json: Json get() = KOTLIN_JSON

    /** A class, an object of one, or an AgentSpec, compiled. */
    public fun spec(agent: Any): AgentSpec = when (agent) {
        is AgentSpec -> agent
        is KClass<*> -> Agents.of(agent.java, null, "", KOTLIN_JSON)
        else -> Agents.of(agent)
    }

    /** What a payload holds, as a type. */
    public fun value(payload: Payload?, type: KType): Any? = decode(payload ?: Payload.getDefaultInstance(), type)

    /** Content as Java sends it. */
    public fun content(value: Any?): Any = contentOf(value)

    /** Java's message as Kotlin's. */
    public fun message(java: JavaMessage): Message = Message(java)

    /** Kotlin's message as Java's. */
    public fun java(message: Message): JavaMessage = message.java

    /** Java's memory from outside as Kotlin's. */
    public fun memory(java: JavaRemoteMemory): RemoteMemory = RemoteMemory(java)

    /** Options of a message as Java's. */
    public fun options(said: MessageOptions.() -> Unit): JavaMessageOptions = MessageOptions().apply(said).java()

    /** Options of an event as Java's. */
    public fun eventOptions(said: EventOptions.() -> Unit): JavaEventOptions = EventOptions().apply(said).java()
}
