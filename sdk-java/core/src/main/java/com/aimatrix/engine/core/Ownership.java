package com.aimatrix.engine.core;

import java.nio.charset.StandardCharsets;

/** Which of several engines owns an instance: a hash that every language computes alike; see docs/protocol.md. */
public final class Ownership {
    private Ownership() {}

    /**
     * FNV-1a over the UTF-8 bytes of all three with zero bytes between, finished with the mixing steps of MurmurHash3.
     *
     * @param namespace of the link
     * @param agent its name
     * @param key of the instance
     * @return 32 bits
     */
    static int hash(String namespace, String agent, String key) {
        int value = 0x811c9dc5;
        for (byte one : (namespace + '\0' + agent + '\0' + key).getBytes(StandardCharsets.UTF_8)) {
            value = (value ^ (one & 0xff)) * 0x01000193;
        }
        value = (value ^ (value >>> 16)) * 0x85ebca6b;
        value = (value ^ (value >>> 13)) * 0xc2b2ae35;
        return value ^ (value >>> 16);
    }

    /**
     * The owner of an instance.
     *
     * @param namespace of the link
     * @param agent its name
     * @param key of the instance; empty: `default`
     * @param engines how many there are
     * @return its number, from 0
     */
    public static int ownerOf(String namespace, String agent, String key, int engines) {
        return Integer.remainderUnsigned(hash(namespace, agent, key.isEmpty() ? "default" : key), engines);
    }
}
