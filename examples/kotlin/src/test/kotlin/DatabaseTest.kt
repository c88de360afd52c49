package com.aimatrix.examples

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Job
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.sql.SQLException

class DatabaseTest {
    @TempDir
    lateinit var folder: File

    private val database by lazy { DatabaseConnector("jdbc:sqlite:${File(folder, "test.db")}") }

    private fun record(vararg columns: Pair<String, String?>) =
        Record("a \"table\"", columns.map { it.first }, columns.map { it.second })

    @Test
    fun records_written_twice_are_there_once_as_they_were_last(): Unit = runBlocking {
        database.batchInsert(listOf(record("id" to "1", "order" to "x"), record("id" to "2", "order" to null)))
        database.batchInsert(listOf(record("id" to "1", "order" to "'; DROP TABLE x; --")))
        assertEquals(2, database.count("a \"table\""))
        assertEquals(mapOf("id" to "1", "order" to "'; DROP TABLE x; --"), database.find("a \"table\"", "id", "1"))
        assertNull(database.find("a \"table\"", "id", "3"))
    }

    @Test
    fun all_of_a_batch_are_written_or_none() {
        val good = List(2_000) { record("id" to "$it") }
        assertThrows(SQLException::class.java) {
            runBlocking { database.batchInsert(good + record("id" to null)) }
        }
        assertThrows(SQLException::class.java) { database.count("a \"table\"") } // not even the table
    }

    @Test
    fun nothing_is_written_once_the_coroutine_is_cancelled() {
        val job = Job().apply { cancel() }
        assertThrows(CancellationException::class.java) {
            runBlocking { withContext(job) { database.batchInsert(listOf(record("id" to "1"))) } }
        }
        assertThrows(SQLException::class.java) { database.count("a \"table\"") }
    }
}
