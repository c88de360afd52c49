// What an agent reports as a value. Exceptions are the other way to fail.

package com.aimatrix.engine.kotlin

import com.aimatrix.engine.ProcessingResult as JavaResult

/**
 * What became of a message: a status, data, a text for people, and metadata. An error result is still a result: it is
 * committed and not retried. Throw to fail the message.
 *
 * @property status in one word
 * @property data what came of it: anything with a JSON form; of one that arrived, JSON as maps, lists, text, numbers
 * @property message for people; may be empty
 * @property metadata facts for programs: values with a JSON form
 */
public class ProcessingResult(
    public val status: Status,
    public val data: Any? = null,
    public val message: String = "",
    public val metadata: Map<String, Any?> = emptyMap(),
) {
    /** What became of it, in one word. */
    public enum class Status {
        /** It worked. */
        SUCCESS,

        /** It worked, but someone should know something. */
        WARNING,

        /** It did not work, for a reason that repeating would not change. */
        ERROR,
    }

    /** Whether it is no error; a warning is a success. */
    public val isSuccess: Boolean get() = status != Status.ERROR

    /** Whether it is a warning. */
    public val isWarning: Boolean get() = status == Status.WARNING

    /** Whether it is an error. */
    public val isError: Boolean get() = status == Status.ERROR

    /** UPPER_SNAKE kind of the error; empty if nobody said. */
    public val errorType: String get() = metadata[ERROR_TYPE] as? String ?: ""

    /** The same with more [metadata]. */
    public fun with(name: String, value: Any?): ProcessingResult =
        ProcessingResult(status, data, message, metadata + (name to value))

    override fun equals(other: Any?): Boolean =
        other is ProcessingResult &&
            status == other.status &&
            data == other.data &&
            message == other.message &&
            metadata == other.metadata

    override fun hashCode(): Int = listOf(status, data, message, metadata).hashCode()

    override fun toString(): String {
        val said = listOf("data" to data, "message" to message, "metadata" to metadata)
            .filterNot { (_, value) -> value == null || value == "" || value == emptyMap<String, Any?>() }
            .joinToString("") { (name, value) -> ", $name=$value" }
        return "ProcessingResult(${status.name.lowercase()}$said)"
    }

    /** Results by what they say. */
    public companion object {
        private const val ERROR_TYPE = "error_type"

        /** It worked; [data] came of it. */
        public fun success(data: Any? = null, message: String = ""): ProcessingResult =
            ProcessingResult(Status.SUCCESS, data, message)

        /**
         * It worked, on many records. Its data are a map of both.
         *
         * @param processingTime milliseconds
         */
        public fun success(recordsProcessed: Int, processingTime: Long): ProcessingResult =
            success(mapOf("recordsProcessed" to recordsProcessed, "processingTime" to processingTime))

        /** There was nothing left to do for [what], such as the path of a file: a success that says so. */
        public fun alreadyProcessed(what: String): ProcessingResult =
            ProcessingResult(Status.SUCCESS, null, "already processed: $what", mapOf("already_processed" to what))

        /** It worked, but someone should know [message]. */
        public fun warning(message: String, data: Any? = null): ProcessingResult =
            ProcessingResult(Status.WARNING, data, message)

        /** It did not work, for a reason that repeating would not change. errorType: UPPER_SNAKE. */
        public fun error(
            message: String,
            errorType: String = "PROCESSING_ERROR",
            data: Any? = null,
        ): ProcessingResult = ProcessingResult(Status.ERROR, data, message, mapOf(ERROR_TYPE to errorType))

        /** What was to be processed is not what it should be: an error of type VALIDATION_FAILED; its data are [errors]. */
        public fun validationFailed(errors: List<String>): ProcessingResult =
            error(errors.firstOrNull() ?: "it is not valid", "VALIDATION_FAILED", errors)

        /** Java's result as Kotlin's. */
        internal fun of(result: JavaResult): ProcessingResult = ProcessingResult(
            Status.valueOf(result.status().name),
            result.data(),
            result.message(),
            result.metadata().toMap(),
        )
    }
}

/** Kotlin's result as Java's. json: the data, and the values of the metadata, as Jackson writes them. */
internal fun ProcessingResult.toJava(json: (Any?) -> Any?): JavaResult =
    JavaResult(JavaResult.Status.valueOf(status.name), json(data), message, metadata.mapValues { json(it.value) })
