// One invocation, as its handler sees it.

package com.aimatrix.engine.kotlin

import com.aimatrix.engine.kotlin.hosting.ContextElement
import com.aimatrix.engine.kotlin.hosting.asFlow
import com.aimatrix.engine.kotlin.values.contentOf
import com.aimatrix.engine.kotlin.values.decode
import com.aimatrix.engine.v1.Payload
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.future.await
import org.slf4j.Logger
import kotlin.reflect.KType
import kotlin.reflect.typeOf
import kotlin.time.Duration
import kotlin.time.toJavaDuration
import kotlin.time.toKotlinDuration
import com.aimatrix.engine.Context as JavaContext

/**
 * One invocation, as its handler sees it: what it may ask, and do besides returning. What is staged is committed with
 * the handler's result or not at all; calls are made at once. Valid until the handler has ended; in any coroutine.
 *
 * Calls end with [AmxException], at the latest when the handler's own deadline passes; when it is cancelled, so are they.
 */
public class Context internal constructor(internal val java: JavaContext) {
    /** What is handled. */
    public val message: Message get() = Message(java.message())

    /** Headers of the message. */
    public val headers: Map<String, String> get() = java.headers()

    /** Name of the agent. */
    public val agent: String get() = java.agent()

    /** Key of the instance. */
    public val key: String get() = java.key()

    /** Name of the handler. */
    public val handler: String get() = java.handler()

    /** The instance. */
    public val address: AgentReference get() = java.address()

    /** Which attempt it is; 1 for the first. */
    public val attempt: Int get() = java.attempt()

    /** W3C trace context of the sender; may be empty. */
    public val traceparent: String get() = java.traceparent()

    /** Time until the deadline, not negative; null without one. */
    public val remaining: Duration? get() = java.remaining().map { it.toKotlinDuration() }.orElse(null)

    /** Why it was asked to stop: cancelled, out of time, or the session was lost; null: it was not. */
    public val stopped: AmxException? get() = java.stopped().orElse(null)

    /** Whether the caller reads chunks. */
    public val isStreaming: Boolean get() = java.streaming()

    /** What `withConfig` of the builder was given, by section. */
    public val config: Map<String, Any?> get() = java.config()

    /** Logs with the name of this agent and handler: `amx.agent.NAME.HANDLER`. */
    public val logger: Logger get() = java.logger()

    /**
     * Gives a memory that is a single value a lifetime of its own, which starts now; it becomes the initial value again.
     *
     * @param memory its name
     * @param ttl positive
     */
    public fun expire(memory: String, ttl: Duration): Unit = java.expire(memory, ttl.toJavaDuration())

    // --- what is committed with its result ---------------------------------------------------------------------------

    /**
     * Stages a one-way message: sent when this invocation commits, never if it fails.
     *
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form; a [Message] keeps what it says of itself
     */
    public fun send(agent: String, content: Any? = null, options: MessageOptions.() -> Unit = {}): Unit =
        java.send(agent, contentOf(content), MessageOptions().apply(options).java())

    /**
     * Stages an event: published when this invocation commits, never if it fails.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     */
    public fun publish(topic: String, content: Any? = null, options: EventOptions.() -> Unit = {}): Unit =
        java.publish(topic, contentOf(content), EventOptions().apply(options).java())

    /**
     * Stages a timer of this instance, replacing the one of that name.
     *
     * @param handler that it runs
     * @param content of its messages
     */
    public fun schedule(name: String, handler: String, timing: Timing, content: Any? = null): Unit =
        java.schedule(name, handler, timing.java, contentOf(content))

    /** Stages the removal of a timer of this instance; an unknown name does nothing. */
    public fun unschedule(name: String): Unit = java.unschedule(name)

    /**
     * Stages a subscription of this instance to events.
     *
     * @param pattern such as `orders.*`
     * @param handler that receives them
     * @param filter by attributes; empty: all
     */
    public fun subscribe(pattern: String, handler: String, filter: String = ""): Unit =
        java.subscribe(pattern, handler, filter)

    /** Stages the end of this instance's subscription. */
    public fun unsubscribe(pattern: String): Unit = java.unsubscribe(pattern)

    // --- what is done at once ----------------------------------------------------------------------------------------

    /**
     * Asks another agent, and waits for its value. Cancelling cancels the handler that was asked.
     *
     * @param T what it answers; [ProcessingResult] for all that it says
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form
     * @throws AmxException with its reason
     */
    public suspend inline fun <reified T> request(
        agent: String,
        content: Any? = null,
        noinline options: MessageOptions.() -> Unit = {},
    ): T = request(agent, content, typeOf<T>(), options) as T

    /** As above, where the type is known at run time only. */
    public suspend fun request(agent: String, content: Any?, type: KType, options: MessageOptions.() -> Unit): Any? {
        val said = MessageOptions().apply(options).java()
        return decode(java.requestAsync(agent, contentOf(content), Payload::class.java, said).await() ?: NOTHING, type)
    }

    /**
     * Asks a streaming handler. Nothing is sent before somebody collects; cancelling cancels the handler.
     *
     * @param T type of its chunks
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form
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
     * Sends at once, whether or not this invocation succeeds, and waits until the engine has it.
     *
     * @param agent `name` or `name/key`
     * @param content anything with a JSON form
     */
    public suspend fun sendNow(agent: String, content: Any? = null, options: MessageOptions.() -> Unit = {}): Receipt =
        Receipt.of(java.sendNowAsync(agent, contentOf(content), MessageOptions().apply(options).java()).await())

    /**
     * Publishes at once, whether or not this invocation succeeds, and waits until the engine has it.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     */
    public suspend fun publishNow(topic: String, content: Any? = null, options: EventOptions.() -> Unit = {}): Publication =
        Publication.of(java.publishNowAsync(topic, contentOf(content), EventOptions().apply(options).java()).await())

    /**
     * Sends to many at once, whether or not this invocation succeeds, and waits for what became of it.
     *
     * @param content anything with a JSON form
     */
    public suspend fun broadcast(scope: Scope, content: Any? = null, options: MessageOptions.() -> Unit = {}): Broadcast =
        Broadcast.of(java.broadcastAsync(scope.java, contentOf(content), MessageOptions().apply(options).java()).await())

    /**
     * Events on topics that match, for a handler that waits for something: from when it is collected until it is not.
     *
     * @param pattern such as `orders.*`
     * @param filter by attributes; empty: all
     */
    public fun events(pattern: String, filter: String = ""): Flow<Message> =
        eventsOf { java.eventsAsync(pattern, filter).await() }

    /**
     * The memory of another instance, as it is committed.
     *
     * @param agent `name` or `name/key`
     */
    public fun memoryOf(agent: String): RemoteMemory = RemoteMemory(java.memoryOf(agent))

    public companion object {
        internal val NOTHING: Payload = Payload.getDefaultInstance()

        /** Java's context, as Kotlin's: where both languages meet. */
        public fun of(java: JavaContext): Context = Context(java)

        /**
         * The context of the handler that runs in this coroutine.
         *
         * @throws AmxException NO_CONTEXT if none does
         */
        public suspend fun current(): Context =
            currentCoroutineContext()[ContextElement]?.context ?: Context(JavaContext.current())
    }
}
