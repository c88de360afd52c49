package com.aimatrix.examples.docs

import com.aimatrix.engine.kotlin.*

@Pipeline(name = "Import")
class Import {
    @Stage(order = 1)
    suspend fun parse(context: PipelineContext): List<Int> = "${context.input()}".split(",").map(String::toInt)

    @Stage(order = 2, timeout = "10s")
    suspend fun total(context: PipelineContext): Int = (context.previousResult() as List<*>).sumOf { it as Int }

    @ErrorHandler
    suspend fun failed(context: PipelineContext, error: Exception): String = "${context.currentStage()} failed: ${error.message}"
}
