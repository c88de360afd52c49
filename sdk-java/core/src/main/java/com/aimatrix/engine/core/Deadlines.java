package com.aimatrix.engine.core;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * Waiters and their deadlines: one coarse timer for all of them. Adding and discarding keep nothing of what is
 * discarded. What expiry means is the waiter's business.
 */
public final class Deadlines {
    private static final double TICK_MS = 20; // things expire up to this much late, never early
    private static final int SWEEP_AT = 1024;

    /** Something that waits with a deadline. */
    public interface Expiring {
        /** Its time has come. Must not throw. */
        void expire();
    }

    /** The place of a waiter among the others. */
    public static final class Bucket {
        private final Set<Expiring> waiters = new LinkedHashSet<>();

        /**
         * Forgets a waiter: it does not expire.
         *
         * @param waiter may have gone already
         */
        public void discard(Expiring waiter) {
            waiters.remove(waiter);
        }
    }

    private final Environment environment;
    private final TreeMap<Long, Bucket> buckets = new TreeMap<>();
    private int sweepAt = SWEEP_AT;
    private Environment.Timer timer;
    private long timerTick;

    /**
     * Deadlines on a clock.
     *
     * @param environment whose clock and timers
     */
    public Deadlines(Environment environment) {
        this.environment = environment;
    }

    /**
     * `waiter.expire()` is called in `millis`, unless it is discarded from the bucket that this returns.
     *
     * @param waiter who waits
     * @param millis how long, at least 0
     * @return its bucket
     */
    public Bucket add(Expiring waiter, double millis) {
        long tick = (long) Math.floor((environment.now() + millis) / TICK_MS) + 1;
        Bucket bucket = buckets.get(tick);
        if (bucket == null) {
            if (buckets.size() >= sweepAt) {
                // Most waiters are done long before their time; without this their empty buckets would pile up.
                buckets.values().removeIf(old -> old.waiters.isEmpty());
                sweepAt = Math.max(SWEEP_AT, 2 * buckets.size());
            }
            bucket = new Bucket();
            buckets.put(tick, bucket);
            if (timer == null || tick < timerTick) {
                schedule();
            }
        }
        bucket.waiters.add(waiter);
        return bucket;
    }

    /** Forgets every waiter; nothing expires any more. */
    public void close() {
        if (timer != null) {
            timer.cancel();
            timer = null;
        }
        buckets.clear();
    }

    private void schedule() {
        if (timer != null) {
            timer.cancel();
        }
        timerTick = buckets.firstKey();
        timer = environment.callAt(timerTick * TICK_MS, this::fire);
    }

    private void fire() {
        timer = null;
        long now = (long) Math.floor(environment.now() / TICK_MS);
        List<Bucket> due = new ArrayList<>();
        Iterator<Map.Entry<Long, Bucket>> entries = buckets.entrySet().iterator();
        while (entries.hasNext()) {
            Map.Entry<Long, Bucket> entry = entries.next();
            if (entry.getKey() > now && !entry.getValue().waiters.isEmpty()) {
                break;
            }
            entries.remove();
            due.add(entry.getValue());
        }
        if (!buckets.isEmpty()) {
            schedule();
        }
        for (Bucket bucket : due) {
            // One by one: what expires may discard others.
            while (!bucket.waiters.isEmpty()) {
                Expiring waiter = bucket.waiters.iterator().next();
                bucket.waiters.remove(waiter);
                waiter.expire();
            }
        }
    }
}
