package com.aimatrix.engine.errors;

/** What kind of failure it is: google.rpc.Code. */
public enum Code {
    /** Somebody gave the call up. */
    CANCELLED(1),
    /** Nobody said what kind it is. */
    UNKNOWN(2),
    /** What was asked cannot be done, whatever the state of things. */
    INVALID_ARGUMENT(3),
    /** The time was over. */
    DEADLINE_EXCEEDED(4),
    /** What it is about is not there. */
    NOT_FOUND(5),
    /** What was to be made is there. */
    ALREADY_EXISTS(6),
    /** The caller may not do this. */
    PERMISSION_DENIED(7),
    /** A limit or quota is reached. */
    RESOURCE_EXHAUSTED(8),
    /** The state of things does not allow it. */
    FAILED_PRECONDITION(9),
    /** Somebody else was faster; repeat it from the start. */
    ABORTED(10),
    /** A value lies beyond what is valid. */
    OUT_OF_RANGE(11),
    /** This is not supported. */
    UNIMPLEMENTED(12),
    /** A defect. */
    INTERNAL(13),
    /** The other side cannot be reached now. */
    UNAVAILABLE(14),
    /** Data is lost or damaged. */
    DATA_LOSS(15),
    /** The caller did not say who it is. */
    UNAUTHENTICATED(16);

    private static final Code[] BY_NUMBER = values();

    private final int number;

    Code(int number) {
        this.number = number;
    }

    /**
     * The number on the wire.
     *
     * @return 1 to 16
     */
    public int number() {
        return number;
    }

    /**
     * The code with a number.
     *
     * @param number as on the wire
     * @return its code; UNKNOWN for a number that has none
     */
    public static Code of(int number) {
        return number >= 1 && number <= BY_NUMBER.length ? BY_NUMBER[number - 1] : UNKNOWN;
    }
}
