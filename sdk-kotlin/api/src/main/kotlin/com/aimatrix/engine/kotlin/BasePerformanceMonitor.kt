// What monitors of processed messages extend.

package com.aimatrix.engine.kotlin

import java.time.Duration

/**
 * Is told of every processed message. Extend it, annotate with [PerformanceMonitor], and write [onMessageProcessed].
 */
public abstract class BasePerformanceMonitor {
    /** Counts and durations per agent, shared by the instances of the class in this process. */
    protected val metrics: Metrics get() = sharedMetrics(javaClass)

    /** Tells people, with the commit of what runs. */
    protected val alerts: Alerts get() = Alerts(javaClass.simpleName)

    /**
     * Called after each message, in no guaranteed order.
     *
     * @param agentName of the agent that handled it
     * @param message that was handled
     * @param result what became of it
     * @param duration how long it took
     */
    public abstract suspend fun onMessageProcessed(
        agentName: String,
        message: Message,
        result: ProcessingResult,
        duration: Duration,
    )
}
