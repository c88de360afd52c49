package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Inherited;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * A class that chooses the agent of messages that name none. It has a method {@code route}; see {@link
 * BaseMessageRouter}.
 */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.TYPE)
@Inherited
public @interface MessageRouter {
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

    /**
     * Routers with higher ones are asked first.
     *
     * @return 0 unless said
     */
    int order() default 0;
}
