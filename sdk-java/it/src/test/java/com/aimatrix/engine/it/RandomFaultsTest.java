package com.aimatrix.engine.it;

import static com.aimatrix.engine.it.Waiting.until;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.testing.EmbeddedEngine;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Connections that are cut or go dead, and engines that are killed, in any order, under load. AMX_TEST_ROUNDS: how many
 * faults, 8 unless given; AMX_TEST_SEED: which.
 */
@Timeout(900)
class RandomFaultsTest {
    private static final int SENDERS = 6;
    private static final int KEYS = 3;

    private final Session session = new Session();

    @AfterEach
    void close() throws Exception {
        session.close();
    }

    /** Counts and adds up; passes everything on to one instance that does so, too. */
    @Agent(name = "Sum")
    static class Sum {
        @Memory(persistent = true)
        long count;

        @Memory(persistent = true)
        long sum;

        @Handler(byDefault = true)
        long add(long amount, Context context) {
            count++;
            sum += amount;
            if (!context.key().equals("all") && !context.key().equals("asked")) {
                context.send("Sum/all", amount);
            }
            return count;
        }

        @Handler
        List<Long> totals() {
            return List.of(count, sum);
        }
    }

    private record Acknowledged(String key, long amount) {}

    private static List<Long> totals(AmxEngine client, String key) {
        List<?> said = client.request("Sum/" + key, null, List.class, new MessageOptions().handler("totals"));
        return said.stream().map(one -> ((Number) one).longValue()).toList();
    }

    @Test
    void whatever_happens_to_connections_and_engines_nothing_acknowledged_is_lost_or_counts_twice() throws Exception {
        String said = System.getenv("AMX_TEST_SEED");
        long seed = said == null ? new Random().nextLong() : Long.parseLong(said);
        String rounds = System.getenv("AMX_TEST_ROUNDS");
        Random random = new Random(seed);
        EmbeddedEngine engine =
                session.engine(
                        EmbeddedEngine.builder()
                                .config("links", Map.of("heartbeat_interval", "500ms", "resume_window", "3s"))
                                // Senders are faster than what is killed all the time.
                                .config("limits", Map.of("mailbox_capacity", 100_000))
                                .config("admission", Map.of("enabled", false))
                                .config("delivery", Map.of("redelivery_attempts", 100)));
        Cable far = session.add(new Cable(engine.address()));
        Cable near = session.add(new Cable(engine.address()));
        AmxEngine worker = session.connected(far.address(), Sum.class);
        AmxEngine client = session.connected(near.address());
        Map<String, Acknowledged> acknowledged = new ConcurrentHashMap<>();
        AtomicLong asked = new AtomicLong();
        AtomicLong replied = new AtomicLong();
        AtomicBoolean enough = new AtomicBoolean();
        ExecutorService threads = Executors.newCachedThreadPool();
        session.add(threads::shutdownNow);
        List<Future<?>> senders = new ArrayList<>();
        for (int number = 0; number < SENDERS; number++) {
            int mine = number;
            senders.add(
                    threads.submit(
                            () -> {
                                for (int sent = 0; !enough.get(); sent++) {
                                    Acknowledged one = new Acknowledged("k" + (mine + sent) % KEYS, mine * 1_000_000L + sent);
                                    client.send(
                                            "Sum/" + one.key(),
                                            one.amount(),
                                            new MessageOptions()
                                                    .id(mine + "-" + sent)
                                                    .timeout(Duration.ofMinutes(3)));
                                    acknowledged.put(mine + "-" + sent, one);
                                    Thread.sleep(2); // what all pass on is handled by one instance
                                }
                                return null;
                            }));
        }
        senders.add(
                threads.submit(
                        () -> {
                            while (!enough.get()) {
                                asked.incrementAndGet();
                                try {
                                    replied.set(
                                            client.request(
                                                    "Sum/asked", 1, Long.class, new MessageOptions().timeout(Duration.ofSeconds(5))));
                                } catch (AmxException nobodyKnows) {
                                    Thread.sleep(20);
                                }
                            }
                            return null;
                        }));
        StringBuilder history = new StringBuilder("seed " + seed + ":");
        for (int round = 0; round < (rounds == null ? 8 : Integer.parseInt(rounds)); round++) {
            int before = acknowledged.size();
            until(() -> acknowledged.size() > before + 20, "acknowledgements after " + history);
            Thread.sleep(random.nextInt(400));
            switch (random.nextInt(5)) {
                case 0 -> {
                    history.append(" cut-worker");
                    far.cut();
                }
                case 1 -> {
                    history.append(" cut-client");
                    near.cut();
                }
                case 2 -> {
                    history.append(" dead-worker");
                    far.deaden();
                }
                case 3 -> {
                    history.append(" dead-client");
                    near.deaden();
                }
                default -> {
                    history.append(" kill");
                    engine.restart();
                }
            }
        }
        enough.set(true);
        for (Future<?> sender : senders) {
            sender.get(180, TimeUnit.SECONDS);
        }
        until(() -> worker.connected() && client.connected(), "links after " + history);
        Map<String, List<Long>> expected = new ConcurrentHashMap<>();
        acknowledged.values().forEach(
                one -> {
                    add(expected, one.key(), one.amount());
                    add(expected, "all", one.amount());
                });
        Map<String, List<Long>> held = settled(client, expected);
        assertEquals(expected, held, history.toString());
        long counted = totals(client, "asked").get(0);
        assertTrue(replied.get() <= counted && counted <= asked.get(), replied + " <= " + counted + " <= " + asked);
        System.out.println(history + ": " + acknowledged.size() + " messages, every total is exact");
    }

    /** What is held when it is what was expected, or when nothing has changed for long. */
    private static Map<String, List<Long>> settled(AmxEngine client, Map<String, List<Long>> expected)
            throws InterruptedException {
        Map<String, List<Long>> held = Map.of();
        long changed = System.nanoTime();
        while (!held.equals(expected) && System.nanoTime() - changed < TimeUnit.SECONDS.toNanos(Waiting.PATIENCE_S)) {
            Thread.sleep(100);
            Map<String, List<Long>> now = new ConcurrentHashMap<>();
            try {
                expected.keySet().forEach(key -> now.put(key, totals(client, key)));
            } catch (AmxException notYet) {
                continue;
            }
            if (!now.equals(held)) {
                held = now;
                changed = System.nanoTime();
            }
        }
        return held;
    }

    private static void add(Map<String, List<Long>> totals, String key, long amount) {
        totals.merge(key, List.of(1L, amount), (one, other) -> List.of(one.get(0) + other.get(0), one.get(1) + other.get(1)));
    }
}
