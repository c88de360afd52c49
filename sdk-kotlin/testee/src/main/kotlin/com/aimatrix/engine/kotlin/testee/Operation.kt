// One operation of the Interpreter, as a case says it.

package com.aimatrix.engine.kotlin.testee

import com.aimatrix.engine.kotlin.EventOptions
import com.aimatrix.engine.kotlin.MessageOptions
import com.aimatrix.engine.kotlin.Priority
import kotlin.time.Duration
import kotlin.time.Duration.Companion.milliseconds

class Operation(private val said: Map<String, Any?>) {
    val op: String get() = text("op")

    operator fun get(name: String): Any? = said[name]

    operator fun contains(name: String): Boolean = said[name] != null

    val fields: Map<String, Any?> get() = said

    /** Empty if it is not said. */
    fun text(name: String): String = said[name] as? String ?: ""

    fun number(name: String): Int = (said.getValue(name) as Number).toInt()

    fun millis(name: String): Duration? = (said[name] as? Number)?.toLong()?.milliseconds

    fun texts(name: String): List<String> = (said[name] as? List<*>).orEmpty().map { "$it" }

    private fun textMap(name: String): Map<String, String> =
        (said[name] as? Map<*, *>).orEmpty().entries.associate { "${it.key}" to "${it.value}" }

    @Suppress("UNCHECKED_CAST")
    val operations: List<Operation> get() = (said.getValue("ops") as List<Map<String, Any?>>).map { Operation(it) }

    /** What is said of a message, and of the call. */
    val options: MessageOptions.() -> Unit
        get() = {
            key = said["key"] as? String
            handler = said["handler"] as? String
            type = said["type"] as? String
            headers = textMap("headers")
            priority = (said["priority"] as? String)?.let { Priority.valueOf(it.uppercase()) }
            source = said["source"] as? String
            id = said["message_id"] as? String
            idempotencyKey = said["idempotency_key"] as? String
            ttl = millis("ttl_ms")
            delay = millis("delay_ms")
            durable = said["durable"] as? Boolean
            timeout = millis("timeout_ms")
        }

    /** What is said of an event. */
    val event: EventOptions.() -> Unit
        get() = {
            attributes = textMap("attributes")
            key = said["key"] as? String
            id = said["event_id"] as? String
            durable = said["durable"] as? Boolean
        }
}
