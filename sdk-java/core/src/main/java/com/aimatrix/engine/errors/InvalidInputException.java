package com.aimatrix.engine.errors;

import java.util.Map;

/** A value does not fit what is declared (INVALID_INPUT), or has no JSON form or is not JSON (INVALID_VALUE). */
public class InvalidInputException extends AmxException {
    private static final long serialVersionUID = 1L;

    /** Of what has no JSON form, or is not JSON. */
    public static final String INVALID_VALUE = "INVALID_VALUE";
    /** Of what does not fit. */
    public static final String INVALID_INPUT = "INVALID_INPUT";

    /** Where in the value. */
    private final String pointer;

    /**
     * A value does not fit.
     *
     * @param message what was wrong, where, what to do next
     * @param pointer the place, e.g. `order.items[2].price`; empty: the whole
     */
    public InvalidInputException(String message, String pointer) {
        this(INVALID_INPUT, message, pointer, null);
    }

    /**
     * With a reason.
     *
     * @param reason INVALID_INPUT or INVALID_VALUE
     * @param message what was wrong, where, what to do next
     * @param pointer the place; empty: the whole
     * @param cause what it comes from; may be null
     */
    public InvalidInputException(String reason, String message, String pointer, Throwable cause) {
        super(
                new Facts(Code.INVALID_ARGUMENT, reason, message)
                        .metadata(pointer.isEmpty() ? Map.of() : Map.of("field", pointer))
                        .cause(cause));
        this.pointer = pointer;
    }

    /**
     * A value that has no JSON form, or text that is not JSON.
     *
     * @param message what was wrong, where, what to do next
     * @param pointer the place; empty: the whole
     * @return INVALID_VALUE
     */
    public static InvalidInputException value(String message, String pointer) {
        return new InvalidInputException(INVALID_VALUE, message, pointer, null);
    }

    /**
     * The place inside the value.
     *
     * @return e.g. `order.items[2].price`; empty: the whole
     */
    public String pointer() {
        return pointer;
    }
}
