package com.aimatrix.engine.it;

import static com.aimatrix.engine.it.Waiting.until;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Broadcast;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.EventOptions;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.core.Ownership;
import com.aimatrix.engine.testing.EmbeddedEngine;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Several engines behind one address, `amx serve --workers`. */
@Timeout(600)
class EnginesTest {
    private static final Session SESSION = new Session();
    private static EmbeddedEngine engines;
    private static AmxEngine worker;
    private static AmxEngine client;

    @Agent(name = "Counter")
    static class Counter {
        @Memory(persistent = true)
        int total;

        @Handler(byDefault = true)
        int add(int amount) {
            total += amount;
            return total;
        }

        @Handler
        Stream<Integer> count(int to) {
            return IntStream.range(0, to).boxed();
        }

        @Handler
        Object other(String key, Context context) {
            return context.request("Counter/" + key, 1);
        }

        @Handler(topics = "news.*")
        void heard(String news) {}
    }

    @BeforeAll
    static void start() {
        engines = SESSION.engine(EmbeddedEngine.builder().workers(2));
        worker = SESSION.connected(engines.address(), Counter.class);
        client = SESSION.connected(engines.address());
    }

    @AfterAll
    static void stop() throws Exception {
        SESSION.close();
    }

    /** A key whose instance that engine owns; another one for each number. */
    private static String key(int engine, String prefix) {
        for (int number = 0; ; number++) {
            if (Ownership.ownerOf("default", "Counter", prefix + number, 2) == engine) {
                return prefix + number;
            }
        }
    }

    @Test
    void agents_are_hosted_on_all_of_them_and_the_owner_is_called() throws Exception {
        assertTrue(worker.connected() && client.connected());
        for (int engine = 0; engine < 2; engine++) {
            String key = key(engine, "called-");
            MessageOptions options = new MessageOptions().key(key);
            assertEquals(3, client.request("Counter", 3, Integer.class, options));
            assertEquals(7, client.request("Counter/" + key, 4));
            assertEquals(7, client.memory("Counter/" + key).get("total"));
            Chunks chunks = new Chunks();
            client.stream("Counter/" + key, 100, Integer.class, new MessageOptions().handler("count")).subscribe(chunks);
            assertEquals(IntStream.range(0, 100).boxed().toList(), chunks.all.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
            assertFalse(client.send("Counter/" + key, 1, new MessageOptions().id("m-" + key)).duplicate());
            assertTrue(client.send("Counter/" + key, 1, new MessageOptions().id("m-" + key)).duplicate());
        }
    }

    @Test
    void a_handler_reaches_instances_of_the_other_engine() {
        String there = key(1, "there-");
        MessageOptions options = new MessageOptions().handler("other");
        assertEquals(1, client.request("Counter/" + key(0, "here-"), there, Integer.class, options));
    }

    @Test
    void events_and_broadcasts_reach_the_instances_of_all() {
        for (int engine = 0; engine < 2; engine++) {
            String key = key(engine, "heard-");
            client.request("Counter/" + key, 0);
            assertEquals(1, client.publish("news.today", "hello", new EventOptions().key(key)).subscribers());
        }
        assertTrue(client.broadcast(Broadcast.Scope.agent("Counter"), 0, new MessageOptions()).succeeded() >= 2);
    }

    @Test
    void agents_that_join_later_join_all_of_them() {
        worker.host(List.of(Late.class), List.of());
        for (int engine = 0; engine < 2; engine++) {
            assertEquals("better than never", client.request("Late/" + key(engine, "late-"), null));
        }
    }

    @Agent(name = "Late")
    static class Late {
        @Handler
        String hello() {
            return "better than never";
        }
    }

    @Test
    void one_of_them_that_dies_takes_nothing_with_it_but_what_it_ran() throws Exception {
        List<ProcessHandle> processes =
                ProcessHandle.of(engines.pid()).orElseThrow().children().filter(ProcessHandle::isAlive).toList();
        List<CompletableFuture<Integer>> asked = new ArrayList<>();
        processes.get(0).destroyForcibly();
        for (int engine = 0; engine < 2; engine++) {
            String key = key(engine, "dies-");
            for (int number = 0; number < 20; number++) {
                MessageOptions options =
                        new MessageOptions().idempotencyKey(key + number).timeout(Duration.ofSeconds(60));
                asked.add(client.requestAsync("Counter/" + key, 1, Integer.class, options));
            }
        }
        List<Integer> outcomes = new ArrayList<>();
        for (CompletableFuture<Integer> one : asked) {
            outcomes.add(one.get(90, TimeUnit.SECONDS));
        }
        List<Integer> expected =
                IntStream.concat(IntStream.rangeClosed(1, 20), IntStream.rangeClosed(1, 20)).sorted().boxed().toList();
        assertEquals(expected, outcomes.stream().sorted().toList());
        until(() -> client.connected() && worker.connected(), "links to both");
    }
}
