package com.aimatrix.engine.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.testing.EmbeddedEngine;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Handlers on virtual threads: on the JVM of the tests if it has them (21 and later), else on that whose home
 * AMX_TEST_JAVA names; skipped where there is none.
 */
@Timeout(600)
class VirtualThreadsTest {
    private static final int PARTIES = 1000;

    private final Session session = new Session();

    @AfterEach
    void close() throws Exception {
        session.close();
    }

    private static Path home() {
        if (Runtime.version().feature() >= 21) {
            return Path.of(System.getProperty("java.home"));
        }
        String named = System.getenv("AMX_TEST_JAVA");
        assumeTrue(named != null, "no JVM with virtual threads; AMX_TEST_JAVA names the home of one (21 or later)");
        Path home = Path.of(named);
        assertTrue(Files.isExecutable(home.resolve("bin").resolve("java")), "there is no bin/java in " + named);
        return home;
    }

    private static List<String> met(AmxEngine client, int parties) throws Exception {
        List<CompletableFuture<String>> asked = new ArrayList<>();
        for (int key = 0; key < parties; key++) {
            asked.add(
                    client.requestAsync(
                            "Crowd/" + key, parties, String.class, new MessageOptions().timeout(Duration.ofSeconds(90))));
        }
        List<String> threads = new ArrayList<>();
        for (CompletableFuture<String> one : asked) {
            threads.add(one.get(90, TimeUnit.SECONDS));
        }
        return threads;
    }

    @Test
    void a_thousand_handlers_block_at_a_time_on_virtual_threads() throws Exception {
        Path home = home();
        EmbeddedEngine engine = session.engine();
        WorkerProcess worker = session.add(new WorkerProcess(home, engine.address()));
        worker.says("opened link");
        List<String> threads = met(session.connected(engine.address()), PARTIES);
        assertTrue(threads.stream().allMatch(one -> one.startsWith("VirtualThread[")), threads.get(0));
        worker.terminate();
        assertEquals(0, worker.ended());
    }

    @Test
    void hundreds_block_at_a_time_on_the_threads_of_a_pool_where_there_are_no_virtual_ones() throws Exception {
        assumeTrue(Runtime.version().feature() < 21, "this JVM has virtual threads");
        EmbeddedEngine engine = session.engine();
        WorkerProcess worker = session.add(new WorkerProcess(engine.address()));
        worker.says("opened link");
        Set<String> threads = new HashSet<>(met(session.connected(engine.address()), PARTIES / 5));
        assertEquals(PARTIES / 5, threads.size());
        assertTrue(threads.stream().allMatch(one -> one.contains("amx-handler")), threads.toString());
    }
}
