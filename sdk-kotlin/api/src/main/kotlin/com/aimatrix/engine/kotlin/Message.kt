// A message, as handlers get it and applications send it.

package com.aimatrix.engine.kotlin

import com.aimatrix.engine.json.Payloads
import com.aimatrix.engine.kotlin.values.KOTLIN_JSON
import com.aimatrix.engine.kotlin.values.decode
import com.aimatrix.engine.kotlin.values.payloadOf
import kotlin.reflect.KType
import kotlin.reflect.typeOf
import kotlin.time.Duration
import kotlin.time.Instant
import kotlin.time.toKotlinDuration
import com.aimatrix.engine.Message as JavaMessage

/**
 * A message: one that a handler got, or one to be sent in place of bare content, with options of its own. Content that
 * several handlers get (an event's) is shared among them: treat it as read-only.
 */
public class Message internal constructor(internal val java: JavaMessage) {
    /**
     * A message to be sent.
     *
     * @param content anything with a JSON form; null: no value
     * @param options its own; those of the call that sends it come first
     */
    public constructor(content: Any?, options: MessageOptions.() -> Unit = {}) :
        this(JavaMessage(payloadOf(content), MessageOptions().apply(options).java()))

    /**
     * The content: JSON as maps, lists, text, numbers; text as text; anything else as bytes; null: there is none.
     *
     * @throws InvalidInputException INVALID_VALUE if it is not what it says
     */
    public val content: Any? get() = decode(java.toPayload(KOTLIN_JSON), typeOf<Any?>())

    /**
     * The content as a type.
     *
     * @throws InvalidInputException INVALID_VALUE, or INVALID_INPUT if it does not fit
     */
    public inline fun <reified T> contentAs(): T = contentAs(typeOf<T>()) as T

    /** As above, where the type is known at run time only. */
    public fun contentAs(type: KType): Any? = decode(java.toPayload(KOTLIN_JSON), type)

    /** Whether there is no content. */
    public val isEmpty: Boolean get() = Payloads.isNothing(java.toPayload(KOTLIN_JSON))

    /** Its id; empty if it has none yet. */
    public val id: String get() = java.id()

    /** Type that the application gave it; may be empty. */
    public val type: String get() = java.type()

    /** Name of the agent it is for; empty if none. */
    public val agent: String get() = java.agent()

    /** Key of the instance. */
    public val key: String get() = java.key()

    /** Handler it names; empty if none. */
    public val handler: String get() = java.handler()

    /** How urgent it is. */
    public val priority: Priority get() = java.priority()

    /** Its headers; of an event, its attributes. */
    public val headers: Map<String, String> get() = java.headers()

    /** Where the application says it came from; may be empty. */
    public val source: String get() = java.source()

    /** Who sent it: `agent/key`, or the subject of the caller's identity; may be empty. */
    public val sender: String get() = java.sender()

    /** Topic of the event that it carries; empty if it is none. */
    public val topic: String get() = java.topic()

    /** A repeated request with the same gets the first one's outcome; may be empty. */
    public val idempotencyKey: String get() = java.idempotencyKey()

    /** W3C trace context; may be empty. */
    public val traceparent: String get() = java.traceparent()

    /** How long it may wait in a mailbox; null: without end. */
    public val ttl: Duration? get() = java.ttl().map { it.toKotlinDuration() }.orElse(null)

    /** When its sender made it; null if unknown. */
    public val sentAt: Instant?
        get() = java.sentAt().map { Instant.fromEpochMilliseconds(it.toEpochMilli()) }.orElse(null)

    override fun toString(): String = java.toString()
}
