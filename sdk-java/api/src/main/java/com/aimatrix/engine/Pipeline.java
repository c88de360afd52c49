package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Inherited;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * A class that carries a value through its stages inside one invocation: methods with {@link Stage}, in their order,
 * each given what the one before it returned. What the last one returns is the result.
 */
@Documented
@Inherited
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.TYPE)
public @interface Pipeline {
    /**
     * Its name, unique in the namespace.
     *
     * @return empty: the simple name of the class
     */
    String name() default "";

    /**
     * Semantic version. The highest connected one takes new messages.
     *
     * @return such as 1.0.0
     */
    String version() default "1.0.0";

    /**
     * One paragraph for people.
     *
     * @return may be empty
     */
    String description() default "";
}
