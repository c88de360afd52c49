package com.aimatrix.examples

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.nio.file.NoSuchFileException
import java.time.Instant

class TablesTest {
    @TempDir
    lateinit var folder: File

    private val processor = FileProcessor()

    private fun table(text: String): Table =
        processor.parse(DataFile(File(folder, "goods.csv").apply { writeText(text) }.path))

    @Test
    fun quoted_fields_hold_commas_quotes_and_line_ends() {
        val records = table("\uFEFFid,text\r\n1,\"a, \"\"b\"\"\"\r\n2,\"two\nlines\"\r\n\r\n3,\n").transformToRecords()
        assertEquals(listOf("a, \"b\"", "two\nlines", null), records.map { it.values[1] })
        assertEquals(listOf("1", "2", "3"), records.map(Record::key))
        assertEquals(listOf("id", "text"), records.first().columns)
        assertEquals("goods", records.first().table)
    }

    @Test
    fun what_is_wrong_is_said_with_its_line() {
        assertEquals(
            listOf("line 4 has 1 fields; the header has 2", "line 5: id is empty", "line 6: id '1' was on line 2 already"),
            table("id,text\n1,\"two\nlines\"\n7\n,x\n1,again\n").validate().errors,
        )
        assertEquals(listOf("the file is empty; its first line names the columns"), table("").validate().errors)
        assertEquals(listOf("line 1: column 'id' is there twice"), table("id,id\n").validate().errors)
        assertEquals(listOf("line 1: a column has no name"), table("id,\n").validate().errors)
        assertTrue(table("id\n1\n").validate().isValid)
    }

    @Test
    fun errors_of_a_broken_file_are_bounded() {
        assertEquals(20, table("id\n" + "1\n".repeat(1_000)).validate().errors.size)
    }

    @Test
    fun a_quote_that_is_never_closed_is_an_error() {
        val error = assertThrows(IllegalStateException::class.java) { table("id\n\"1\n2\n") }
        assertEquals("line 2: a quote is never closed", error.message)
    }

    @Test
    fun a_file_that_is_not_there_is_an_error_and_was_last_written_long_ago() {
        val path = File(folder, "none.csv").path
        assertThrows(NoSuchFileException::class.java) { processor.parse(DataFile(path)) }
        assertEquals(Instant.EPOCH, processor.getLastModified(path))
    }
}
