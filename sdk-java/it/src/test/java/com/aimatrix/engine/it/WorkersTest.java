package com.aimatrix.engine.it;

import static com.aimatrix.engine.it.Waiting.until;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.testing.EmbeddedEngine;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Workers that are told to end, and workers that die. */
@Timeout(600)
class WorkersTest {
    private final Session session = new Session();

    @TempDir
    Path folder;

    @AfterEach
    void close() throws Exception {
        session.close();
    }

    private WorkerProcess worker(EmbeddedEngine engine, String... options) throws Exception {
        WorkerProcess worker = session.add(new WorkerProcess(engine.address(), options));
        worker.says("opened link");
        return worker;
    }

    private CompletableFuture<String> asked(AmxEngine client, Path file, MessageOptions options) {
        return client.requestAsync("Slow", file.toString(), String.class, options);
    }

    @Test
    void a_worker_that_is_told_to_end_lets_its_handlers_end_and_exits_with_0() throws Exception {
        EmbeddedEngine engine = session.engine();
        WorkerProcess worker = worker(engine);
        AmxEngine client = session.connected(engine.address());
        Path file = folder.resolve("go");
        CompletableFuture<String> asked = asked(client, file, new MessageOptions());
        until(() -> worker.said("begun 1"), "the handler runs");
        worker.terminate();
        until(() -> worker.said("told to end"), "the signal arrived");
        WorkerProcess next = worker(engine);
        // What comes now is the next one's: the other takes nothing any more.
        MessageOptions pid = new MessageOptions().handler("pid");
        long first = client.request("Slow/other", null, Long.class, pid);
        Files.createFile(file);
        assertEquals("attempt 1, run 1", asked.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        assertEquals(0, worker.ended(), () -> String.join("\n", worker.lines));
        assertTrue(worker.said("main has ended"), () -> String.join("\n", worker.lines));
        assertEquals(first, client.request("Slow/other", null, Long.class, pid));
        next.terminate();
        assertEquals(0, next.ended());
    }

    @Test
    void a_second_signal_ends_it_at_once() throws Exception {
        EmbeddedEngine engine = session.engine();
        WorkerProcess worker = worker(engine);
        AmxEngine client = session.connected(engine.address());
        asked(client, folder.resolve("never"), new MessageOptions());
        until(() -> worker.said("begun 1"), "the handler runs");
        worker.terminate();
        until(() -> worker.said("told to end"), "the signal arrived");
        worker.terminate();
        assertNotEquals(0, worker.ended());
    }

    @Test
    void a_worker_that_is_told_to_end_before_it_found_its_engine_does() throws Exception {
        WorkerProcess worker = session.add(new WorkerProcess("127.0.0.1:1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=debug"));
        until(() -> worker.said("connecting again"), "it tries");
        worker.terminate();
        assertEquals(0, worker.ended(), () -> String.join("\n", worker.lines));
    }

    @Test
    void what_a_killed_worker_ran_runs_again_at_another_and_from_the_memory_it_had() throws Exception {
        EmbeddedEngine engine =
                session.engine(EmbeddedEngine.builder().config("links", java.util.Map.of("resume_window", "500ms")));
        WorkerProcess worker = worker(engine);
        AmxEngine client = session.connected(engine.address());
        Path file = folder.resolve("go");
        CompletableFuture<String> asked = asked(client, file, new MessageOptions());
        until(() -> worker.said("begun 1"), "the handler runs");
        WorkerProcess next = worker(engine);
        worker.kill();
        until(() -> next.said("begun 2"), "it runs again");
        Files.createFile(file);
        assertEquals("attempt 2, run 1", asked.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
    }
}
