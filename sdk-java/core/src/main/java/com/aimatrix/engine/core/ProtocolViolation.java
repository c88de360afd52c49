package com.aimatrix.engine.core;

/** The engine said something that cannot be; the connection is of no further use. */
public final class ProtocolViolation extends RuntimeException {
    private static final long serialVersionUID = 1L;

    ProtocolViolation(String message) {
        super(message);
    }
}
