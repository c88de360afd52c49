package com.aimatrix.engine;

import java.time.Duration;

/**
 * Is told of every processed message. Extend it, annotate with {@link PerformanceMonitor}, and write
 * `onMessageProcessed`.
 */
public abstract class BasePerformanceMonitor {
    private static final ClassValue<Metrics> SHARED =
            new ClassValue<>() {
                @Override
                protected Metrics computeValue(Class<?> type) {
                    return new Metrics();
                }
            };

    /** For subclasses. */
    protected BasePerformanceMonitor() {}

    /**
     * Called after each message, in no guaranteed order.
     *
     * @param agentName of the agent that handled it
     * @param message that was handled
     * @param result what became of it
     * @param duration how long it took
     */
    public abstract void onMessageProcessed(
            String agentName, Message message, ProcessingResult result, Duration duration);

    /**
     * Counts and durations per agent, shared by the instances of the class in this process.
     *
     * @return the metrics
     */
    protected Metrics metrics() {
        return SHARED.get(getClass());
    }

    /**
     * Tells people, with the commit of what runs.
     *
     * @return the alerts
     */
    protected Alerts alerts() {
        return new Alerts(getClass().getSimpleName());
    }
}
