package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * A field whose value is shared by the instances of its class in this process: what the first one was constructed
 * with. Closed, if it is AutoCloseable, when the agent is no longer hosted.
 */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.FIELD)
public @interface Capability {
    /**
     * Its name, for people who look at the agent.
     *
     * @return empty: the name of the field
     */
    String name() default "";
}
