package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * A method that handles messages. Its parameters are a {@link Context} and a {@link Message}, if it wants them,
 * and the content: one parameter takes it whole, several take the members of an object by their names. Returns a
 * value, a {@link ProcessingResult}, a CompletionStage of one, or chunks: a Flow.Publisher, a Stream or an
 * Iterator.
 */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.METHOD)
public @interface Handler {
    /**
     * Its name.
     *
     * @return empty: the name of the method
     */
    String name() default "";

    /**
     * One paragraph for people.
     *
     * @return may be empty
     */
    String description() default "";

    /**
     * Whether it receives messages that name no handler and fit no type.
     *
     * @return one at most of an agent does
     */
    boolean byDefault() default false;

    /**
     * Message types it receives where no handler is named.
     *
     * @return none unless said
     */
    String[] messageTypes() default {};

    /**
     * Whether it runs beside other messages of its instance. It must not change memory then.
     *
     * @return false: it takes its turn
     */
    boolean concurrent() default false;

    /**
     * Whether messages that do not say are stored first.
     *
     * @return what is stored
     */
    Durability durability() default Durability.UNSPECIFIED;

    /**
     * Longest run, such as {@code 30s}.
     *
     * @return empty: the engine's default
     */
    String timeout() default "";

    /**
     * How often and how fast a failed message is repeated.
     *
     * @return what it does not say is the engine's default
     */
    Retry retry() default @Retry;

    /**
     * When it is given a rest.
     *
     * @return what it does not say is the engine's default
     */
    CircuitBreaker circuitBreaker() default @CircuitBreaker;

    /**
     * What the caller must hold, all of them, each as {@code area:action}.
     *
     * @return none unless said
     */
    String[] permissions() default {};

    /**
     * Topics whose events it receives.
     *
     * @return none unless said
     */
    String[] topics() default {};

    /**
     * Which of those events, by their attributes.
     *
     * @return empty: all
     */
    String filter() default "";

    /**
     * Where it runs.
     *
     * @return a thread that it may block, either way
     */
    Execution execution() default Execution.UNSPECIFIED;
}
