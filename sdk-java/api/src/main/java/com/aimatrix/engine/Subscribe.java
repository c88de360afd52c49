package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Repeatable;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** Topics whose events a method receives. Makes it a handler. */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.METHOD)
@Repeatable(Subscribe.List.class)
public @interface Subscribe {
    /**
     * Patterns of topics.
     *
     * @return such as {@code orders.*.created}
     */
    String[] value();

    /**
     * Which of those events, by their attributes.
     *
     * @return empty: all
     */
    String filter() default "";

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
        Subscribe[] value();
    }
}
