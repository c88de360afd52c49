package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** How an agent keeps others running, by the rules of Erlang/OTP supervisors. The engine follows it. */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.TYPE)
public @interface Supervisor {
    /**
     * In order of start.
     *
     * @return at least one
     */
    Child[] children();

    /**
     * Who is restarted when one fails.
     *
     * @return it alone, unless said
     */
    Strategy strategy() default Strategy.ONE_FOR_ONE;

    /**
     * Restarts borne within {@code within}; one more, and it gives up.
     *
     * @return 0: the engine's default
     */
    int maxRestarts() default 0;

    /**
     * The time in which they count, such as {@code 5s}.
     *
     * @return empty: the engine's default
     */
    String within() default "";

    /**
     * Longest wait before a restart.
     *
     * @return empty: the engine's default
     */
    String maxBackoff() default "";

    /** Who is restarted. */
    enum Strategy {
        /** It alone. */
        ONE_FOR_ONE,
        /** All. */
        ONE_FOR_ALL,
        /** It and those after it. */
        REST_FOR_ONE
    }

    /** When it is restarted. */
    enum Restart {
        /** Whenever it ended. */
        PERMANENT,
        /** When it failed. */
        TRANSIENT,
        /** Never. */
        TEMPORARY
    }

    /** One child. */
    @Documented
    @Retention(RetentionPolicy.RUNTIME)
    @Target({})
    @interface Child {
        /**
         * Name of the agent.
         *
         * @return not empty
         */
        String agent();

        /**
         * Key of the instance; {@code *}: every instance, each for itself.
         *
         * @return default unless said
         */
        String key() default "default";

        /**
         * When it is restarted.
         *
         * @return whenever it ended, unless said
         */
        Restart restart() default Restart.PERMANENT;

        /**
         * Handler that is sent a message without content after a restart.
         *
         * @return empty: none
         */
        String onRestart() default "";
    }
}
