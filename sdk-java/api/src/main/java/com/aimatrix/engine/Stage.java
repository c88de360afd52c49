package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * A step of a {@link Pipeline}. The method takes a {@link PipelineContext}, what the stage before returned (the content
 * of the message, for the first), or both; it returns a value or a CompletionStage of one.
 */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.METHOD)
public @interface Stage {
    /**
     * Its place; each stage has another.
     *
     * @return lower ones come first
     */
    int order();

    /**
     * Longest run, such as {@code 30s}. Its thread is interrupted then.
     *
     * @return empty: none of its own
     */
    String timeout() default "";
}
