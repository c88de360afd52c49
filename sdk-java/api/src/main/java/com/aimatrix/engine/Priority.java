package com.aimatrix.engine;

/** How urgent a message is. Higher ones overtake lower ones; none starves. */
public enum Priority {
    /** Before everything. */
    CRITICAL,
    /** Before most. */
    HIGH,
    /** As usual. */
    NORMAL,
    /** After most. */
    LOW,
    /** When there is nothing else. */
    BACKGROUND
}
