// This process's link to an engine.

package com.aimatrix.engine.kotlin

import com.aimatrix.engine.kotlin.hosting.asFlow
import com.aimatrix.engine.kotlin.values.contentOf
import com.aimatrix.engine.kotlin.values.decode
import com.aimatrix.engine.v1.Payload
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.future.await
import kotlinx.coroutines.runInterruptible
import kotlinx.coroutines.withContext
import kotlin.reflect.KType
import kotlin.reflect.typeOf
import kotlin.time.Duration
import kotlin.time.Duration.Companion.seconds
import kotlin.time.toJavaDuration
import com.aimatrix.engine.AmxEngine as JavaEngine
import com.aimatrix.engine.Events as JavaEvents

/**
 * This process's link to an engine: hosts agents, and calls others.
 *
 * ```
 * fun main() = runBlocking {
 *     amxEngine { agent<Greeter>() }.use { engine ->
 *         engine.start()
 *         println(engine.request<String>("Greeter", "Ada"))
 *     }
 * }
 * ```
 *
 * Calls end with [AmxException] and the engine's reason. While the link is lost they wait, until their timeouts. Safe for
 * use by many coroutines and threads; none of its functions blocks the thread it is called on but [close].
 */
public class AmxEngine internal constructor(internal val java: JavaEngine) : AutoCloseable {
    /** Whether `start` was called, and `stop` was not. */
    public val isStarted: Boolean get() = java.started()

    /** Where the engine is: `host:port`. */
    public val address: String get() = java.address()

    /** What the builder was given, by section. */
    public val config: Map<String, Any?> get() = java.config()

    // --- life --------------------------------------------------------------------------------------------------------

    /**
     * Connects, and offers the agents to the engine. An engine that cannot be reached is tried again for [patience];
     * unless said, for 10 s if its address was given, once otherwise.
     *
     * @return this
     * @throws AmxException ENGINE_UNREACHABLE, UNAUTHENTICATED, DEFINITION_CHANGED, ALREADY_STARTED, or whatever else the
     *     engine refuses the link for; nothing is left running then
     */
    public suspend fun start(patience: Duration? = null): AmxEngine {
        blocking { if (patience == null) java.start() else java.start(patience.toJavaDuration()) }
        return this
    }

    /**
     * Takes no new messages, lets handlers finish, then cancels them and disconnects. Does nothing if it is not started.
     * A coroutine that is cancelled stops it, too.
     *
     * @param deadline how long handlers may take
     */
    public suspend fun stop(deadline: Duration = DRAIN): Unit =
        withContext(NonCancellable + Dispatchers.IO) { java.stop(deadline.toJavaDuration()) }

    /** As [stop], but blocks. */
    override fun close(): Unit = java.close()

    /** Runs until the process is told to end, or `stop`, then stops. Starts first if need be. For the main of a worker. */
    public suspend fun runForever(): Unit = blocking { java.runForever() }

    /**
     * Hosts more agents, or newer versions, from now on; no longer those that are named.
     *
     * @param removed names of agents
     * @param joining says which
     * @throws AmxException if the engine refuses them; nothing has changed then
     */
    public suspend fun host(removed: Collection<String> = emptyList(), joining: AmxEngineBuilder.() -> Unit = {}) {
        val builder = AmxEngineBuilder().apply(joining)
        blocking { java.host(builder.agents, removed) }
    }

    // --- messages ----------------------------------------------------------------------------------------------------

    /**
     * Sends a message and waits for what its handler returned.
     *
     * @param agentName `name` or `name/key`
     * @param message a [Message], or anything with a JSON form
     * @return a [ProcessingResult] if that is what was returned; null: no value
     */
    public suspend fun sendMessage(agentName: String, message: Any?, options: MessageOptions.() -> Unit = {}): Any? =
        request(agentName, message, typeOf<Any?>(), options)

    /**
     * Sends a message and waits for what its handler returned. Cancelling cancels the handler.
     *
     * @param T what it answers; [ProcessingResult] for all that it says
     * @param agent `name` or `name/key`
     * @param content a [Message], or anything with a JSON form
     * @param options more to say; 30 s of time unless said
     */
    public suspend inline fun <reified T> request(
        agent: String,
        content: Any? = null,
        noinline options: MessageOptions.() -> Unit = {},
    ): T = request(agent, content, typeOf<T>(), options) as T

    /** As above, where the type is known at run time only. */
    public suspend fun request(agent: String, content: Any?, type: KType, options: MessageOptions.() -> Unit): Any? {
        val said = MessageOptions().apply(options).java()
        val payload = java.requestAsync(agent, contentOf(content), Payload::class.java, said).await()
        return decode(payload ?: Payload.getDefaultInstance(), type)
    }

    /**
     * Sends a message one way, and waits until the engine has it (stored, unless it is said not to be durable).
     *
     * @param agent `name` or `name/key`
     * @param content a [Message], or anything with a JSON form
     * @param options more to say; without an id it gets one, so that a repeat after a restart is still one message
     */
    public suspend fun send(agent: String, content: Any? = null, options: MessageOptions.() -> Unit = {}): Receipt =
        Receipt.of(java.sendAsync(agent, contentOf(content), MessageOptions().apply(options).java()).await())

    /**
     * Sends a message and reads what its handler yields. A handler that returns instead is a stream of one. Nothing is
     * sent before somebody collects. The handler waits for slow collectors, and is cancelled if they are.
     *
     * @param T type of its chunks
     * @param agent `name` or `name/key`
     * @param content a [Message], or anything with a JSON form
     * @param options more to say; 30 s of time unless said
     */
    public inline fun <reified T> stream(
        agent: String,
        content: Any? = null,
        noinline options: MessageOptions.() -> Unit = {},
    ): Flow<T> = stream(agent, content, typeOf<T>(), options).map { it as T }

    /** As above, where the type is known at run time only. */
    public fun stream(agent: String, content: Any?, type: KType, options: MessageOptions.() -> Unit): Flow<Any?> = flow {
        val said = MessageOptions().apply(options).java()
        java.stream(agent, contentOf(content), Payload::class.java, said).asFlow().collect { emit(decode(it, type)) }
    }

    /**
     * Publishes an event to whoever subscribed to its topic, and waits until the engine has it.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     */
    public suspend fun publish(topic: String, content: Any? = null, options: EventOptions.() -> Unit = {}): Publication =
        Publication.of(java.publishAsync(topic, contentOf(content), EventOptions().apply(options).java()).await())

    /**
     * Events on topics that match, from when they are collected until they are not.
     *
     * @param pattern `*` is one segment, `**` any number
     * @param filter on attributes, such as `severity in (high, critical)`; empty: all
     */
    public fun subscribe(pattern: String, filter: String = ""): Flow<Message> =
        eventsOf { java.subscribeAsync(pattern, filter).await() }

    /**
     * Sends a message to many, and waits for what became of it.
     *
     * @param content anything with a JSON form
     * @param options more to say; 30 s of time unless said
     */
    public suspend fun broadcast(scope: Scope, content: Any? = null, options: MessageOptions.() -> Unit = {}): Broadcast =
        Broadcast.of(java.broadcastAsync(scope.java, contentOf(content), MessageOptions().apply(options).java()).await())

    /**
     * The memory of one instance, from outside.
     *
     * @param agent `name` or `name/key`
     */
    public fun memory(agent: String): RemoteMemory = RemoteMemory(java.memory(agent))

    public companion object {
        private val DRAIN = 30.seconds

        /** Where an AmxEngine begins; [amxEngine] does it in one go. */
        public fun builder(): AmxEngineBuilder = AmxEngineBuilder()

        /** Java's engine, as Kotlin's: where both languages meet. It is the same engine. */
        public fun of(java: JavaEngine): AmxEngine = AmxEngine(java)

        /** Java says of a thread that was interrupted that its call is given up; of a coroutine that is: it is cancelled. */
        private suspend fun <T> blocking(body: () -> T): T = runInterruptible(Dispatchers.IO) {
            try {
                body()
            } catch (error: AmxException) {
                throw error.cause as? InterruptedException ?: error
            }
        }
    }
}

/** Events as a flow: subscribed while it is collected. */
internal fun eventsOf(open: suspend () -> JavaEvents): Flow<Message> = flow {
    open().use { events ->
        while (true) {
            emit(Message(events.nextAsync().await() ?: break))
        }
    }
}
