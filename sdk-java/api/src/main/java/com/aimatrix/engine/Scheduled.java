package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Repeatable;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * When a handler runs by itself: exactly one of {@code fixedDelay}, {@code fixedRate}, {@code cron} and {@code
 * after}. Makes a method a handler.
 */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.METHOD)
@Repeatable(Scheduled.List.class)
public @interface Scheduled {
    /**
     * Wait after the end of each run, such as {@code 4h}.
     *
     * @return empty: not so
     */
    String fixedDelay() default "";

    /**
     * Distance between starts.
     *
     * @return empty: not so
     */
    String fixedRate() default "";

    /**
     * Five fields, or six with seconds first.
     *
     * @return empty: not so
     */
    String cron() default "";

    /**
     * Once, after so long.
     *
     * @return empty: not so
     */
    String after() default "";

    /**
     * IANA time zone of {@code cron}.
     *
     * @return empty: UTC
     */
    String zone() default "";

    /**
     * Wait before the first run of a rate or delay.
     *
     * @return empty: the engine's default
     */
    String initialDelay() default "";

    /**
     * What happens to occurrences that nobody could run.
     *
     * @return one run for all of them, unless said
     */
    Missed missed() default Missed.RUN_ONCE;

    /**
     * Its name.
     *
     * @return empty: the name of the handler
     */
    String name() default "";

    /**
     * Key of the instance that runs it.
     *
     * @return empty: {@code default}
     */
    String key() default "";

    /** Several on one method. */
    @Documented
    @Retention(RetentionPolicy.RUNTIME)
    @Target(ElementType.METHOD)
    @interface List {
        /**
         * Each of them.
         *
         * @return at least two
         */
        Scheduled[] value();
    }
}
