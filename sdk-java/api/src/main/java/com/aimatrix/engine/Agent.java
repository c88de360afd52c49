package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Inherited;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** A class whose instances are agents: one for each key, alone with its memory. */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.TYPE)
@Inherited
public @interface Agent {
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
     * Groups it belongs to, for broadcasts.
     *
     * @return none unless said
     */
    String[] groups() default {};

    /**
     * Labels, for broadcasts, each as {@code name=value}.
     *
     * @return none unless said
     */
    String[] labels() default {};

    /**
     * Idle time before an instance hibernates, such as {@code 5m}.
     *
     * @return empty: the engine's default
     */
    String idleTimeout() default "";

    /**
     * Messages that may wait for each instance.
     *
     * @return 0: the engine's default
     */
    int mailboxCapacity() default 0;
}
