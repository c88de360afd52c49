package com.aimatrix.engine.kotlin

import com.aimatrix.engine.Agents
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.withContext
import kotlinx.coroutines.yield
import kotlinx.serialization.Contextual
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.math.BigDecimal
import java.time.Instant
import java.util.concurrent.CompletionStage
import java.util.concurrent.CountDownLatch

@Serializable
internal data class Order(
    val id: String,
    @SerialName("how_many") val count: Int = 1,
    @Contextual val price: BigDecimal? = null,
    @Contextual val at: Instant? = null,
    val tags: List<String> = emptyList(),
    val data: Bytes? = null,
)

@Serializable
internal class Change(val name: Given<String>? = null, val limit: Given<Int?>? = null)

@Serializable
internal class Unsigned(val size: UInt, val much: ULong, val lasting: kotlin.time.Duration)

@Serializable
internal sealed interface Shape {
    @Serializable
    @SerialName("circle")
    data class Circle(val radius: Double) : Shape
}

internal data class Plain(val name: String, val size: Int = 3, val note: String? = null)

internal abstract class Taking<T : Any, R> {
    abstract fun answer(to: T): R

    @Handler
    suspend fun take(all: List<T>, last: T): R {
        yield()
        return answer(all.firstOrNull() ?: last)
    }
}

@Agent(name = "Tested")
internal class TakingOrders : Taking<Order, Map<String, Order>>() {
    override fun answer(to: Order): Map<String, Order> = mapOf(to.id to to)
}

@Agent(name = "Tested")
internal class Handling {
    private val freed = CompletableDeferred<String>()
    val reached = CountDownLatch(1)

    @Handler
    fun plain(name: String): String = "Hello, $name"

    @Handler
    suspend fun suspending(name: String): String {
        yield()
        return withContext(Dispatchers.Default) { "Hello, $name" }
    }

    @Handler
    suspend fun atOnce(number: Int): Int = number + 1

    @Handler
    suspend fun nothing() = yield()

    @Handler
    suspend fun ordered(order: Order): Order = order.copy(count = order.count + 1)

    @Handler
    suspend fun orders(orders: List<Order>): Map<String, Order> = orders.associateBy { it.id }

    @Handler
    fun change(change: Change): Change = change

    @Handler
    fun unsigned(value: Unsigned): Unsigned = value

    @Handler
    fun shape(shape: Shape): Shape = shape

    @Handler
    fun jackson(value: Plain): Plain = value.copy(size = value.size * 2)

    @Handler
    fun optional(number: Int?): String = "$number"

    @Handler
    suspend fun defaults(n: Int = 5): Int {
        yield()
        return n
    }

    @Handler
    fun members(name: String, size: Int = 2, maybe: String?): String = "$name $size $maybe"

    @Handler
    fun texts(texts: List<String>): Int = texts.size

    @Handler
    suspend fun failing(): Nothing {
        yield()
        throw HandlerException("OOPS", "as asked")
    }

    @Handler
    fun counted(to: Int): Flow<Int> = flow { repeat(to) { emit(it) } }

    @Handler
    suspend fun countedLater(to: Int): Flow<Order> {
        yield()
        return flow { repeat(to) { emit(Order("$it")) } }
    }

    @Handler
    suspend fun context(context: Context, message: Message): String {
        yield()
        return withContext(Dispatchers.IO) { "${Context.current().agent} ${context.key} ${message.handler} ${context.config}" }
    }

    @Handler
    suspend fun staging(context: Context) {
        yield()
        context.send("Other", Order("1")) { key = "k" }
    }

    @Handler
    fun result(): ProcessingResult = ProcessingResult.success(Order("7"))

    @Handler(name = "wait")
    suspend fun waiting(): String {
        reached.countDown()
        return freed.await()
    }

    @Handler
    suspend fun slowToStop(): String {
        try {
            reached.countDown()
            awaitCancellation()
        } finally {
            withContext(NonCancellable) { freed.await() }
        }
    }

    @Handler
    suspend fun free() {
        freed.complete("freed")
    }

    @Handler
    internal fun hidden(): String = "seen"
}

class HandlersTest {
    private val hosted = Hosted(Handling::class)

    @Test
    fun `a function is a handler`() = assertEquals("\"Hello, Ada\"", hosted.ask("plain", "\"Ada\""))

    @Test
    fun `a suspending function is a handler`() = assertEquals("\"Hello, Ada\"", hosted.ask("suspending", "\"Ada\""))

    @Test
    fun `a suspending function that does not wait answers on its thread`() {
        val handler = hosted.spec.handlers().getValue("atOnce")
        val run = Run(hosted.message("atOnce", "4"))
        assertEquals(5, handler.call(hosted.instance, handler.decode(run.message()), run))
    }

    @Test
    fun `Unit is no value`() = assertEquals("", hosted.ask("nothing"))

    @Test
    fun `a serializable class travels by its serializer`() {
        assertEquals("""{"id":"a","how_many":3,"tags":[]}""", hosted.ask("ordered", """{"id":"a","how_many":2,"else":0}"""))
        assertEquals(
            """{"id":"a","how_many":2,"price":"1.50","at":"2026-01-31T12:00:00Z","tags":["x"],"data":"AQI="}""",
            hosted.ask(
                "ordered",
                """{"id":"a","price":"1.50","at":"2026-01-31T12:00:00Z","tags":["x"],"data":"AQI="}""",
            ),
        )
    }

    @Test
    fun `serializable classes in collections travel by their serializers`() =
        assertEquals("""{"a":{"id":"a","how_many":1,"tags":[]}}""", hosted.ask("orders", """[{"id":"a"}]"""))

    @Test
    fun `what was left out and what is null stay apart where it matters`() {
        assertEquals("{}", hosted.ask("change", "{}"))
        assertEquals("""{"name":"a","limit":null}""", hosted.ask("change", """{"name":"a","limit":null}"""))
        val error = assertThrows(AmxException::class.java) { hosted.ask("change", """{"name":null}""") }
        assertEquals("name", error.metadata["field"])
        assertEquals(
            """{"type":"object","properties":{"name":{"type":"string"},"limit":{"anyOf":[{"type":"integer"},""" +
                """{"type":"null"}]}}}""",
            hosted.spec.definition().handlersList.single { it.name == "change" }.inputSchema,
        )
    }

    @Test
    fun `a sealed class says which it is`() =
        assertEquals("""{"type":"circle","radius":1.5}""", hosted.ask("shape", """{"type":"circle","radius":1.5}"""))

    @Test
    fun `a class without a serializer travels by Jackson`() {
        assertEquals("""{"name":"a","size":6}""", hosted.ask("jackson", """{"name":"a"}"""))
        assertEquals("""{"name":"a","size":2}""", hosted.ask("jackson", """{"name":"a","size":1,"note":null}"""))
        val error = assertThrows(AmxException::class.java) { hosted.ask("jackson", """{"name":null}""") }
        assertEquals("name", error.metadata["field"])
    }

    @Test
    fun `a nullable parameter may be left out`() {
        assertEquals("\"null\"", hosted.ask("optional"))
        assertEquals("\"4\"", hosted.ask("optional", "4"))
        assertEquals("\"null\"", hosted.ask("optional", "null"))
    }

    @Test
    fun `a parameter with a default may be left out`() {
        assertEquals("5", hosted.ask("defaults"))
        assertEquals("6", hosted.ask("defaults", "6"))
        assertEquals("\"a 2 null\"", hosted.ask("members", """{"name":"a"}"""))
        assertEquals("\"a 4 b\"", hosted.ask("members", """{"name":"a","size":4,"maybe":"b"}"""))
    }

    @Test
    fun `misfits name the field and what was expected`() {
        fun misfit(handler: String, json: String?): String {
            val error = assertThrows(AmxException::class.java) { hosted.ask(handler, json) }
            assertEquals("INVALID_INPUT", error.reason)
            return "${error.metadata["field"]}: ${error.message}"
        }
        assertEquals(
            "how_many: input of handler 'ordered': how_many: is the text \"2\"; expected a whole number of 32 bits",
            misfit("ordered", """{"id":"a","how_many":"2"}"""),
        )
        assertEquals(
            "[1].id: input of handler 'orders': [1].id: is missing; expected text",
            misfit("orders", """[{"id":"a"},{}]"""),
        )
        assertEquals(
            "tags[1]: input of handler 'ordered': tags[1]: is null; expected text",
            misfit("ordered", """{"id":"a","tags":["x",null]}"""),
        )
        assertTrue(misfit("ordered", """{"id":"a","at":"yesterday"}""").startsWith("at: "))
        assertEquals("null: input of handler 'plain': value: is missing; expected String", misfit("plain", null))
        assertTrue(misfit("plain", "null").contains("null"))
        assertTrue(misfit("texts", """["a",null]""").startsWith("[1]: "))
        assertTrue(misfit("members", "{}").startsWith("name: "))
    }

    @Test
    fun `what a suspending function throws is what it fails with`() {
        val error = assertThrows(HandlerException::class.java) { hosted.ask("failing") }
        assertEquals("OOPS", error.reason)
    }

    @Test
    fun `a flow is a stream of chunks`() {
        assertEquals(listOf("0", "1", "2"), hosted.chunks("counted", "3"))
        assertEquals(listOf("""{"id":"0","how_many":1,"tags":[]}"""), hosted.chunks("countedLater", "1"))
        assertTrue(hosted.spec.definition().handlersList.single { it.name == "counted" }.streaming)
    }

    @Test
    fun `the context follows its coroutine`() =
        assertEquals("\"Tested k context {a=1}\"", hosted.ask("context"))

    @Test
    fun `effects are staged after a suspension`() {
        val run = Run(hosted.message("staging", null))
        ended(hosted.begin("staging", run) as CompletionStage<*>)
        val message = run.effects.messagesList.single()
        assertEquals("k", message.key)
        assertEquals("""{"id":"1","how_many":1,"tags":[]}""", message.payload.data.toStringUtf8())
    }

    @Test
    fun `a result says what its data are by their serializers`() {
        val handler = hosted.spec.handlers().getValue("result")
        val run = Run(hosted.message("result", null))
        val payload = handler.encode(handler.call(hosted.instance, handler.decode(run.message()), run))
        assertEquals("application/vnd.amx.result+json", payload.contentType)
        assertTrue(payload.data.toStringUtf8().contains("\"how_many\":1"))
    }

    @Test
    fun `a handler that is to stop is cancelled`() {
        val run = Run(hosted.message("wait", null))
        val stage = hosted.begin("wait", run) as CompletionStage<*>
        run.stop(AmxException(Code.CANCELLED, "CANCELLED", "cancelled: by the test"))
        val error = assertThrows(java.util.concurrent.CancellationException::class.java) { ended(stage) }
        assertEquals("cancelled: by the test", error.message)
    }

    @Test
    fun `a handler that is cancelled has ended when what it does last has`() {
        val run = Run(hosted.message("slowToStop", null))
        val stage = hosted.begin("slowToStop", run) as CompletionStage<*>
        run.stop(AmxException(Code.CANCELLED, "CANCELLED", "cancelled"))
        assertFalse(stage.toCompletableFuture().isDone)
        hosted.ask("free")
        assertThrows(java.util.concurrent.CancellationException::class.java) { ended(stage) }
    }

    @Test
    fun `a type parameter of a class that is extended is what it stands for`() = assertEquals(
        """{"a":{"id":"a","how_many":1,"tags":[]}}""",
        Hosted(TakingOrders::class).ask("take", """{"all":[],"last":{"id":"a"}}"""),
    )

    @Test
    fun `internal functions keep their names`() = assertEquals("\"seen\"", hosted.ask("hidden"))

    @Test
    fun `schemas say what handlers take`() {
        fun schema(name: String) = hosted.spec.definition().handlersList.single { it.name == name }.inputSchema
        assertEquals(
            """{"type":"object","properties":{"id":{"type":"string"},"how_many":{"type":"integer"},""" +
                """"price":{"anyOf":[{"type":"string","format":"decimal"},{"type":"null"}]},""" +
                """"at":{"anyOf":[{"type":"string","format":"date-time"},{"type":"null"}]},""" +
                """"tags":{"type":"array","items":{"type":"string"}},""" +
                """"data":{"anyOf":[{"type":"string","contentEncoding":"base64"},{"type":"null"}]}},"required":["id"]}""",
            schema("ordered"),
        )
        assertEquals("""{"type":"integer"}""", schema("atOnce"))
        assertEquals("""{"anyOf":[{"type":"integer"},{"type":"null"}]}""", schema("optional"))
    }

    @Test
    fun `value classes travel inside of others, and are refused by themselves`() {
        val json = """{"size":4000000000,"much":"18446744073709551615","lasting":"PT1S"}"""
        assertEquals(json, hosted.ask("unsigned", json))
        val misfit = assertThrows(AmxException::class.java) {
            hosted.ask("unsigned", """{"size":-1,"much":"1","lasting":"PT1S"}""")
        }
        assertEquals("size", misfit.metadata["field"])

        @Agent
        class Pausing {
            @Handler
            fun pause(lasting: kotlin.time.Duration): String = "$lasting"
        }
        val error = assertThrows(DefinitionException::class.java) { Agents.of(Pausing::class.java) }
        assertTrue(error.message!!.startsWith("Pausing.pause takes or returns a value class"))
    }

    @Test
    fun `a class with a flow as a parameter is refused`() {
        @Agent
        class Wrong {
            @Handler
            fun take(numbers: Flow<Int>): Int = numbers.hashCode()
        }
        val error = assertThrows(DefinitionException::class.java) { Agents.of(Wrong::class.java) }
        assertTrue(error.message!!.contains("takes a Flow"))
    }
}
