// One agent at work without sockets and without an engine.

package com.aimatrix.engine.kotlin.testing

import com.aimatrix.engine.kotlin.AmxException
import com.aimatrix.engine.kotlin.DefinitionException
import com.aimatrix.engine.kotlin.EventOptions
import com.aimatrix.engine.kotlin.Message
import com.aimatrix.engine.kotlin.MessageOptions
import com.aimatrix.engine.kotlin.RemoteMemory
import com.aimatrix.engine.kotlin.Seam
import com.aimatrix.engine.v1.Payload
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.future.await
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.runInterruptible
import kotlin.reflect.KType
import kotlin.reflect.typeOf
import kotlin.time.Duration
import kotlin.time.toJavaDuration
import com.aimatrix.engine.testing.AgentHarness as JavaHarness
import com.aimatrix.engine.testing.Outcome as JavaOutcome

/**
 * A test of one agent: starts it, runs [test], ends it. For a function of JUnit:
 *
 * ```
 * @Test
 * fun it_greets() = agentTest(Greeter::class) {
 *     assertEquals("Hello, Ada", request<String>("Ada"))
 *     assertEquals(1, memory().get("greetings"))
 * }
 * ```
 *
 * @param agent an annotated class, or an object of one
 * @param config sections that contexts show
 */
public fun agentTest(
    agent: Any,
    config: Map<String, Any?> = emptyMap(),
    test: suspend AgentHarness.() -> Unit,
): Unit = runBlocking { AgentHarness.start(agent, config).use { it.test() } }

/**
 * One agent at work without sockets and without an engine, with everything it does open to inspection.
 *
 * It runs the agent as an engine would: one message at a time for each key, memory kept from one to the next, changes of
 * failed messages undone. Its clock stands still until [advance] moves it. There are no retries, routers or other
 * agents: see [replyTo]. Safe for use by many coroutines and threads.
 */
public class AgentHarness private constructor(private val java: JavaHarness) : AutoCloseable {
    /** Messages of all handlers so far, staged or sent at once. */
    public val sent: List<Message> get() = java.sent().map(Seam::message)

    /** Events of all handlers so far, staged or published at once. */
    public val published: List<Message> get() = java.published().map(Seam::message)

    /** Schedules and timers that handlers have set and that are still there, as `key/name`. */
    public val timers: Set<String> get() = java.timers().keys.toSet()

    /**
     * Hands a message to the agent. Cancelling cancels the handler.
     *
     * @param T what the handler returns
     * @param content a [Message], or anything with a JSON form
     * @param options key, handler, type, headers, timeout and so on
     * @throws AmxException if it fails
     */
    public suspend inline fun <reified T> request(
        content: Any? = null,
        noinline options: MessageOptions.() -> Unit = {},
    ): T = run<T>(content, options = options).value

    /**
     * Hands a message to the agent, and says all that it led to. Without a handler it is chosen as the engine would, by
     * type or default. Cancelling cancels the handler.
     *
     * @param T what the handler returns
     * @param content a [Message], or anything with a JSON form
     * @param attempt which it is; 1 for the first
     * @param options key, handler, type, headers, timeout and so on; delay and ttl are not looked at
     * @throws AmxException if it fails
     */
    @Suppress("UNCHECKED_CAST")
    public suspend inline fun <reified T> run(
        content: Any? = null,
        attempt: Int = 1,
        noinline options: MessageOptions.() -> Unit = {},
    ): Outcome<T> = run(content, typeOf<T>(), attempt, options) as Outcome<T>

    /** As above, where the type is known at run time only. */
    public suspend fun run(
        content: Any?,
        type: KType,
        attempt: Int,
        options: MessageOptions.() -> Unit,
    ): Outcome<Any?> {
        val said = Seam.options(options)
        val done = java.runAsync(Seam.content(content), Payload::class.java, said, attempt).await()
        return outcome(done, Seam.value(done.value(), type))
    }

    /**
     * Hands a message to a streaming handler when it is collected. The handler waits for a slow collector, and is
     * cancelled if it leaves.
     *
     * @param T type of the chunks
     * @param content a [Message], or anything with a JSON form
     * @param options as for [run]
     */
    public inline fun <reified T> stream(
        content: Any? = null,
        noinline options: MessageOptions.() -> Unit = {},
    ): Flow<T> = stream(content, typeOf<T>(), options).map { it as T }

    /** As above, where the type is known at run time only. */
    public fun stream(content: Any?, type: KType, options: MessageOptions.() -> Unit): Flow<Any?> = flow {
        java.stream(Seam.content(content), Payload::class.java, Seam.options(options)).use { chunks ->
            val each = chunks.iterator()
            while (runInterruptible(Dispatchers.IO) { each.hasNext() }) {
                emit(Seam.value(each.next(), type))
            }
        }
    }

    /**
     * Hands an event to the handlers that subscribed to its topic. Filters of subscriptions are the engine's business,
     * and not looked at.
     *
     * @param topic such as `orders.eu.created`
     * @param content anything with a JSON form
     * @param handler its name; empty: those that subscribed
     * @param options attributes, key and so on
     * @return what it led to at each
     * @throws AmxException if one of them fails; NO_SUBSCRIBER if there is none
     */
    public suspend fun deliver(
        topic: String,
        content: Any? = null,
        handler: String = "",
        options: EventOptions.() -> Unit = {},
    ): List<Outcome<Any?>> = blocking {
        java.deliver(topic, Seam.content(content), Seam.eventOptions(options), handler).map { outcome(it, null) }
    }

    /**
     * Runs a schedule of the agent, or a timer that one of its handlers set, now.
     *
     * @param schedule its name
     * @param key of the instance that runs it
     * @throws AmxException if the handler fails; SCHEDULE_UNKNOWN if there is no such schedule
     */
    public suspend fun fire(schedule: String, key: String = "default"): Outcome<Any?> =
        blocking { java.fire(schedule, key).let { outcome(it, it.value()) } }

    /**
     * What another agent answers when this one asks it.
     *
     * @param agent its name
     * @param handler that the message names; empty: any for which nothing else is said
     * @param answer called for each message; what it throws fails the request
     */
    public fun replyTo(agent: String, handler: String = "", answer: suspend (Message) -> Any?): Unit =
        java.replyTo(agent, handler) { asked -> Seam.content(runBlocking { answer(Seam.message(asked)) }) }

    /** What an instance remembers. */
    public fun memory(key: String = "default"): RemoteMemory = Seam.memory(java.memory(key))

    /** Forgets the object of an instance, not its memory, as the engine does with idle instances. Waits for its turn. */
    public suspend fun hibernate(key: String = "default"): Unit = blocking { java.hibernate(key) }

    /** Moves the clock that deadlines and memory expire by. Schedules do not run by themselves here: see [fire]. */
    public suspend fun advance(duration: Duration): Unit = blocking { java.advance(duration.toJavaDuration()) }

    /** Ends it: handlers that run are cancelled, capabilities that were built are closed. */
    override fun close(): Unit = java.close()

    private fun outcome(done: JavaOutcome<*>, value: Any?): Outcome<Any?> = Outcome(
        value,
        done.sent().map(Seam::message),
        done.published().map(Seam::message),
        done.schedules().map { it.name },
        done.memoryChanged(),
    )

    private suspend fun <T> blocking(call: () -> T): T = runInterruptible(Dispatchers.IO) { call() }

    /** How a harness is started. */
    public companion object {
        /**
         * A harness at work.
         *
         * @param agent an annotated class, or an object of one: each key gets a shallow copy
         * @param config sections that contexts show
         * @return to be closed
         * @throws DefinitionException naming the culprit and the cure
         */
        public fun start(agent: Any, config: Map<String, Any?> = emptyMap()): AgentHarness =
            AgentHarness(JavaHarness.start(Seam.spec(agent), Seam.json, config))
    }
}
