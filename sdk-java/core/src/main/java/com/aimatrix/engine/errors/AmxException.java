package com.aimatrix.engine.errors;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * Something did not happen, and this is why. Reason and message survive every hop; causes become causes again on the
 * other side.
 */
public class AmxException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** What kind of failure it is. */
    private final Code code;
    /** UPPER_SNAKE. */
    private final String reason;
    /** The same call may succeed later. */
    private final boolean retryable;
    /** Advice. */
    private final Duration retryDelay;
    /** Facts for programs. */
    private final transient Map<String, String> metadata;
    /** Values for whoever catches it. */
    private final transient List<Object> details;
    /** Of the process it came from. */
    private final String remoteStack;
    /** Where it failed. */
    private final String source;

    /**
     * A failure that is not retryable and has nothing to add.
     *
     * @param code what kind it is
     * @param reason UPPER_SNAKE, stable across releases and languages
     * @param message one sentence for a person: what was wrong, where, what to do next
     */
    public AmxException(Code code, String reason, String message) {
        this(new Facts(code, reason, message));
    }

    /**
     * A failure with all its facts.
     *
     * @param facts what to say
     */
    public AmxException(Facts facts) {
        super(facts.message, facts.cause);
        this.code = facts.code;
        this.reason = facts.reason;
        this.retryable = facts.retryable;
        this.retryDelay = facts.retryDelay;
        this.metadata = Map.copyOf(facts.metadata);
        this.details = List.copyOf(facts.details);
        this.remoteStack = facts.remoteStack;
        this.source = facts.source;
    }

    /**
     * What kind of failure it is.
     *
     * @return its code
     */
    public Code code() {
        return code;
    }

    /**
     * Why, for programs.
     *
     * @return UPPER_SNAKE, stable across releases and languages
     */
    public String reason() {
        return reason;
    }

    /**
     * Whether the same call may succeed later, unchanged.
     *
     * @return whether it may
     */
    public boolean retryable() {
        return retryable;
    }

    /**
     * How long to wait before that.
     *
     * @return zero: no advice
     */
    public Duration retryDelay() {
        return retryDelay;
    }

    /**
     * Facts for programs.
     *
     * @return by name; unmodifiable
     */
    public Map<String, String> metadata() {
        return metadata == null ? Map.of() : metadata;
    }

    /**
     * Values that the application attached; they have a JSON form.
     *
     * @return unmodifiable
     */
    public List<Object> details() {
        return details == null ? List.of() : details;
    }

    /**
     * Stack trace of the process it came from, in the format of its language.
     *
     * @return empty if it did not come from another
     */
    public String remoteStack() {
        return remoteStack;
    }

    /**
     * Where it failed: `engine`, or `agent/key#handler`.
     *
     * @return empty if nobody said
     */
    public String source() {
        return source;
    }

    /** What an exception may say; everything but code, reason and message is optional. */
    public static final class Facts {
        private final Code code;
        private final String reason;
        private final String message;
        private boolean retryable;
        private Duration retryDelay = Duration.ZERO;
        private Map<String, String> metadata = Map.of();
        private List<Object> details = List.of();
        private Throwable cause;
        private String remoteStack = "";
        private String source = "";

        /**
         * Begins with what every failure says.
         *
         * @param code what kind it is
         * @param reason UPPER_SNAKE
         * @param message one sentence for a person
         */
        public Facts(Code code, String reason, String message) {
            this.code = Objects.requireNonNull(code, "code");
            this.reason = Objects.requireNonNull(reason, "reason");
            this.message = Objects.requireNonNull(message, "message");
        }

        /**
         * The same call may succeed later.
         *
         * @param value whether it may
         * @return this
         */
        public Facts retryable(boolean value) {
            this.retryable = value;
            return this;
        }

        /**
         * The same call may succeed after a while.
         *
         * @param delay how long to wait
         * @return this
         */
        public Facts retryAfter(Duration delay) {
            this.retryDelay = delay;
            return this;
        }

        /**
         * Facts for programs.
         *
         * @param facts by name
         * @return this
         */
        public Facts metadata(Map<String, String> facts) {
            this.metadata = facts;
            return this;
        }

        /**
         * Values for whoever catches it.
         *
         * @param values with a JSON form
         * @return this
         */
        public Facts details(List<Object> values) {
            this.details = values;
            return this;
        }

        /**
         * What caused it.
         *
         * @param throwable travels with it
         * @return this
         */
        public Facts cause(Throwable throwable) {
            this.cause = throwable;
            return this;
        }

        /**
         * Where it happened.
         *
         * @param place `engine`, or `agent/key#handler`
         * @param stack of that process; may be empty
         * @return this
         */
        public Facts from(String place, String stack) {
            this.source = place;
            this.remoteStack = stack;
            return this;
        }

        /**
         * The exception that says this.
         *
         * @return to be thrown
         */
        public AmxException exception() {
            return new AmxException(this);
        }
    }
}
