package com.aimatrix.engine;

import com.aimatrix.engine.authoring.Durations;
import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.v1.MissedRuns;
import com.aimatrix.engine.v1.ScheduleDefinition;
import java.time.Duration;

/** When a schedule runs. Each method without `static` returns another one. */
public final class Timing {
    private final ScheduleDefinition said;

    private Timing(ScheduleDefinition said) {
        this.said = said;
    }

    private static ScheduleDefinition.Builder begin() {
        return ScheduleDefinition.newBuilder().setMissed(MissedRuns.MISSED_RUNS_RUN_ONCE);
    }

    /**
     * Once.
     *
     * @param after so long
     * @return the timing
     */
    public static Timing after(Duration after) {
        return new Timing(begin().setOnceAfterMs(Math.max(1, Durations.milliseconds(after, "after"))).build());
    }

    /**
     * Again and again.
     *
     * @param distance between starts
     * @return the timing
     */
    public static Timing fixedRate(Duration distance) {
        return new Timing(begin().setFixedRateMs(Durations.positive(distance, "fixedRate")).build());
    }

    /**
     * Again and again.
     *
     * @param wait after the end of each run
     * @return the timing
     */
    public static Timing fixedDelay(Duration wait) {
        return new Timing(begin().setFixedDelayMs(Durations.positive(wait, "fixedDelay")).build());
    }

    /**
     * By the calendar.
     *
     * @param expression five fields, or six with seconds first
     * @param zone IANA time zone; empty: UTC
     * @return the timing
     * @throws InvalidInputException for another number of fields
     */
    public static Timing cron(String expression, String zone) {
        int fields = expression.trim().split("\\s+").length;
        if (fields != 5 && fields != 6) {
            throw new InvalidInputException(
                    "cron \"" + expression + "\" has " + fields + " fields; expected five, or six with seconds first",
                    "cron");
        }
        return new Timing(begin().setCron(expression).setTimeZone(zone).build());
    }

    /**
     * With a wait before the first run of a rate or delay.
     *
     * @param wait length of time
     * @return another timing
     */
    public Timing initialDelay(Duration wait) {
        long millis = Math.max(1, Durations.milliseconds(wait, "initialDelay"));
        return new Timing(said.toBuilder().setInitialDelayMs(millis).build());
    }

    /**
     * With another rule for occurrences that nobody could run; one run stands for all unless said.
     *
     * @param missed what happens to them
     * @return another timing
     */
    public Timing missed(Missed missed) {
        return new Timing(said.toBuilder().setMissedValue(missed.ordinal() + 1).build());
    }

    /** As it travels, without name and handler. */
    ScheduleDefinition.Builder wire() {
        return said.toBuilder();
    }

    /**
     * As an annotation says it.
     *
     * @param said the annotation
     * @param handler whose it is
     * @return as it travels
     * @throws InvalidInputException unless exactly one timing is given and everything is positive
     */
    static ScheduleDefinition of(Scheduled said, String handler) {
        String name = said.name().isEmpty() ? handler : said.name();
        int given = 0;
        ScheduleDefinition.Builder schedule =
                ScheduleDefinition.newBuilder().setName(name).setHandler(handler).setMissedValue(said.missed().ordinal() + 1);
        if (!said.after().isEmpty()) {
            given++;
            schedule.setOnceAfterMs(Math.max(1, Durations.milliseconds(said.after(), "after")));
        }
        if (!said.fixedRate().isEmpty()) {
            given++;
            schedule.setFixedRateMs(Durations.positive(said.fixedRate(), "fixedRate"));
        }
        if (!said.fixedDelay().isEmpty()) {
            given++;
            schedule.setFixedDelayMs(Durations.positive(said.fixedDelay(), "fixedDelay"));
        }
        if (!said.cron().isEmpty()) {
            given++;
            schedule.setCron(cron(said.cron(), "").said.getCron());
        }
        if (given != 1) {
            throw new InvalidInputException(
                    "schedule '" + name + "' has " + given
                            + " timings; give exactly one of fixedRate, fixedDelay, cron and after",
                    "schedule");
        }
        if (!said.zone().isEmpty()) {
            if (said.cron().isEmpty()) {
                throw new InvalidInputException("schedule '" + name + "': a time zone goes with cron only", "zone");
            }
            schedule.setTimeZone(said.zone());
        }
        if (!said.initialDelay().isEmpty()) {
            schedule.setInitialDelayMs(Math.max(1, Durations.milliseconds(said.initialDelay(), "initialDelay")));
        }
        return schedule.setKey(said.key()).build();
    }
}
