package com.aimatrix.engine.errors;

/**
 * Thrown by a handler to fail its message with a reason of its own. `throw new HandlerException("SEAT_TAKEN", "seat 4A
 * is taken")` reaches the caller, in any language, with that reason and message. Not retried unless its facts say so.
 */
public class HandlerException extends AmxException {
    private static final long serialVersionUID = 1L;

    /**
     * Without a reason of its own: HANDLER_FAILED.
     *
     * @param message one sentence for a person
     */
    public HandlerException(String message) {
        this("HANDLER_FAILED", message);
    }

    /**
     * With a reason.
     *
     * @param reason UPPER_SNAKE
     * @param message one sentence for a person
     */
    public HandlerException(String reason, String message) {
        super(Code.UNKNOWN, reason, message);
    }

    /**
     * With a reason and a cause, which travels with it.
     *
     * @param reason UPPER_SNAKE
     * @param message one sentence for a person
     * @param cause what it comes from
     */
    public HandlerException(String reason, String message, Throwable cause) {
        super(new Facts(Code.UNKNOWN, reason, message).cause(cause));
    }

    /**
     * With all its facts.
     *
     * @param facts what to say
     */
    public HandlerException(Facts facts) {
        super(facts);
    }
}
