// The agents of conformance/README.md, "Fixtures", as applications write them.

package com.aimatrix.engine.kotlin.testee

import com.aimatrix.engine.Agents
import com.aimatrix.engine.json.Json
import com.aimatrix.engine.kotlin.Agent
import com.aimatrix.engine.kotlin.AgentReference
import com.aimatrix.engine.kotlin.BaseMessageRouter
import com.aimatrix.engine.kotlin.BasePerformanceMonitor
import com.aimatrix.engine.kotlin.Bytes
import com.aimatrix.engine.kotlin.Context
import com.aimatrix.engine.kotlin.Execution
import com.aimatrix.engine.kotlin.Given
import com.aimatrix.engine.kotlin.Handler
import com.aimatrix.engine.kotlin.HandlerException
import com.aimatrix.engine.kotlin.Message
import com.aimatrix.engine.kotlin.MessageRouter
import com.aimatrix.engine.kotlin.Missed
import com.aimatrix.engine.kotlin.PerformanceMonitor
import com.aimatrix.engine.kotlin.ProcessingResult
import com.aimatrix.engine.kotlin.RequiresPermission
import com.aimatrix.engine.kotlin.Restart
import com.aimatrix.engine.kotlin.RestartStrategy
import com.aimatrix.engine.kotlin.Scheduled
import com.aimatrix.engine.kotlin.Subscribe
import com.aimatrix.engine.kotlin.Supervised
import com.aimatrix.engine.kotlin.Supervisor
import com.aimatrix.engine.kotlin.memory
import com.aimatrix.engine.kotlin.memoryList
import com.aimatrix.engine.spec.AgentSpec
import com.aimatrix.engine.testee.Errors
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.serialization.Contextual
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.JsonElement
import java.math.BigDecimal
import java.time.Duration
import java.time.Instant
import java.time.LocalDate
import java.util.concurrent.CopyOnWriteArrayList

/** By their names without the prefix that their agents have. */
fun fixtures(prefix: String): Map<String, AgentSpec> = listOf(
    Echo::class, Counter::class, Failing::class, Slow::class, Stream::class, Blocking::class, Scheduling::class,
    Overseer::class, Router::class, Monitor::class, Listener::class, Interpreter::class,
).map { Agents.of(it.java, null, prefix, Json.standard()) }.associateBy { it.definition().name.removePrefix(prefix) }

enum class Color { RED, GREEN, BLUE }

@Serializable
class Nested(val name: Given<String>? = null, val depth: Given<Int>? = null)

@Serializable
class Typed(
    val text: Given<String>? = null,
    val flag: Given<Boolean>? = null,
    val small: Given<Int>? = null,
    val large: Given<Long>? = null,
    val ratio: Given<Double>? = null,
    val amount: Given<@Contextual BigDecimal>? = null,
    val data: Given<Bytes>? = null,
    val at: Given<@Contextual Instant>? = null,
    val on: Given<@Contextual LocalDate>? = null,
    val lasting: Given<@Contextual Duration>? = null,
    val color: Given<Color>? = null,
    val tags: Given<List<String>>? = null,
    val scores: Given<Map<String, Int>>? = null,
    val nested: Given<Nested>? = null,
    val maybe: Given<String?>? = null,
)

@Agent
class Echo {
    @Handler(byDefault = true)
    fun echo(content: JsonElement?): JsonElement? = content

    @Handler
    suspend fun typed(content: Typed): Typed = content

    @Handler
    fun describe(content: JsonElement?, context: Context): Map<String, Any?> = mapOf(
        "agent" to context.agent,
        "key" to context.key,
        "handler" to context.handler,
        "type" to context.message.type,
        "headers" to context.headers,
        "source" to context.message.source,
        "sender" to context.message.sender,
        "priority" to context.message.priority.name,
        "message_id" to context.message.id,
        "attempt" to context.attempt,
        "traceparent" to context.traceparent,
        "content" to content,
    )

    @Handler
    suspend fun nothing() {
    }

    @Handler
    @RequiresPermission("conformance.guard")
    fun guarded(): String = "open"
}

@Agent
class Counter {
    private var total by memory(0, persistent = true)

    @Handler
    suspend fun increment(n: Int = 1): Int {
        total += n
        return total
    }

    @Handler(name = "total", byDefault = true)
    fun asked(): Int = total

    @Handler(name = "fail_after_increment")
    fun failAfterIncrement(n: Int = 1) {
        total += n
        throw HandlerException("OOPS", "failed after the increment, as it was asked to")
    }
}

@Agent
class Failing {
    @Handler(byDefault = true)
    suspend fun fail(what: Map<String, Any?>): Nothing = throw Errors.thrown(what)

    @Handler
    fun result(status: String, data: Any?, message: String = "", metadata: Map<String, Any?> = emptyMap()): ProcessingResult =
        ProcessingResult(ProcessingResult.Status.valueOf(status.uppercase()), data, message, metadata)
}

@Agent
class Slow {
    @Handler(name = "wait", byDefault = true)
    suspend fun waiting(): String = Waiting.here()

    @Handler(concurrent = true)
    suspend fun hold(): String = Waiting.here()

    @Handler(concurrent = true)
    fun release(): Int = Waiting.release()

    @Handler(concurrent = true)
    fun cancelled(): Int = Waiting.cancelled
}

@Agent
class Stream {
    @Serializable
    class Count(val to: Int, @SerialName("fail_at") val failAt: Int? = null)

    @Handler(byDefault = true)
    fun count(asked: Count): Flow<Int> = flow {
        repeat(asked.to) { i ->
            if (i == asked.failAt) throw HandlerException("BROKEN", "failed in place of chunk $i, as it was asked to")
            emit(i)
        }
    }

    @Handler
    fun endless(): Flow<Int> = flow { generateSequence(0) { it + 1 }.forEach { emit(it) } }
}

@Agent
class Blocking {
    @Serializable
    class Pause(val ms: Long)

    @Handler(byDefault = true, execution = Execution.THREAD)
    fun block(pause: Pause): String {
        Thread.sleep(pause.ms)
        return "done"
    }

    @Handler(name = "block_process", execution = Execution.PROCESS)
    fun blockProcess(pause: Pause): String = block(pause)
}

@Agent(name = "Scheduled")
class Scheduling {
    private var ticks by memory(0, persistent = true)

    @Scheduled(name = "every-minute", fixedRate = "60s")
    @Scheduled(name = "after-rest", fixedDelay = "30s", initialDelay = "5s")
    @Scheduled(name = "mornings", cron = "0 30 6 * * MON-FRI", zone = "Europe/Berlin", missed = Missed.SKIP)
    suspend fun tick(): Int = ++ticks

    @Handler(name = "ticks", byDefault = true)
    fun asked(): Int = ticks
}

@Agent
@Supervisor(
    strategy = RestartStrategy.REST_FOR_ONE,
    maxRestarts = 5,
    within = "10s",
    maxBackoff = "2s",
    children = [
        Supervised(agent = "Ward"),
        Supervised(agent = "Orderly", key = "*", restart = Restart.TRANSIENT, onRestart = "report"),
        Supervised(agent = "Visitor", key = "guest", restart = Restart.TEMPORARY),
    ],
)
class Overseer {
    @Handler(byDefault = true)
    fun watch(): String = "watching"
}

@MessageRouter(order = 10)
class Router : BaseMessageRouter() {
    @Serializable
    private class Where(val agent: String, val key: String = "", val handler: String = "")

    override suspend fun route(message: Message): AgentReference? {
        if (message.type != "conformance.route") return null
        val where = message.contentAs<Where>()
        return findAgent(where.agent, where.key, where.handler)
    }
}

@PerformanceMonitor
class Monitor : BasePerformanceMonitor() {
    override suspend fun onMessageProcessed(
        agentName: String,
        message: Message,
        result: ProcessingResult,
        duration: Duration,
    ) {
        if (agentName.endsWith("Echo")) observed += listOf(agentName, message.handler, result.status.name.lowercase())
    }

    companion object {
        val observed = CopyOnWriteArrayList<List<String>>()
    }
}

@Agent(groups = ["conformance"], labels = ["tier=gold"])
class Listener {
    private val seen by memoryList<Any?>(persistent = true)

    @Handler(name = "on_event")
    @Subscribe("conformance.events.*", filter = "level in (high, critical)")
    suspend fun onEvent(content: Any?) {
        if (content == "fail") throw HandlerException("REFUSED", "refused, as it was asked to")
        seen += content
    }

    @Handler(name = "seen", byDefault = true)
    fun asked(): List<Any?> = seen

    @Handler
    fun observed(): List<List<String>> = Monitor.observed
}
