package com.aimatrix.engine;

/** Whether messages are stored before they are acknowledged. */
public enum Durability {
    /** Nobody says. */
    UNSPECIFIED,
    /** They are not. */
    VOLATILE,
    /** They are. */
    DURABLE
}
