// When a schedule that a handler sets runs.

package com.aimatrix.engine.kotlin

import kotlin.time.Duration
import kotlin.time.toJavaDuration
import com.aimatrix.engine.Timing as JavaTiming

/** When a schedule runs. */
public class Timing private constructor(internal val java: JavaTiming) {
    /** With a wait before the first run of a rate or delay. */
    public fun initialDelay(wait: Duration): Timing = Timing(java.initialDelay(wait.toJavaDuration()))

    /** With another rule for occurrences that nobody could run; one run stands for all unless said. */
    public fun missed(missed: Missed): Timing = Timing(java.missed(missed))

    public companion object {
        /** Once, after so long. */
        public fun after(wait: Duration): Timing = Timing(JavaTiming.after(wait.toJavaDuration()))

        /** Again and again; [distance] is between starts. */
        public fun fixedRate(distance: Duration): Timing = Timing(JavaTiming.fixedRate(distance.toJavaDuration()))

        /** Again and again; [wait] is after the end of each run. */
        public fun fixedDelay(wait: Duration): Timing = Timing(JavaTiming.fixedDelay(wait.toJavaDuration()))

        /**
         * By the calendar.
         *
         * @param expression five fields, or six with seconds first
         * @param zone IANA time zone; empty: UTC
         * @throws InvalidInputException for another number of fields
         */
        public fun cron(expression: String, zone: String = ""): Timing = Timing(JavaTiming.cron(expression, zone))
    }
}
