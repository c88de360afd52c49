package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** When a failing handler is given a rest: after so many failures in a row, for so long. */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target({})
public @interface CircuitBreaker {
    /**
     * Failures in a row.
     *
     * @return 0: the engine's default
     */
    int failures() default 0;

    /**
     * How long it rests, such as {@code 30s}.
     *
     * @return empty: the engine's default
     */
    String rest() default "";

    /**
     * Whether it never rests.
     *
     * @return false unless said
     */
    boolean disabled() default false;
}
