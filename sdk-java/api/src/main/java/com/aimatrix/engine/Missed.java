package com.aimatrix.engine;

/** What happens to occurrences of a schedule that nobody could run. */
public enum Missed {
    /** They are left out. */
    SKIP,
    /** One run stands for all. */
    RUN_ONCE,
    /** Each is run. */
    RUN_ALL
}
