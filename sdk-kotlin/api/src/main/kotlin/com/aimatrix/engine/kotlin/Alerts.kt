// How agents and monitors tell people.

package com.aimatrix.engine.kotlin

import java.time.Duration
import com.aimatrix.engine.Alerts as JavaAlerts

/** Tells people: an alert is an event on `alerts.CHANNEL`, published with the handler's commit, and a line in the log. */
public class Alerts internal constructor(source: String) {
    private val java = JavaAlerts(source)

    /**
     * Sends an alert. Outside of a handler it only logs.
     *
     * @param channel last part of its topic
     * @param message for people
     * @param severity such as info or high
     */
    public fun sendAlert(channel: String, message: String, severity: String = "info"): Unit =
        java.sendAlert(channel, message, severity)

    /** An alert on the channel `performance`: [agentName] took [duration] for [message]. */
    public fun sendSlowProcessingAlert(agentName: String, message: Message, duration: Duration): Unit =
        java.sendSlowProcessingAlert(agentName, message.java, duration)
}
