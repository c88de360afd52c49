// Runs a list of operations from its input, so that most new cases need no change here.

package com.aimatrix.engine.kotlin.testee

import com.aimatrix.engine.kotlin.Agent
import com.aimatrix.engine.kotlin.AmxEngine
import com.aimatrix.engine.kotlin.Context
import com.aimatrix.engine.kotlin.Handler
import com.aimatrix.engine.kotlin.InvalidInputException
import com.aimatrix.engine.kotlin.Timing
import com.aimatrix.engine.kotlin.expire
import com.aimatrix.engine.kotlin.memory
import com.aimatrix.engine.kotlin.memoryList
import com.aimatrix.engine.kotlin.memoryMap
import com.aimatrix.engine.kotlin.memorySet
import com.aimatrix.engine.testee.Errors
import com.aimatrix.engine.testee.Testee
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.launch
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.CopyOnWriteArrayList
import java.util.concurrent.Executor
import kotlin.time.Duration.Companion.seconds

/** The outcome of an operation without a value. */
object Nothing

@Agent(groups = ["conformance"], labels = ["tier=gold"], idleTimeout = "5m")
class Interpreter {
    private var value by memory<Any?>(null, persistent = true)
    private val map by memoryMap<Any, Any?>(persistent = true)
    private val set by memorySet<Any?>(persistent = true)
    private val list by memoryList<Any?>(persistent = true)
    private val scratch by memoryMap<Any, Any?>(ttl = 60.seconds)
    private val bounded by memoryMap<Any, Any?>(persistent = true, maxEntries = 3)

    /** The operation `return` was met. */
    private class Returned(val value: Any?) : RuntimeException("return", null, false, false)

    @Handler(byDefault = true)
    suspend fun run(operations: List<Map<String, Any?>>, context: Context): Any? = try {
        operations.map { outcome(Operation(it), context) }
    } catch (end: Returned) {
        end.value
    }

    @Handler(concurrent = true)
    suspend fun concurrent(operations: List<Map<String, Any?>>, context: Context): Any? = run(operations, context)

    @Handler
    fun stream(operations: List<Map<String, Any?>>, context: Context): Flow<Any?> = flow {
        for (operation in operations.map { Operation(it) }) {
            if (operation.op == "yield") {
                emit(operation["value"])
                continue
            }
            try {
                outcome(operation, context)
            } catch (_: Returned) {
                break
            }
        }
    }

    private suspend fun outcome(operation: Operation, context: Context): Map<String, Any?> =
        outcomeOf(operation) { perform(operation, context) }

    private suspend fun perform(operation: Operation, context: Context): Any? = when (operation.op) {
        "return" -> throw Returned(operation["value"])
        "raise" -> throw Errors.thrown(operation.fields)
        "wait" -> Waiting.here()
        "context" -> mapOf(
            "agent" to context.agent,
            "key" to context.key,
            "handler" to context.handler,
            "attempt" to context.attempt,
            "message_id" to context.message.id,
            "has_deadline" to (context.remaining != null),
            "sender" to context.message.sender,
        )
        "parallel" -> coroutineScope {
            operation.operations
                .map { one -> async(start = CoroutineStart.UNDISPATCHED) { outcome(one, context) } }
                .awaitAll()
        }
        "outside" -> outside(operation)
        "outcomes" -> OUTSIDE[operation.text("name")].orEmpty().toList()
        "register" -> done { Testee.host(operation.texts("agents"), operation.texts("removed")) }
        in CALLS -> call(operation, Caller.of(context))
        in EFFECTS -> done { stage(operation, context) }
        else -> when (operation.text("memory")) {
            "" -> unknown(operation)
            "value" -> value(operation, context)
            "set" -> set(operation)
            "list" -> list(operation)
            "map" -> map(map, operation)
            "scratch" -> map(scratch, operation)
            else -> map(bounded, operation)
        }
    }

    private fun stage(operation: Operation, context: Context) {
        val payload = operation["payload"]
        when (operation.op) {
            "send" -> context.send(operation.text("agent"), payload, operation.options)
            "publish" -> context.publish(operation.text("topic"), payload, operation.event)
            "schedule" ->
                context.schedule(operation.text("name"), operation.text("handler"), timing(operation), payload)
            else -> context.unschedule(operation.text("name"))
        }
    }

    private fun timing(operation: Operation): Timing =
        operation.millis("every_ms")?.let { Timing.fixedRate(it) }
            ?: operation.millis("delay_ms")?.let { Timing.fixedDelay(it) }
            ?: operation.millis("after_ms")?.let { Timing.after(it) }
            ?: Timing.cron(operation.text("cron"))

    // --- its memories ------------------------------------------------------------------------------------------------

    private fun value(operation: Operation, context: Context): Any? = when (operation.op) {
        "get", "all" -> value ?: Nothing
        "put" -> done { value = operation["value"] }
        "expire" -> done { context.expire("value", operation.millis("after_ms")!!) }
        "remove", "clear" -> done { value = null }
        else -> unknown(operation)
    }

    private fun set(operation: Operation): Any? {
        val member = operation["value"]
        return when (operation.op) {
            "get" -> member in set
            "length" -> set.size
            "all" -> set.toList()
            "add" -> done { set += member }
            "remove" -> done { set -= member }
            "clear" -> done { set.clear() }
            "expire" -> done { set.expire(member, operation.millis("after_ms")!!) }
            else -> unknown(operation)
        }
    }

    private fun list(operation: Operation): Any? {
        val said = if ("key" in operation) operation.number("key") else -1
        val index = if (said < 0) said + list.size else said
        return when (operation.op) {
            "get" -> if (index in list.indices) list[index] else Nothing
            "length" -> list.size
            "all" -> list.toList()
            "put" -> done { list[index] = operation["value"] }
            "append" -> done { list += operation["value"] }
            "remove" -> done { if (index in list.indices) list.removeAt(index) }
            "clear" -> done { list.clear() }
            "expire" -> done { list.expire(index, operation.millis("after_ms")!!) }
            else -> unknown(operation)
        }
    }

    private fun map(map: MutableMap<Any, Any?>, operation: Operation): Any? {
        val key = operation["key"] ?: ""
        return when (operation.op) {
            "get" -> if (key in map) map[key] else Nothing
            "length" -> map.size
            "all" -> map.map { (its, held) -> listOf(its, held) }
            "put" -> done { map[key] = operation["value"] }
            "remove" -> done { map -= key }
            "clear" -> done { map.clear() }
            "expire" -> done { map.expire(key, operation.millis("after_ms")!!) }
            else -> unknown(operation)
        }
    }

    private fun unknown(operation: Operation): kotlin.Nothing =
        throw InvalidInputException("there is no operation '${operation.op}' on '${operation.text("memory")}'", "op")

    private companion object {
        val EFFECTS = setOf("send", "publish", "schedule", "unschedule")
        val OUTSIDE = ConcurrentHashMap<String, MutableList<Map<String, Any?>>>()
        val BESIDE = Executor { Testee.beside(it) }.asCoroutineDispatcher()

        inline fun done(what: () -> Unit): Nothing {
            what()
            return Nothing
        }

        /** Makes calls one after another, on nobody's behalf, whether or not the handler has ended. */
        fun outside(operation: Operation) = done {
            val outcomes = CopyOnWriteArrayList<Map<String, Any?>>()
            OUTSIDE[operation.text("name")] = outcomes
            CoroutineScope(BESIDE).launch {
                val caller = Caller.of(AmxEngine.of(Testee.engine()))
                operation.operations.forEach { one -> outcomes += outcomeOf(one) { call(one, caller) } }
            }
        }

        suspend fun outcomeOf(operation: Operation, what: suspend () -> Any?): Map<String, Any?> = try {
            val ok = what()
            if (ok === Nothing) emptyMap() else mapOf("ok" to ok)
        } catch (end: Returned) {
            throw end
        } catch (stopped: CancellationException) {
            throw stopped
        } catch (error: RuntimeException) {
            if (operation["or_raise"] == true) throw error
            mapOf("failure" to Errors.shown(error))
        }
    }
}
