package com.aimatrix.engine.errors;

/** A class cannot become an agent (INVALID_DEFINITION); the message names the culprit and the cure. */
public class DefinitionException extends AmxException {
    private static final long serialVersionUID = 1L;

    /**
     * What is wrong with a definition.
     *
     * @param message names the culprit and the cure
     */
    public DefinitionException(String message) {
        this("INVALID_DEFINITION", message);
    }

    /**
     * With a reason.
     *
     * @param reason UPPER_SNAKE
     * @param message names the culprit and the cure
     */
    public DefinitionException(String reason, String message) {
        super(Code.INVALID_ARGUMENT, reason, message);
    }
}
