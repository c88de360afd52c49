// Files of comma-separated values (RFC 4180): how they are read, what is wrong with them, what records they hold.

package com.aimatrix.examples

import kotlinx.serialization.Serializable
import java.io.Reader
import java.nio.file.Files
import java.nio.file.Path
import java.time.Instant

/** A file to be processed. */
@Serializable
data class DataFile(val path: String)

/** One row, by column. key: the value of the first column. */
class Record(val table: String, val columns: List<String>, val values: List<String?>) {
    val key: String get() = values.first()!!
}

/** What is wrong with a table; at most the first [MAX_ERRORS] things. */
class Validation(val errors: List<String>) {
    val isValid: Boolean get() = errors.isEmpty()
}

/** The rows of a file. The first is the header; the first column identifies a row. */
class Table(val name: String, val header: List<String>, private val rows: List<Row>) {
    class Row(val line: Int, val fields: List<String>)

    fun validate(): Validation {
        val errors = sequence {
            yieldAll(headerErrors())
            val lines = HashMap<String, Int>()
            for (row in rows) {
                val key = row.fields.first()
                if (row.fields.size != header.size) {
                    yield("line ${row.line} has ${row.fields.size} fields; the header has ${header.size}")
                } else if (key.isEmpty()) {
                    yield("line ${row.line}: ${header.first()} is empty")
                } else {
                    lines.putIfAbsent(key, row.line)?.let { first ->
                        yield("line ${row.line}: ${header.first()} '$key' was on line $first already")
                    }
                }
            }
        }
        return Validation(errors.take(MAX_ERRORS).toList())
    }

    private fun headerErrors(): List<String> = when {
        header.isEmpty() -> listOf("the file is empty; its first line names the columns")
        header.any(String::isBlank) -> listOf("line 1: a column has no name")
        else -> header.groupBy { it }.filterValues { it.size > 1 }.keys.map { "line 1: column '$it' is there twice" }
    }

    /** Of a valid table. A field that is empty is no value. */
    fun transformToRecords(): List<Record> =
        rows.map { row -> Record(name, header, row.fields.map { field -> field.ifEmpty { null } }) }
}

/** Reads files. */
class FileProcessor {
    /** @throws java.io.IOException if it cannot be read, or is no such file */
    fun parse(file: DataFile): Table {
        val path = Path.of(file.path)
        val name = path.fileName.toString().substringBeforeLast('.')
        val rows = Files.newBufferedReader(path).use { CsvReader(it).rows() }
        return Table(name, rows.firstOrNull()?.fields.orEmpty(), rows.drop(1))
    }

    /** When the file was last written; long ago if it is there no longer. */
    fun getLastModified(path: String): Instant =
        Path.of(path).let { if (Files.exists(it)) Files.getLastModifiedTime(it).toInstant() else Instant.EPOCH }
}

/** Takes text apart into rows: fields may be quoted, and then hold commas, line ends and doubled quotes. */
private class CsvReader(private val text: Reader) {
    private var line = 1
    private var next = text.read().let { if (it == BYTE_ORDER_MARK) text.read() else it }

    fun rows(): List<Table.Row> = buildList {
        while (next >= 0) {
            check(size < MAX_ROWS) { "the file has more than $MAX_ROWS rows; split it" }
            val begin = line
            val fields = row()
            if (fields.size > 1 || fields.first().isNotEmpty()) {
                add(Table.Row(begin, fields))
            }
        }
    }

    private fun row(): List<String> = buildList {
        add(field())
        while (next == ','.code) {
            read()
            add(field())
        }
        if (next == '\r'.code) read()
        if (next == '\n'.code) read()
    }

    private fun field(): String {
        val field = StringBuilder()
        if (next == '"'.code) {
            val begin = line
            read()
            while (true) {
                val char = read()
                check(char >= 0) { "line $begin: a quote is never closed" }
                if (char == '"'.code && next != '"'.code) break
                if (char == '"'.code) read()
                field.append(char.toChar())
            }
        }
        while (next >= 0 && next != ','.code && next != '\n'.code && next != '\r'.code) {
            field.append(read().toChar())
        }
        return field.toString()
    }

    private fun read(): Int {
        val char = next
        next = text.read()
        if (char == '\n'.code) line++
        return char
    }
}

private const val MAX_ERRORS = 20
private const val MAX_ROWS = 1_000_000
private const val BYTE_ORDER_MARK = 0xFEFF
