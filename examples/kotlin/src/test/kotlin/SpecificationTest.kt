package com.aimatrix.examples

import com.aimatrix.engine.kotlin.AmxEngine
import com.aimatrix.engine.kotlin.Priority
import com.aimatrix.engine.kotlin.ProcessingResult
import com.aimatrix.engine.kotlin.testing.EmbeddedEngine
import com.aimatrix.engine.kotlin.testing.WithEmbeddedEngine
import com.aimatrix.engine.kotlin.testing.link
import kotlinx.coroutines.delay
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Assumptions.assumeTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.condition.EnabledIf
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.concurrent.TimeUnit
import kotlin.time.Duration.Companion.minutes
import kotlin.time.Duration.Companion.seconds

/** The specification's programs with a real engine; `make kotlin` names its program. */
@EnabledIf(value = "com.aimatrix.engine.testing.EmbeddedEngine#available", disabledReason = "no engine: AMX_COMMAND")
@WithEmbeddedEngine
class SpecificationTest {
    @TempDir
    lateinit var folder: File

    private val database by lazy { DatabaseConnector(url) }
    private val url by lazy { "jdbc:sqlite:${File(folder, "test.db")}" }

    private fun with(engine: EmbeddedEngine, vararg agents: Any, test: suspend (AmxEngine) -> Unit): Unit = runBlocking {
        engine.link { agents.forEach(::withAgent) }.use { link ->
            link.start(1.minutes)
            withTimeout(2.minutes) { test(link) }
        }
    }

    /** What the program prints, run as its own process. */
    private fun run(engine: EmbeddedEngine): String {
        val java = File(System.getProperty("java.home"), "bin/java").path
        val process = ProcessBuilder(java, "-cp", System.getProperty("java.class.path"), "com.aimatrix.examples.DataProcessingKt")
            .apply { environment() += mapOf("AMX_ADDRESS" to engine.address(), "DATABASE_URL" to url) }
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start()
        val printed = process.inputStream.bufferedReader().readText()
        assertTrue(process.waitFor(60, TimeUnit.SECONDS))
        assertEquals(0, process.exitValue())
        return printed
    }

    @Test
    fun the_program_imports_its_file_and_knows_so_when_it_is_run_again(engine: EmbeddedEngine) {
        val first = run(engine)
        assertTrue(first.startsWith("Processing result: ProcessingResult(success, data={recordsProcessed=120, "), first)
        assertEquals(120, database.count("customer_data"))
        val again = run(engine)
        assertTrue(again.contains("already processed: input/customer_data.csv"), again)
    }

    @Test
    fun all_airports_of_the_world_get_into_the_database(engine: EmbeddedEngine) {
        val airports = System.getenv("AMX_AIRPORTS")
        assumeTrue(airports != null, "AMX_AIRPORTS names no file of airports")
        with(engine, DataProcessingAgent(database)) { link ->
            val result = link.request<ProcessingResult>("DataProcessingAgent/airports", DataFile(airports)) { timeout = 60.seconds }
            val records = File(airports).useLines { lines -> lines.count() } - 1 // no field of it has a line end
            assertEquals(records, (result.data as Map<*, *>)["recordsProcessed"])
            assertTrue(records > 20_000)
            assertEquals(records.toLong(), database.count("airports"))
            assertEquals("Frankfurt am Main International Airport", database.find("airports", "icao", "EDDF")!!["name"])
        }
    }

    @Test
    fun messages_for_nobody_go_where_the_router_sends_them(engine: EmbeddedEngine) {
        val desks = arrayOf(HighPriorityAgent(), CustomerServiceAgent(), MobileResponseAgent(), DefaultAgent())
        with(engine, CustomRouter(), *desks) { link ->
            val urgent = link.request<String>("", "fire!") { priority = Priority.HIGH; type = "customer_inquiry" }
            assertEquals("HighPriorityAgent: fire!", urgent)
            val inquiry = link.request<String>("", "my order?") { type = "customer_inquiry"; source = "mobile_app" }
            assertEquals("CustomerServiceAgent: my order?", inquiry)
            assertEquals("MobileResponseAgent: hi", link.request<String>("", "hi") { source = "mobile_app" })
            assertEquals("DefaultAgent: hello", link.request<String>("", "hello"))
        }
    }

    @Test
    fun the_tracker_sees_how_every_message_ends(engine: EmbeddedEngine) {
        val tracker = AgentPerformanceTracker()
        with(engine, tracker, DataProcessingAgent(database)) { link ->
            val before = tracker.seen("DataProcessingAgent")
            assertTrue(link.request<ProcessingResult>("DataProcessingAgent/tracked", DataFile("input/customer_data.csv")).isSuccess)
            assertTrue(link.request<ProcessingResult>("DataProcessingAgent/tracked", DataFile("no/such.csv")).isError)
            fun seen() = tracker.seen("DataProcessingAgent")
            while (seen().processed < before.processed + 2 || seen().errors.isEmpty()) {
                delay(10) // monitors are told afterwards, and count one thing after the other
            }
            assertEquals(1, seen().errors["PROCESSING_ERROR"])
        }
    }
}
