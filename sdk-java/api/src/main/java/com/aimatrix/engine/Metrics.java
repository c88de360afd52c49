package com.aimatrix.engine;

import java.time.Duration;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/** Counts and durations per agent, for at most 10,000 agents. Safe for many threads. */
public final class Metrics {
    private static final int WINDOW = 1024;
    private static final int MAX_AGENTS = 10_000;
    private static final int MAX_REASONS = 100;

    private final Map<String, Recorded> records = new LinkedHashMap<>();

    /** Without records. */
    public Metrics() {}

    /**
     * What was recorded of one agent since the process started; quantiles are of the last 1,024 messages.
     *
     * @param processed messages
     * @param errors by reason
     * @param total time of all
     * @param longest of one
     * @param p50 half took no longer
     * @param p99 of a hundred 99 took no longer
     */
    public record OfAgent(
            long processed, Map<String, Long> errors, Duration total, Duration longest, Duration p50, Duration p99) {}

    private static final class Recorded {
        private long processed;
        private final Map<String, Long> errors = new LinkedHashMap<>();
        private long total;
        private long longest;
        private final long[] recent = new long[WINDOW];

        private OfAgent snapshot() {
            long[] ordered = Arrays.copyOf(recent, (int) Math.min(processed, WINDOW));
            Arrays.sort(ordered);
            return new OfAgent(
                    processed,
                    Map.copyOf(errors),
                    Duration.ofNanos(total),
                    Duration.ofNanos(longest),
                    quantile(ordered, 0.5),
                    quantile(ordered, 0.99));
        }

        private static Duration quantile(long[] ordered, double share) {
            int index = Math.max(0, (int) Math.ceil(share * ordered.length) - 1);
            return ordered.length == 0 ? Duration.ZERO : Duration.ofNanos(ordered[index]);
        }
    }

    /**
     * One message of an agent took so long.
     *
     * @param agentName of the agent
     * @param duration how long
     */
    public synchronized void recordProcessingTime(String agentName, Duration duration) {
        Recorded record = record(agentName);
        long nanos = duration.toNanos();
        record.recent[(int) (record.processed % WINDOW)] = nanos;
        record.processed++;
        record.total += nanos;
        record.longest = Math.max(record.longest, nanos);
    }

    /**
     * One message of an agent failed.
     *
     * @param agentName of the agent
     * @param errorType its reason; empty: UNKNOWN
     */
    public synchronized void incrementErrorCount(String agentName, String errorType) {
        Map<String, Long> errors = record(agentName).errors;
        String kind = errorType.isEmpty() ? "UNKNOWN" : errorType;
        errors.merge(errors.containsKey(kind) || errors.size() < MAX_REASONS ? kind : "OTHER", 1L, Long::sum);
    }

    /**
     * What was recorded of an agent.
     *
     * @param agentName of the agent
     * @return zeros if nothing was
     */
    public synchronized OfAgent of(String agentName) {
        Recorded record = records.get(agentName);
        return (record == null ? new Recorded() : record).snapshot();
    }

    /**
     * What was recorded.
     *
     * @return by agent
     */
    public synchronized Map<String, OfAgent> all() {
        Map<String, OfAgent> all = new LinkedHashMap<>();
        records.forEach((name, record) -> all.put(name, record.snapshot()));
        return all;
    }

    private Recorded record(String agentName) {
        Recorded record = records.get(agentName);
        if (record == null) {
            if (records.size() >= MAX_AGENTS) {
                records.remove(records.keySet().iterator().next());
            }
            record = new Recorded();
            records.put(agentName, record);
        }
        return record;
    }
}
