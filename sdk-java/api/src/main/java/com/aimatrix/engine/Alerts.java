package com.aimatrix.engine;

import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import org.slf4j.LoggerFactory;

/** Tells people: an alert is an event on `alerts.CHANNEL`, published with the commit, and a line in the log. */
public final class Alerts {
    private final String source;

    /**
     * Alerts of one source.
     *
     * @param source who alerts, such as the name of an agent
     */
    public Alerts(String source) {
        this.source = source;
    }

    /**
     * Sends an alert. Outside of a handler it only logs.
     *
     * @param channel last part of its topic
     * @param message for people
     * @param severity such as info or high
     */
    public void sendAlert(String channel, String message, String severity) {
        LoggerFactory.getLogger("amx.alerts").warn("alert on {} ({}): {}", channel, severity, message);
        Context context = Context.currentOrNull();
        if (context != null) {
            Map<String, Object> content = new LinkedHashMap<>();
            content.put("channel", channel);
            content.put("message", message);
            content.put("severity", severity);
            content.put("source", source);
            EventOptions options = new EventOptions().attributes(Map.of("severity", severity, "source", source));
            context.publish("alerts." + channel, content, options);
        }
    }

    /**
     * An alert on the channel `performance`.
     *
     * @param agentName of the agent
     * @param message that took so long
     * @param duration how long
     */
    public void sendSlowProcessingAlert(String agentName, Message message, Duration duration) {
        String seconds = String.format(Locale.ROOT, "%.3f", duration.toNanos() / 1e9);
        String id = message.id().isEmpty() ? "?" : message.id();
        sendAlert("performance", agentName + " took " + seconds + " s for message " + id, "high");
    }
}
