package com.aimatrix.examples

import com.aimatrix.engine.kotlin.ProcessingResult
import com.aimatrix.engine.kotlin.testing.agentTest
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.sql.SQLException
import java.time.Duration
import java.time.Instant

/** The agent alone, without an engine, on real files and a real database. */
class DataProcessingTest {
    @TempDir
    lateinit var folder: File

    private val database by lazy { DatabaseConnector("jdbc:sqlite:${File(folder, "test.db")}") }

    private val customers = DataFile("input/customer_data.csv")

    private fun file(name: String, text: String) = DataFile(File(folder, name).apply { writeText(text) }.path)

    @Test
    fun a_file_is_brought_into_the_database_once() = agentTest(DataProcessingAgent(database)) {
        val first = request<ProcessingResult>(customers)
        assertTrue(first.isSuccess)
        assertEquals(120, (first.data as Map<*, *>)["recordsProcessed"])
        assertEquals(120, database.count("customer_data"))
        val early = database.find("customer_data", "customer_id", "C0002")!!
        assertEquals("calls herself \"the early bird\"", early["notes"])
        assertNull(database.find("customer_data", "customer_id", "C0001")!!["notes"])

        val again = request<ProcessingResult>(customers)
        assertTrue(again.isSuccess)
        assertEquals("already processed: input/customer_data.csv", again.message)
        assertEquals(setOf(customers.path), memory().get("processedFiles"))
    }

    @Test
    fun a_file_that_is_not_valid_leaves_no_trace() = agentTest(DataProcessingAgent(database)) {
        val result = request<ProcessingResult>(file("broken.csv", "id,name\n1,Ada\n1,Grace\n,Alan\n"))
        assertEquals("VALIDATION_FAILED", result.errorType)
        assertEquals(listOf("line 3: id '1' was on line 2 already", "line 4: id is empty"), result.data)
        assertThrows(SQLException::class.java) { database.count("broken") }
        assertEquals(emptySet<String>(), memory().get("processedFiles"))
    }

    @Test
    fun a_file_or_database_that_is_not_there_is_an_error_result() {
        agentTest(DataProcessingAgent(database)) {
            val result = request<ProcessingResult>(DataFile("no/such/file.csv"))
            assertEquals("PROCESSING_ERROR", result.errorType)
            assertEquals("no/such/file.csv", result.message)
        }
        agentTest(DataProcessingAgent(DatabaseConnector("jdbc:sqlite:no/such/folder/test.db"))) {
            assertTrue(request<ProcessingResult>(customers).isError)
            assertEquals(emptySet<String>(), memory().get("processedFiles")) // so that it is tried again
        }
    }

    @Test
    fun files_that_are_old_or_gone_are_forgotten() = agentTest(DataProcessingAgent(database)) {
        val old = file("old.csv", "id\n1\n")
        val gone = file("gone.csv", "id\n1\n")
        for (one in listOf(old, gone, customers)) {
            assertTrue(request<ProcessingResult>(one).isSuccess)
        }
        File(old.path).setLastModified(Instant.now().minus(Duration.ofDays(31)).toEpochMilli())
        File(gone.path).delete()
        val kept = file("kept.csv", "id\n1\n")
        request<ProcessingResult>(kept)
        File(customers.path).setLastModified(Instant.now().toEpochMilli())
        fire("cleanupOldEntries")
        assertEquals(setOf(customers.path, kept.path), memory().get("processedFiles"))
    }
}
