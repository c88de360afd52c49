package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** How often and how fast a failed message is repeated. */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target({})
public @interface Retry {
    /**
     * Attempts in all, the first included; 1: never again.
     *
     * @return 0: the engine's default
     */
    int attempts() default 0;

    /**
     * First wait, such as {@code 100ms}.
     *
     * @return empty: the engine's default
     */
    String initial() default "";

    /**
     * Growth of the wait, 1 or more.
     *
     * @return 0: the engine's default
     */
    double multiplier() default 0;

    /**
     * Longest wait.
     *
     * @return empty: the engine's default
     */
    String maximum() default "";

    /**
     * Only these reasons are repeated.
     *
     * @return none: all that may be
     */
    String[] only() default {};

    /**
     * These reasons are never repeated.
     *
     * @return none unless said
     */
    String[] never() default {};
}
