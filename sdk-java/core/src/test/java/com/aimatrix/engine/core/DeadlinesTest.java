package com.aimatrix.engine.core;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class DeadlinesTest {
    private final StillEnvironment environment = new StillEnvironment();
    private final Deadlines deadlines = new Deadlines(environment);
    private final List<String> expired = new ArrayList<>();

    private Deadlines.Expiring waiter(String name) {
        return () -> expired.add(name);
    }

    @Test
    void waitersExpireInOrderAndNeverEarly() {
        deadlines.add(waiter("late"), 300);
        deadlines.add(waiter("soon"), 100);
        environment.advance(99);
        assertEquals(List.of(), expired);
        environment.advance(40);
        assertEquals(List.of("soon"), expired);
        environment.advance(200);
        assertEquals(List.of("soon", "late"), expired);
    }

    @Test
    void discardedWaiterDoesNotExpire() {
        Deadlines.Expiring waiter = waiter("gone");
        deadlines.add(waiter, 50).discard(waiter);
        environment.advance(1000);
        assertEquals(List.of(), expired);
    }

    @Test
    void expiryThatDiscardsAnotherKeepsItFromExpiring() {
        Deadlines.Expiring other = waiter("other");
        Deadlines.Bucket[] bucket = new Deadlines.Bucket[1];
        deadlines.add(() -> bucket[0].discard(other), 50);
        bucket[0] = deadlines.add(other, 50);
        environment.advance(1000);
        assertEquals(List.of(), expired);
    }

    @Test
    void thousandsThatCameAndWentLeaveNothingBehind() {
        for (int index = 0; index < 5000; index++) {
            Deadlines.Expiring waiter = waiter("none");
            deadlines.add(waiter, 30 * index).discard(waiter);
        }
        deadlines.add(waiter("last"), 10);
        environment.advance(1_000_000);
        assertEquals(List.of("last"), expired);
    }

    @Test
    void closedDeadlinesForgetEverybody() {
        deadlines.add(waiter("never"), 50);
        deadlines.close();
        environment.advance(1000);
        assertEquals(List.of(), expired);
    }
}
