// An agent that brings files into a database, each once; and a program that asks it to.

package com.aimatrix.examples

import com.aimatrix.engine.kotlin.*
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import java.time.Duration
import java.time.Instant
import kotlin.time.measureTimedValue

@Agent(name = "DataProcessingAgent", version = "1.0.0")
class DataProcessingAgent(database: DatabaseConnector = DatabaseConnector()) : BaseAgent() {

    @Memory(persistent = true, ttl = "30d")
    private val processedFiles = mutableSetOf<String>()

    @Capability
    private val fileProcessor = FileProcessor()

    @Capability
    private val databaseConnector = database

    @Handler
    suspend fun processDataFile(file: DataFile): ProcessingResult = withContext(Dispatchers.IO) {
        if (file.path in processedFiles) {
            return@withContext ProcessingResult.alreadyProcessed(file.path)
        }
        try {
            val (outcome, took) = measureTimedValue { import(file) }
            if (outcome.errors.isNotEmpty()) {
                logger.warn("{} is not valid: {}", file.path, outcome.errors)
                return@withContext ProcessingResult.validationFailed(outcome.errors)
            }
            processedFiles += file.path
            ProcessingResult.success(recordsProcessed = outcome.records, processingTime = took.inWholeMilliseconds)
        } catch (cancelled: CancellationException) {
            throw cancelled // by the caller, or by the deadline: no result, and nothing was written
        } catch (error: Exception) {
            logger.error("{} could not be processed", file.path, error)
            ProcessingResult.error(error.message ?: error.javaClass.simpleName)
        }
    }

    private class Outcome(val records: Int, val errors: List<String>)

    private suspend fun import(file: DataFile): Outcome {
        val table = fileProcessor.parse(file)
        val validation = table.validate()
        if (!validation.isValid) return Outcome(0, validation.errors)
        val records = table.transformToRecords()
        databaseConnector.batchInsert(records)
        return Outcome(records.size, emptyList())
    }

    @Scheduled(fixedDelay = "6h")
    suspend fun cleanupOldEntries() {
        val cutoffTime = Instant.now() - Duration.ofDays(30)
        withContext(Dispatchers.IO) {
            processedFiles.removeAll { path -> fileProcessor.getLastModified(path) < cutoffTime }
        }
    }
}

fun main(arguments: Array<String>): Unit = runBlocking {
    val engine = AmxEngine.builder()
        .withConfiguration("amx-config.yaml")
        .withAgent(DataProcessingAgent())
        .build()

    engine.start()

    val result = engine.sendMessage(
        agentName = "DataProcessingAgent",
        message = DataFile(arguments.firstOrNull() ?: "input/customer_data.csv"),
    )
    println("Processing result: $result")

    engine.stop()
}
