package com.aimatrix.engine.kotlin

import com.aimatrix.engine.json.Json
import com.aimatrix.engine.json.Payloads
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import com.aimatrix.engine.ProcessingResult as JavaResult

class ProcessingResultTest {
    @Test
    fun `a warning is a success and an error is none`() {
        assertTrue(ProcessingResult.success("x").isSuccess)
        val warning = ProcessingResult.warning("half of it", 5)
        assertTrue(warning.isSuccess && warning.isWarning && !warning.isError)
        val error = ProcessingResult.error("no such file", "FILE_MISSING")
        assertTrue(error.isError && !error.isSuccess)
        assertEquals("FILE_MISSING", error.errorType)
        assertEquals("PROCESSING_ERROR", ProcessingResult.error("?").errorType)
        assertEquals("", warning.errorType)
    }

    @Test
    fun `what was done is its data`() {
        val done = ProcessingResult.success(recordsProcessed = 120, processingTime = 7)
        assertEquals(mapOf<String, Any>("recordsProcessed" to 120, "processingTime" to 7L), done.data)
        assertTrue(done.isSuccess)
    }

    @Test
    fun `what was done before is a success that says so`() {
        val before = ProcessingResult.alreadyProcessed("a.csv")
        assertTrue(before.isSuccess)
        assertEquals("already processed: a.csv", before.message)
        assertEquals("a.csv", before.metadata["already_processed"])
    }

    @Test
    fun `what is not valid is an error with all that is wrong`() {
        val invalid = ProcessingResult.validationFailed(listOf("line 2: id is empty", "line 3: id is empty"))
        assertEquals("VALIDATION_FAILED", invalid.errorType)
        assertEquals("line 2: id is empty", invalid.message)
        assertEquals(listOf("line 2: id is empty", "line 3: id is empty"), invalid.data)
        assertTrue(ProcessingResult.validationFailed(emptyList()).isError)
    }

    @Test
    fun `results that say the same are equal, and tell what they say`() {
        val one = ProcessingResult.success(listOf(1), "done").with("took", 3)
        assertEquals(one, ProcessingResult.success(listOf(1), "done").with("took", 3))
        assertEquals(one.hashCode(), ProcessingResult.success(listOf(1), "done").with("took", 3).hashCode())
        assertNotEquals(one, ProcessingResult.success(listOf(1), "done"))
        assertFalse(one.equals("done"))
        assertEquals("ProcessingResult(success, data=[1], message=done, metadata={took=3})", one.toString())
        assertEquals("ProcessingResult(warning, message=late)", ProcessingResult.warning("late").toString())
    }

    @Test
    fun `it travels as every language's results do`() {
        val payload = ProcessingResult.error("gone", "FILE_MISSING", listOf(1)).toJava { it }.toPayload(Json.standard())
        assertEquals("application/vnd.amx.result+json", payload.contentType)
        assertEquals(
            """{"status":"error","data":[1],"message":"gone","metadata":{"error_type":"FILE_MISSING"}}""",
            payload.data.toStringUtf8(),
        )
        val back = ProcessingResult.of(JavaResult.fromPayload(Json.standard(), payload))
        assertEquals(ProcessingResult.error("gone", "FILE_MISSING", listOf(1)), back)
        assertEquals(ProcessingResult.success(5), ProcessingResult.of(JavaResult.fromPayload(Json.standard(), Payloads.encode(Json.standard(), 5))))
    }
}
