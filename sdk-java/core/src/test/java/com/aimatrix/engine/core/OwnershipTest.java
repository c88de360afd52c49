package com.aimatrix.engine.core;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.junit.jupiter.api.Test;

/** The vectors of docs/protocol.md. */
class OwnershipTest {
    private static void owned(String namespace, String agent, String key, long hash, int... owners) {
        assertEquals(hash, Integer.toUnsignedLong(Ownership.hash(namespace, agent, key)));
        List<Integer> engines = List.of(2, 3, 4, 8);
        for (int index = 0; index < owners.length; index++) {
            assertEquals(owners[index], Ownership.ownerOf(namespace, agent, key, engines.get(index)));
        }
    }

    @Test
    void an_owner_is_the_same_in_every_language() {
        owned("default", "Echo", "default", 2225382578L, 0, 2, 2, 2);
        owned("default", "Greeter", "Ada", 2843730321L, 1, 0, 1, 1);
        owned("tenant-7", "Order", "é", 1546130627L, 1, 2, 3, 3);
    }

    @Test
    void an_empty_key_is_the_default_one() {
        assertEquals(
                Ownership.ownerOf("default", "Echo", "default", 1009), Ownership.ownerOf("default", "Echo", "", 1009));
    }
}
