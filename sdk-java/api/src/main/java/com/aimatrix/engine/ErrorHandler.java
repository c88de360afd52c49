package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * The method of a {@link Pipeline} that gets what a stage threw: takes a {@link PipelineContext} and a Throwable. What
 * it returns is the result of the run. A run that was cancelled does not ask it.
 */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.METHOD)
public @interface ErrorHandler {}
