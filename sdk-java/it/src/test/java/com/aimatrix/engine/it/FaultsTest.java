package com.aimatrix.engine.it;

import static com.aimatrix.engine.it.Waiting.until;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.Events;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.testing.EmbeddedEngine;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Flow;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Engines that die, leave, fall silent; handlers that block; readers that dawdle. */
@Timeout(600)
class FaultsTest {
    private final Session session = new Session();

    /** What the handlers of a test share with it: agents are of static classes. */
    private static volatile Gate gate;

    private static final class Gate {
        final Semaphore go = new Semaphore(0);
        final AtomicInteger runs = new AtomicInteger();
        final AtomicInteger now = new AtomicInteger();
        final AtomicInteger most = new AtomicInteger();
        final Set<Integer> attempts = ConcurrentHashMap.newKeySet();
    }

    @BeforeEach
    void shut() {
        gate = new Gate();
    }

    @AfterEach
    void close() throws Exception {
        gate.go.release(1_000_000);
        session.close();
    }

    private EmbeddedEngine brisk() {
        return session.engine(EmbeddedEngine.builder().config("links", Session.BRISK));
    }

    /** Counts each text once. */
    @Agent(name = "Ledger")
    static class Ledger {
        @Memory(persistent = true)
        Set<String> seen;

        @Memory(persistent = true)
        int count;

        @Handler(byDefault = true)
        int add(String text) {
            seen.add(text);
            return ++count;
        }

        @Handler
        Map<String, Object> all() {
            return Map.of("count", count, "seen", new ArrayList<>(seen));
        }
    }

    /** Waits for the gate. */
    @Agent(name = "Patient")
    static class Patient {
        @Handler(byDefault = true)
        String wait(Context context) throws InterruptedException {
            Gate mine = gate;
            mine.attempts.add(context.attempt());
            mine.runs.incrementAndGet();
            mine.most.accumulateAndGet(mine.now.incrementAndGet(), Math::max);
            try {
                mine.go.acquire();
            } finally {
                mine.now.decrementAndGet();
            }
            return "still here";
        }
    }

    @Agent(name = "Caller")
    static class Caller {
        @Handler(byDefault = true)
        Object call(String key, Context context) {
            return context.request("Ledger/" + key, "asked");
        }
    }

    /** Yields as fast as it is let. */
    @Agent(name = "Fountain")
    static class Fountain {
        @Handler(byDefault = true)
        java.util.Iterator<Integer> numbers(int count) {
            return new java.util.Iterator<>() {
                @Override
                public boolean hasNext() {
                    return gate.runs.get() < count;
                }

                @Override
                public Integer next() {
                    return gate.runs.getAndIncrement();
                }
            };
        }
    }

    private static Set<String> seen(AmxEngine client, String key) {
        Map<?, ?> all = client.request("Ledger/" + key, null, Map.class, new MessageOptions().handler("all"));
        Set<String> texts = new TreeSet<>();
        ((List<?>) all.get("seen")).forEach(text -> texts.add((String) text));
        assertEquals(texts.size(), all.get("count"), "each was counted once");
        return texts;
    }

    @Test
    void a_lost_connection_is_taken_up_again_and_handlers_never_notice() throws Exception {
        EmbeddedEngine engine = session.engine();
        Cable cable = session.add(new Cable(engine.address()));
        session.connected(cable.address(), Patient.class);
        CompletableFuture<String> asked =
                session.connected(engine.address()).requestAsync("Patient", null, String.class, new MessageOptions());
        until(() -> gate.runs.get() == 1, "the handler runs");
        for (int cut = 0; cut < 3; cut++) {
            int before = cable.connected();
            cable.cut();
            until(() -> cable.connected() > before, "another connection");
        }
        gate.go.release();
        assertEquals("still here", asked.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        assertEquals(1, gate.runs.get());
    }

    @Test
    void an_engine_killed_again_and_again_loses_nothing_it_acknowledged_and_counts_nothing_twice() throws Exception {
        long seed = new Random().nextLong();
        Random random = new Random(seed);
        EmbeddedEngine engine =
                session.engine(
                        EmbeddedEngine.builder()
                                // Senders are faster than what is killed all the time.
                                .config("limits", Map.of("mailbox_capacity", 100_000))
                                .config("admission", Map.of("enabled", false))
                                .config("delivery", Map.of("redelivery_attempts", 50)));
        AmxEngine worker = session.connected(engine.address(), Ledger.class);
        AmxEngine client = session.connected(engine.address());
        Set<String> acknowledged = ConcurrentHashMap.newKeySet();
        AtomicBoolean enough = new AtomicBoolean();
        ExecutorService threads = Executors.newCachedThreadPool();
        session.add(threads::shutdownNow);
        List<CompletableFuture<Void>> senders = new ArrayList<>();
        for (int number = 0; number < 8; number++) {
            int mine = number;
            senders.add(
                    CompletableFuture.runAsync(
                            () -> {
                                for (int count = 0; !enough.get(); count++) {
                                    String text = mine + "-" + count;
                                    MessageOptions options = new MessageOptions().timeout(Duration.ofMinutes(2));
                                    client.send("Ledger/k" + count % 2, text, options);
                                    acknowledged.add(count % 2 + text);
                                }
                            },
                            threads));
        }
        for (int kill = 0; kill < 5; kill++) {
            int before = acknowledged.size();
            until(() -> acknowledged.size() > before + 50, "acknowledgements, seed " + seed);
            Thread.sleep(random.nextInt(300));
            engine.kill();
            engine.restart();
        }
        enough.set(true);
        for (CompletableFuture<Void> sender : senders) {
            sender.get(120, TimeUnit.SECONDS);
        }
        until(() -> worker.connected() && client.connected(), "links to the last engine");
        Set<String> held = new HashSet<>();
        until(
                () -> {
                    held.clear();
                    seen(client, "k0").forEach(text -> held.add("0" + text));
                    seen(client, "k1").forEach(text -> held.add("1" + text));
                    return held.containsAll(acknowledged);
                },
                "what was acknowledged is counted, seed " + seed);
        assertEquals(acknowledged, held, "seed " + seed);
    }

    @Test
    void calls_that_can_be_recognised_are_repeated_and_others_fail_and_subscriptions_are_renewed() throws Exception {
        EmbeddedEngine engine = brisk();
        // It calls what it hosts: that is there again when its calls are.
        AmxEngine client = session.connected(engine.address(), Ledger.class, Patient.class);
        assertEquals(1, client.request("Ledger", "a"));
        Events events = client.subscribe("news", "");
        CompletableFuture<String> unknown = client.requestAsync("Patient", null, String.class, new MessageOptions());
        until(() -> gate.runs.get() == 1, "the handler runs");
        engine.kill();
        CompletableFuture<Integer> known =
                client.requestAsync("Ledger", "b", Integer.class, new MessageOptions().idempotencyKey("once"));
        engine.restart();
        assertEquals(2, known.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        Exception failed = assertThrows(Exception.class, () -> unknown.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        assertEquals("ENGINE_RESTARTED", ((AmxException) failed.getCause()).reason());
        until(() -> client.publish("news", "again").subscribers() > 0, "the subscription is in force again");
        assertEquals("again", events.next().content());
    }

    @Test
    void an_engine_that_leaves_lets_handlers_end_and_is_found_again() throws Exception {
        EmbeddedEngine engine = brisk();
        AmxEngine client = session.connected(engine.address(), Patient.class, Ledger.class);
        CompletableFuture<String> asked = client.requestAsync("Patient", null, String.class, new MessageOptions());
        until(() -> gate.runs.get() == 1, "the handler runs");
        CompletableFuture<Integer> left = CompletableFuture.supplyAsync(engine::stop);
        gate.go.release();
        assertEquals("still here", asked.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        assertEquals(0, left.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        CompletableFuture<Integer> meanwhile =
                client.requestAsync("Ledger", "a", Integer.class, new MessageOptions().idempotencyKey("meanwhile"));
        engine.restart();
        assertEquals(1, meanwhile.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
    }

    @Test
    void a_connection_that_goes_dead_without_a_word_is_noticed_and_taken_up_again() throws Exception {
        EmbeddedEngine engine = brisk();
        Cable cable = session.add(new Cable(engine.address()));
        session.connected(cable.address(), Patient.class);
        AmxEngine client = session.connected(engine.address());
        CompletableFuture<String> asked = client.requestAsync("Patient", null, String.class, new MessageOptions());
        until(() -> gate.runs.get() == 1, "the handler runs");
        cable.deaden();
        gate.go.release(); // its result is said to nobody
        assertEquals("still here", asked.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        assertEquals(1, gate.runs.get());
    }

    @Test
    void handlers_that_block_do_not_stop_the_link() throws Exception {
        EmbeddedEngine engine = brisk();
        AmxEngine worker = session.started(
                AmxEngine.builder().withAddress(engine.address()).withConcurrency(8)
                        .withAgent(Patient.class).withAgent(Ledger.class));
        AmxEngine client = session.connected(engine.address());
        List<CompletableFuture<String>> asked = new ArrayList<>();
        for (int key = 0; key < 7; key++) {
            asked.add(client.requestAsync("Patient/" + key, null, String.class, new MessageOptions()));
        }
        until(() -> gate.now.get() == 7, "all block");
        // Far more than two heartbeats: a link that said nothing meanwhile would be gone, and its handlers run again.
        long end = System.nanoTime() + Duration.ofSeconds(4).toNanos();
        int count = 0;
        while (System.nanoTime() < end) {
            assertEquals(++count, client.request("Ledger", "x"));
        }
        gate.go.release(7);
        for (CompletableFuture<String> one : asked) {
            assertEquals("still here", one.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        }
        assertEquals(7, gate.runs.get());
        assertEquals(Set.of(1), gate.attempts);
        assertTrue(worker.started());
    }

    @Test
    void handlers_that_block_in_calls_are_answered() throws Exception {
        EmbeddedEngine engine = session.engine();
        session.connected(engine.address(), Caller.class, Ledger.class);
        AmxEngine client = session.connected(engine.address());
        List<CompletableFuture<Integer>> asked = new ArrayList<>();
        for (int key = 0; key < 100; key++) {
            asked.add(client.requestAsync("Caller/" + key, "k" + key, Integer.class, new MessageOptions()));
        }
        for (CompletableFuture<Integer> one : asked) {
            assertEquals(1, one.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        }
    }

    @Test
    void no_more_handlers_run_at_a_time_than_there_is_credit_for_and_the_others_wait_at_the_engine() throws Exception {
        EmbeddedEngine engine = session.engine();
        session.started(AmxEngine.builder().withAddress(engine.address()).withConcurrency(4).withAgent(Patient.class));
        AmxEngine client = session.connected(engine.address());
        List<CompletableFuture<String>> asked = new ArrayList<>();
        for (int key = 0; key < 50; key++) {
            asked.add(client.requestAsync("Patient/" + key, null, String.class, new MessageOptions()));
        }
        until(() -> gate.now.get() == 4, "as many as there is credit");
        gate.go.release(50);
        for (CompletableFuture<String> one : asked) {
            assertEquals("still here", one.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        }
        assertEquals(4, gate.most.get());
    }

    @Test
    void a_stream_flows_no_faster_than_it_is_read_over_a_connection_that_is_cut() throws Exception {
        EmbeddedEngine engine = session.engine();
        Cable cable = session.add(new Cable(engine.address()));
        session.connected(cable.address(), Fountain.class);
        AmxEngine client = session.connected(engine.address());
        Reader reader = new Reader();
        client.stream("Fountain", 5000, Integer.class, new MessageOptions().timeout(Duration.ofMinutes(2)))
                .subscribe(reader);
        until(reader.subscribed, "the subscription");
        reader.subscription.request(10);
        until(() -> reader.read.size() == 10, "ten chunks");
        cable.cut();
        reader.subscription.request(10);
        until(() -> reader.read.size() == 20, "ten more");
        int made = gate.runs.get();
        assertTrue(made < 2000, made + " chunks were made for a reader of 20");
        reader.subscription.request(5000);
        until(reader.over, "the end of the stream");
        List<Integer> all = new ArrayList<>();
        for (int number = 0; number < 5000; number++) {
            all.add(number);
        }
        assertEquals(all, reader.read);
    }

    // --- faults of the application's own -----------------------------------------------------------------------------

    /** Fails in ways that are no exceptions. */
    @Agent(name = "Faulty")
    static class Faulty {
        /** Cannot be initialized. */
        static final class Broken {
            static final int VALUE = Integer.parseInt("no number");
        }

        @Handler
        int load() {
            return Broken.VALUE;
        }

        @Handler
        int recurse(int depth) {
            return recurse(depth + 1) + 1;
        }

        @Handler
        String fine() {
            return "fine";
        }
    }

    @Test
    void errors_of_the_jvm_fail_their_message_and_nothing_else() {
        EmbeddedEngine engine = session.engine();
        AmxEngine client = session.connected(engine.address(), Faulty.class);
        for (String[] expected : new String[][] {
            {"load", "ExceptionInInitializerError"},
            {"load", "NoClassDefFoundError"},
            {"recurse", "StackOverflowError"}
        }) {
            AmxException error =
                    assertThrows(
                            AmxException.class,
                            () -> client.request("Faulty", 1, Object.class, new MessageOptions().handler(expected[0])));
            assertEquals("HANDLER_FAILED", error.reason());
            assertTrue(error.metadata().get("exception").contains(expected[1]), error.metadata().toString());
            assertEquals("fine", client.request("Faulty", null, Object.class, new MessageOptions().handler("fine")));
        }
    }

    @Test
    void an_executor_that_refuses_fails_the_message_and_keeps_nothing_busy() {
        EmbeddedEngine engine = session.engine();
        AtomicBoolean full = new AtomicBoolean();
        ExecutorService threads = Executors.newCachedThreadPool();
        session.add(threads::shutdownNow);
        AmxEngine worker =
                session.started(
                        AmxEngine.builder()
                                .withAddress(engine.address())
                                .withConcurrency(2)
                                .withAgent(Ledger.class)
                                .withExecutor(
                                        task -> {
                                            if (full.get()) {
                                                throw new RejectedExecutionException("full");
                                            }
                                            threads.execute(task);
                                        }));
        assertEquals(1, worker.request("Ledger", "a"));
        full.set(true);
        for (int number = 0; number < 5; number++) {
            AmxException error = assertThrows(AmxException.class, () -> worker.request("Ledger", "b"));
            assertEquals("HANDLER_FAILED", error.reason());
        }
        full.set(false);
        assertEquals(2, worker.request("Ledger", "c"));
    }

    @Test
    void a_callback_that_waits_on_the_links_thread_is_told_so_and_the_link_goes_on() throws Exception {
        EmbeddedEngine engine = session.engine();
        AmxEngine client = session.connected(engine.address(), Ledger.class, Patient.class);
        CompletableFuture<String> asked = client.requestAsync("Patient", null, String.class, new MessageOptions());
        CompletableFuture<Object> blocked = asked.thenApply(answer -> client.request("Ledger", "a"));
        CompletableFuture<Void> stopped = asked.thenRun(client::stop);
        CompletableFuture<Integer> composed =
                asked.thenCompose(
                        answer -> client.requestAsync("Ledger", "b", Integer.class, new MessageOptions()));
        gate.go.release();
        for (CompletableFuture<?> one : List.of(blocked, stopped)) {
            Exception failed = assertThrows(Exception.class, () -> one.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
            assertEquals("LINK_BLOCKED", ((AmxException) failed.getCause()).reason());
        }
        assertEquals(1, composed.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
    }

    /** Calls through the application's own engine, once the gate is open. */
    @Agent(name = "Late")
    static class Late {
        static volatile AmxEngine engine;

        @Handler
        Object call() throws InterruptedException {
            gate.runs.incrementAndGet();
            gate.go.acquire();
            return engine.request("Ledger", "late");
        }
    }

    @Test
    void what_still_runs_may_call_while_its_engine_stops() throws Exception {
        EmbeddedEngine engine = session.engine();
        session.connected(engine.address(), Ledger.class);
        AmxEngine client = session.connected(engine.address());
        AmxEngine worker = session.connected(engine.address(), Late.class);
        Late.engine = worker;
        CompletableFuture<Integer> asked = client.requestAsync("Late", null, Integer.class, new MessageOptions());
        until(() -> gate.runs.get() == 1, "the handler runs");
        CompletableFuture<Void> stopped = CompletableFuture.runAsync(worker::stop);
        until(
                () -> {
                    try {
                        client.request("Late", null, Object.class, new MessageOptions().timeout(Duration.ofMillis(50)));
                        return false;
                    } catch (AmxException error) {
                        return error.reason().equals("NO_WORKER");
                    }
                },
                "the worker takes nothing more");
        gate.go.release();
        assertEquals(1, asked.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        stopped.get(Waiting.PATIENCE_S, TimeUnit.SECONDS);
        assertFalse(worker.started());
    }

    private static final class Reader implements Flow.Subscriber<Integer> {
        final CountDownLatch subscribed = new CountDownLatch(1);
        final CountDownLatch over = new CountDownLatch(1);
        final List<Integer> read = new CopyOnWriteArrayList<>();
        volatile Flow.Subscription subscription;

        @Override
        public void onSubscribe(Flow.Subscription given) {
            subscription = given;
            subscribed.countDown();
        }

        @Override
        public void onNext(Integer number) {
            read.add(number);
        }

        @Override
        public void onError(Throwable error) {
            over.countDown();
        }

        @Override
        public void onComplete() {
            over.countDown();
        }
    }
}
