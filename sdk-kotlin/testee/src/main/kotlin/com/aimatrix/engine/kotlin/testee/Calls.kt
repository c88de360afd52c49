// The Interpreter's calls, from inside a handler or from outside of all.

package com.aimatrix.engine.kotlin.testee

import com.aimatrix.engine.kotlin.AmxEngine
import com.aimatrix.engine.kotlin.Broadcast
import com.aimatrix.engine.kotlin.Context
import com.aimatrix.engine.kotlin.EventOptions
import com.aimatrix.engine.kotlin.Message
import com.aimatrix.engine.kotlin.MessageOptions
import com.aimatrix.engine.kotlin.ProcessingResult
import com.aimatrix.engine.kotlin.Publication
import com.aimatrix.engine.kotlin.Receipt
import com.aimatrix.engine.kotlin.RemoteMemory
import com.aimatrix.engine.kotlin.Scope
import com.aimatrix.engine.testee.Errors
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList

val CALLS = setOf("request", "stream", "send_now", "publish_now", "broadcast", "subscribe", "memory_of")

/** What a handler's context and the program around it both can do. */
interface Caller {
    suspend fun request(agent: String, content: Any?, options: MessageOptions.() -> Unit): Any?
    fun stream(agent: String, content: Any?, options: MessageOptions.() -> Unit): Flow<Any?>
    suspend fun send(agent: String, content: Any?, options: MessageOptions.() -> Unit): Receipt
    suspend fun publish(topic: String, content: Any?, options: EventOptions.() -> Unit): Publication
    suspend fun broadcast(scope: Scope, content: Any?, options: MessageOptions.() -> Unit): Broadcast
    fun events(pattern: String, filter: String): Flow<Message>
    fun memory(agent: String): RemoteMemory

    companion object {
        /** From inside a handler. */
        fun of(context: Context): Caller = object : Caller {
            override suspend fun request(agent: String, content: Any?, options: MessageOptions.() -> Unit) =
                context.request<Any?>(agent, content, options)

            override fun stream(agent: String, content: Any?, options: MessageOptions.() -> Unit) =
                context.stream<Any?>(agent, content, options)

            override suspend fun send(agent: String, content: Any?, options: MessageOptions.() -> Unit) =
                context.sendNow(agent, content, options)

            override suspend fun publish(topic: String, content: Any?, options: EventOptions.() -> Unit) =
                context.publishNow(topic, content, options)

            override suspend fun broadcast(scope: Scope, content: Any?, options: MessageOptions.() -> Unit) =
                context.broadcast(scope, content, options)

            override fun events(pattern: String, filter: String) = context.events(pattern, filter)

            override fun memory(agent: String) = context.memoryOf(agent)
        }

        /** On nobody's behalf. */
        fun of(engine: AmxEngine): Caller = object : Caller {
            override suspend fun request(agent: String, content: Any?, options: MessageOptions.() -> Unit) =
                engine.request<Any?>(agent, content, options)

            override fun stream(agent: String, content: Any?, options: MessageOptions.() -> Unit) =
                engine.stream<Any?>(agent, content, options)

            override suspend fun send(agent: String, content: Any?, options: MessageOptions.() -> Unit) =
                engine.send(agent, content, options)

            override suspend fun publish(topic: String, content: Any?, options: EventOptions.() -> Unit) =
                engine.publish(topic, content, options)

            override suspend fun broadcast(scope: Scope, content: Any?, options: MessageOptions.() -> Unit) =
                engine.broadcast(scope, content, options)

            override fun events(pattern: String, filter: String) = engine.subscribe(pattern, filter)

            override fun memory(agent: String) = engine.memory(agent)
        }
    }
}

/** Makes a call, and waits for what comes of it. */
suspend fun call(operation: Operation, caller: Caller): Any? {
    val agent = operation.text("agent")
    val payload = operation["payload"]
    return when (operation.op) {
        "request" -> caller.request(agent, payload, operation.options)?.let(::plain) ?: Nothing
        "stream" -> {
            val chunks = caller.stream(agent, payload, operation.options).map(::plain)
            if ("take" in operation) chunks.take(operation.number("take")).toList() else chunks.toList()
        }
        "send_now" -> caller.send(agent, payload, operation.options).let {
            mapOf("message_id" to it.messageId, "duplicate" to it.isDuplicate)
        }
        "publish_now" -> caller.publish(operation.text("topic"), payload, operation.event).let {
            mapOf("subscribers" to it.subscribers)
        }
        "broadcast" -> shown(caller.broadcast(scope(operation), payload, operation.options))
        "subscribe" -> caller.events(operation.text("pattern"), operation.text("filter"))
            .take(operation.number("take"))
            .map { mapOf("topic" to it.topic, "payload" to it.content, "attributes" to it.headers) }
            .toList()
        else -> memory(operation, caller)
    }
}

private fun plain(reply: Any?): Any? = if (reply is ProcessingResult) {
    mapOf(
        "status" to reply.status.name.lowercase(),
        "data" to reply.data,
        "message" to reply.message,
        "metadata" to reply.metadata,
    )
} else {
    reply
}

private fun scope(operation: Operation): Scope {
    val (kind, name) = (operation["scope"] as Map<*, *>).entries.single()
    return when (kind) {
        "all" -> Scope.all()
        "agent" -> Scope.agent("$name")
        "group" -> Scope.group("$name")
        else -> Scope.labels("$name")
    }
}

private fun shown(outcome: Broadcast): Map<String, Any?> = mapOf(
    "succeeded" to outcome.succeeded,
    "failed" to outcome.failed,
    "recipients" to outcome.recipients.map { one ->
        val error = one.error
        mapOf("agent" to one.instance.name, "key" to one.instance.key) +
            if (error == null) mapOf("ok" to plain(one.value)) else mapOf("failure" to Errors.shown(error))
    },
)

private suspend fun memory(operation: Operation, caller: Caller): Any? {
    val key = operation.text("key")
    val agent = if (key.isEmpty()) operation.text("agent") else operation.text("agent") + "/" + key
    val memory = caller.memory(agent)
    val entry = operation["entry"]
    val found = if (entry == null) memory.get(operation.text("memory")) else memory.get(operation.text("memory"), entry)
    return if (found is Set<*>) found.toList() else found ?: Nothing
}
