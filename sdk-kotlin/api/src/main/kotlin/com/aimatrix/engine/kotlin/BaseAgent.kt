// What agents may extend, for what most of them want besides messages.

package com.aimatrix.engine.kotlin

import org.slf4j.Logger
import org.slf4j.LoggerFactory

/** An agent with a log, counts and alerts. Agents need not extend it. */
public abstract class BaseAgent {
    /** The log of this agent: `amx.agent.NAME`. */
    protected val logger: Logger get() = LoggerFactory.getLogger("amx.agent.${nameOf(javaClass)}")

    /** Counts and durations that it keeps, shared by the instances of the class in this process. */
    protected val metrics: Metrics get() = sharedMetrics(javaClass)

    /** Tells people, with the commit of the handler that runs. */
    protected val alerts: Alerts get() = Alerts(nameOf(javaClass))
}

/** What an agent is called: what its annotation says, else its class's name. */
private fun nameOf(type: Class<*>): String =
    type.getAnnotation(Agent::class.java)?.name?.ifEmpty { null } ?: type.simpleName

private val SHARED = object : ClassValue<Metrics>() {
    override fun computeValue(type: Class<*>): Metrics = Metrics()
}

/** The metrics of a class's instances in this process. */
internal fun sharedMetrics(type: Class<*>): Metrics = SHARED.get(type)
