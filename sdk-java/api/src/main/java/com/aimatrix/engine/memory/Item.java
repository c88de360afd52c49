package com.aimatrix.engine.memory;

/** One entry of a memory: its value alive, or encoded, or both. */
final class Item {
    /** Mapping key or set member; of a list, null. */
    final Object key;
    /** Id on the wire. */
    final String id;
    /** Place in a list. */
    final long ordinal;
    /** The value, where `decoded`. */
    Object live;
    boolean decoded;
    /** The value as it was committed; null only where `live` cannot change, or was not committed yet. */
    byte[] encoded;
    /** When it expires, on the memory's clock; 0: without end. */
    double deadline;
    /** Removed since the last commit. */
    boolean dead;
    /** Made since the last commit. */
    boolean fresh;

    Item(Object key, String id, long ordinal) {
        this.key = key;
        this.id = id;
        this.ordinal = ordinal;
    }
}
