package com.aimatrix.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.errors.AmxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

class AmxEngineTest {
    @Agent(name = "One")
    static class One {
        @Handler
        int run() {
            return 1;
        }
    }

    private static String reason(Runnable what) {
        return assertThrows(AmxException.class, what::run).reason();
    }

    @Test
    void two_agents_of_one_name_are_refused() {
        AmxEngineBuilder builder = AmxEngine.builder().withAgent(One.class);
        assertEquals("AGENT_TWICE", reason(() -> builder.withAgent(new One())));
        assertEquals("AGENT_TWICE", reason(() -> builder.withAgent(One.class, One::new)));
        assertEquals("NOT_AN_AGENT", reason(() -> builder.withAgent("text")));
    }

    @Test
    void settings_say_where_the_engine_is_and_what_the_builder_says_comes_first(@TempDir Path folder) throws Exception {
        Path file = folder.resolve("amx.json");
        Files.writeString(file, "{\"engine\": {\"address\": \"there:1\", \"concurrency\": 5}, \"mine\": {\"a\": 1}}");
        AmxEngine engine = AmxEngine.builder().withConfig(file).build();
        assertEquals("there:1", engine.address());
        assertEquals(Map.of("a", 1), engine.config().get("mine"));
        assertEquals("here:2", AmxEngine.builder().withConfig(file).withAddress("here:2").build().address());
        Files.writeString(file, "[1]");
        assertEquals("INVALID_CONFIG", reason(() -> AmxEngine.builder().withConfig(file)));
        assertEquals("INVALID_CONFIG", reason(() -> AmxEngine.builder().withConfig(folder.resolve("none.json"))));
        assertEquals(
                "INVALID_CONFIG",
                reason(() -> AmxEngine.builder().withConfig(Map.of("engine", Map.of("concurrency", "x"))).build()));
        assertEquals("INVALID_CONFIG", reason(() -> AmxEngine.builder().withConfig(Map.of("engine", 1)).build()));
        assertEquals("INVALID_CONFIG", reason(() -> AmxEngine.builder().withConcurrency(0)));
    }

    @Test
    void settings_may_be_yaml(@TempDir Path folder) throws Exception {
        Path file = folder.resolve("amx-config.yaml");
        Files.writeString(file, "# ours\nengine:\n  address: there:1\n  concurrency: 5\nmine: {list: [1, two]}\n");
        AmxEngine engine = AmxEngine.builder().withConfig(file.toString()).build();
        assertEquals("there:1", engine.address());
        assertEquals(Map.of("list", List.of(1, "two")), engine.config().get("mine"));
        Files.writeString(file, "# nothing is said\n");
        assertEquals("localhost:9090", AmxEngine.builder().withConfig(file).build().address());
        Files.writeString(file, "a: 1\na: 2\n");
        assertEquals("INVALID_CONFIG", reason(() -> AmxEngine.builder().withConfig(file)));
        Files.writeString(file, "a: !!java.net.URL [http://there]\n");
        assertEquals("INVALID_CONFIG", reason(() -> AmxEngine.builder().withConfig(file)));
    }

    @Test
    void what_is_not_started_says_so_and_what_cannot_be_reached_leaves_nothing_running() {
        AmxEngine engine = AmxEngine.builder().withAgent(One.class).withAddress("127.0.0.1:1").build();
        assertEquals("NOT_STARTED", reason(() -> engine.request("One", null)));
        AmxException error = assertThrows(AmxException.class, () -> engine.start(Duration.ZERO));
        assertEquals("ENGINE_UNREACHABLE", error.reason());
        assertTrue(error.getMessage().contains("refused"), error.getMessage());
        assertFalse(engine.started());
        engine.stop();
    }

    @Test
    @Timeout(60)
    void the_pool_makes_threads_up_to_its_bound_and_then_tasks_wait() throws Exception {
        ExecutorService pool = HandlerThreads.pool(3);
        Set<Thread> threads = ConcurrentHashMap.newKeySet();
        CountDownLatch busy = new CountDownLatch(3);
        CountDownLatch go = new CountDownLatch(1);
        CountDownLatch done = new CountDownLatch(10);
        for (int task = 0; task < 10; task++) {
            pool.execute(
                    () -> {
                        threads.add(Thread.currentThread());
                        busy.countDown();
                        try {
                            go.await();
                        } catch (InterruptedException error) {
                            Thread.currentThread().interrupt();
                        }
                        done.countDown();
                    });
        }
        busy.await();
        assertEquals(10, done.getCount());
        go.countDown();
        done.await();
        assertEquals(3, threads.size());
        pool.shutdown();
        assertTrue(pool.awaitTermination(30, TimeUnit.SECONDS));
    }
}
