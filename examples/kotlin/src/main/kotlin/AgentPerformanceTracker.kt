// Watches how long messages take and which fail.

package com.aimatrix.examples

import com.aimatrix.engine.kotlin.*
import java.time.Duration

@PerformanceMonitor
class AgentPerformanceTracker : BasePerformanceMonitor() {
    override suspend fun onMessageProcessed(
        agentName: String,
        message: Message,
        result: ProcessingResult,
        duration: Duration,
    ) {
        metrics.recordProcessingTime(agentName, duration)

        if (duration > Duration.ofSeconds(5)) {
            alerts.sendSlowProcessingAlert(agentName, message, duration)
        }
        if (!result.isSuccess) {
            metrics.incrementErrorCount(agentName, result.errorType)
        }
    }

    /** What was seen of an agent in this process. */
    fun seen(agentName: String) = metrics.of(agentName)
}
