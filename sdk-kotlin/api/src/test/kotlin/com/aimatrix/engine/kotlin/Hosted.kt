// An agent without a host: handlers are called as the host calls them.

package com.aimatrix.engine.kotlin

import com.aimatrix.engine.Agents
import com.aimatrix.engine.json.Payloads
import com.aimatrix.engine.spec.AgentInstance
import com.aimatrix.engine.spec.AgentSpec
import com.aimatrix.engine.spec.EngineCalls
import com.aimatrix.engine.spec.HandlerRun
import com.aimatrix.engine.v1.Effects
import com.aimatrix.engine.v1.Payload
import java.util.OptionalDouble
import java.util.concurrent.CompletableFuture
import java.util.concurrent.CompletionException
import java.util.concurrent.CompletionStage
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import java.util.concurrent.Flow
import java.util.concurrent.TimeUnit
import java.util.function.Consumer
import kotlin.reflect.KClass
import com.aimatrix.engine.v1.Message as Wire

private val THREADS = Executors.newCachedThreadPool { Thread(it, "handler").apply { isDaemon = true } }

/** One invocation. */
internal class Run(private val wire: Wire) : HandlerRun {
    val effects: Effects.Builder = Effects.newBuilder()
    private val callbacks = mutableListOf<Consumer<AmxException>>()
    private var why: AmxException? = null

    fun stop(reason: AmxException) {
        why = reason
        callbacks.forEach { it.accept(reason) }
    }

    override fun agent(): String = "Tested"
    override fun key(): String = "k"
    override fun handler(): String = wire.handler
    override fun message(): Wire = wire
    override fun topic(): String = wire.topic
    override fun invocationId(): Long = 7
    override fun attempt(): Int = 1
    override fun remainingMs(): OptionalDouble = OptionalDouble.empty()
    override fun streaming(): Boolean = true
    override fun stopped(): AmxException? = why
    override fun onStop(callback: Consumer<AmxException>) {
        callbacks += callback
    }
    override fun ended(): Boolean = false
    override fun stage(change: Consumer<Effects.Builder>) = change.accept(effects)
    override fun calls(): EngineCalls = error("there is no engine")
    override fun executor(): Executor = THREADS
    override fun config(): Map<String, Any> = mapOf("a" to 1)
}

/** An agent with one instance. */
internal class Hosted(val spec: AgentSpec) {
    constructor(type: KClass<*>) : this(Agents.of(type.java))

    val instance: AgentInstance = instance("k")

    fun instance(key: String): AgentInstance = spec.createInstance(key) { 0.0 }.also { it.memory()?.load(emptyList(), 0) }

    fun message(handler: String, json: String?): Wire {
        val payload = json?.let { Payloads.ofJson(it.toByteArray()) } ?: Payload.getDefaultInstance()
        return Wire.newBuilder().setAgent("Tested").setHandler(handler).setPayload(payload).build()
    }

    fun begin(handler: String, run: Run, on: AgentInstance = instance): Any? {
        val its = spec.handlers().getValue(handler)
        return its.call(on, its.decode(run.message()), run)
    }

    /** What the handler answers, as JSON; empty if nothing. */
    fun ask(handler: String, json: String? = null, on: AgentInstance = instance): String {
        val value = begin(handler, Run(message(handler, json)), on)
        val result = if (value is CompletionStage<*>) ended(value) else value
        return spec.handlers().getValue(handler).encode(result).data.toStringUtf8()
    }

    /** The chunks it yields, as JSON. */
    fun chunks(handler: String, json: String? = null): List<String> {
        val value = begin(handler, Run(message(handler, json)))
        val publisher = if (value is CompletionStage<*>) ended(value) else value
        val chunks = mutableListOf<String>()
        val done = CompletableFuture<Unit>()
        @Suppress("UNCHECKED_CAST")
        (publisher as Flow.Publisher<Any?>).subscribe(
            object : Flow.Subscriber<Any?> {
                lateinit var subscription: Flow.Subscription
                override fun onSubscribe(given: Flow.Subscription) {
                    subscription = given
                    given.request(1)
                }

                override fun onNext(item: Any?) {
                    chunks += spec.handlers().getValue(handler).encodeChunk(item).data.toStringUtf8()
                    subscription.request(1)
                }

                override fun onError(error: Throwable) {
                    done.completeExceptionally(error)
                }

                override fun onComplete() {
                    done.complete(Unit)
                }
            },
        )
        ended(done)
        return chunks
    }
}

/** The value of a stage, or what it failed with. */
internal fun <T> ended(stage: CompletionStage<T>): T = try {
    stage.toCompletableFuture().orTimeout(60, TimeUnit.SECONDS).join()
} catch (error: CompletionException) {
    throw error.cause ?: error
}
