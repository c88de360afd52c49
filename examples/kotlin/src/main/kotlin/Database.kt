// Records in a database: any that JDBC reaches and that knows `ON CONFLICT`, such as SQLite and PostgreSQL.

package com.aimatrix.examples

import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import java.sql.Connection
import java.sql.DriverManager

/** Writes records, one table for each file. url: of JDBC; its password is the database's business. */
class DatabaseConnector(private val url: String = System.getenv("DATABASE_URL") ?: "jdbc:sqlite:processed.db") {
    /**
     * Writes all of them, or none: of one table, in one transaction. A row that is there already is replaced, so that
     * doing it again, after a crash, changes nothing. Gives up when its coroutine is cancelled.
     */
    suspend fun batchInsert(records: List<Record>) {
        val first = records.firstOrNull() ?: return
        DriverManager.getConnection(url).use { connection ->
            connection.autoCommit = false
            connection.createStatement().use { it.execute(createTable(first)) }
            connection.prepareStatement(upsert(first)).use { statement ->
                for (batch in records.chunked(BATCH)) {
                    currentCoroutineContext().ensureActive()
                    for (record in batch) {
                        record.values.forEachIndexed { index, value -> statement.setString(index + 1, value) }
                        statement.addBatch()
                    }
                    statement.executeBatch()
                }
            }
            connection.commit() // closing without it rolls back
        }
    }

    /** How many rows a table has. */
    fun count(table: String): Long = connected { connection ->
        connection.createStatement().executeQuery("SELECT count(*) FROM ${quoted(table)}").use { found ->
            found.next()
            found.getLong(1)
        }
    }

    /** One row, by column; null if there is none. */
    fun find(table: String, column: String, key: String): Map<String, String?>? = connected { connection ->
        connection.prepareStatement("SELECT * FROM ${quoted(table)} WHERE ${quoted(column)} = ?").use { statement ->
            statement.setString(1, key)
            statement.executeQuery().use { found ->
                val columns = found.metaData
                if (!found.next()) null
                else (1..columns.columnCount).associate { columns.getColumnName(it) to found.getString(it) }
            }
        }
    }

    private fun <T> connected(use: (Connection) -> T): T = DriverManager.getConnection(url).use(use)

    private fun createTable(record: Record): String {
        val names = record.columns.map(::quoted)
        val columns = listOf("${names.first()} TEXT NOT NULL PRIMARY KEY") + names.drop(1).map { "$it TEXT" }
        return "CREATE TABLE IF NOT EXISTS ${quoted(record.table)} (${columns.joinToString()})"
    }

    private fun upsert(record: Record): String {
        val names = record.columns.map(::quoted)
        val change = names.drop(1).joinToString { "$it = excluded.$it" }
        return "INSERT INTO ${quoted(record.table)} (${names.joinToString()}) VALUES (${names.joinToString { "?" }}) " +
            "ON CONFLICT (${names.first()}) DO ${if (change.isEmpty()) "NOTHING" else "UPDATE SET $change"}"
    }

    /** A name from a file, as SQL takes it: whatever it is, it stays a name. */
    private fun quoted(name: String): String = "\"" + name.replace("\"", "\"\"") + "\""
}

private const val BATCH = 1_000
