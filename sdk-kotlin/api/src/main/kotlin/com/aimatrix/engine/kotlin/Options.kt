// What may be said of a message or an event besides its content.

package com.aimatrix.engine.kotlin

import kotlin.time.Duration
import kotlin.time.toJavaDuration
import com.aimatrix.engine.EventOptions as JavaEventOptions
import com.aimatrix.engine.MessageOptions as JavaMessageOptions

/** More to say of a message: `request<Int>("Counter", 5) { handler = "increment" }`. What is null is not said. */
public class MessageOptions {
    /** Key of the instance, where the address has none. */
    public var key: String? = null

    /** Handler that shall take it. */
    public var handler: String? = null

    /** Type, by which a handler is found where none is named. */
    public var type: String? = null

    /** How urgent it is. */
    public var priority: Priority? = null

    /** Headers. */
    public var headers: Map<String, String> = emptyMap()

    /** Where it comes from, for routers. */
    public var source: String? = null

    /** Its id: what the engine has with the same id is not taken again. */
    public var id: String? = null

    /** A repeated request with the same gets the first one's outcome. */
    public var idempotencyKey: String? = null

    /** How long it may wait in a mailbox. */
    public var ttl: Duration? = null

    /** How long it is held back. */
    public var delay: Duration? = null

    /** Whether it is stored first. */
    public var durable: Boolean? = null

    /** W3C trace context. */
    public var traceparent: String? = null

    /** How long its sender waits for an outcome. */
    public var timeout: Duration? = null

    internal fun java(): JavaMessageOptions {
        val said = JavaMessageOptions()
        key?.let { said.key(it) }
        handler?.let { said.handler(it) }
        type?.let { said.type(it) }
        priority?.let { said.priority(it) }
        if (headers.isNotEmpty()) said.headers(headers)
        source?.let { said.source(it) }
        id?.let { said.id(it) }
        idempotencyKey?.let { said.idempotencyKey(it) }
        ttl?.let { said.ttl(it.toJavaDuration()) }
        delay?.let { said.delay(it.toJavaDuration()) }
        durable?.let { said.durable(it) }
        traceparent?.let { said.traceparent(it) }
        timeout?.let { said.timeout(it.toJavaDuration()) }
        return said
    }
}

/** More to say of an event. What is null is not said. */
public class EventOptions {
    /** What subscriptions filter by. */
    public var attributes: Map<String, String> = emptyMap()

    /** Key of the instances that it is for. */
    public var key: String? = null

    /** Its id: what the engine has with the same id is not taken again. */
    public var id: String? = null

    /** How urgent it is. */
    public var priority: Priority? = null

    /** Whether it is stored first. */
    public var durable: Boolean? = null

    internal fun java(): JavaEventOptions {
        val said = JavaEventOptions()
        if (attributes.isNotEmpty()) said.attributes(attributes)
        key?.let { said.key(it) }
        id?.let { said.id(it) }
        priority?.let { said.priority(it) }
        durable?.let { said.durable(it) }
        return said
    }
}
