package com.aimatrix.engine.it;

import static com.aimatrix.engine.it.Waiting.until;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.testing.EmbeddedEngine;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Starts and stops: again, at once, too early, for nothing. */
@Timeout(600)
class LifeTest {
    private final Session session = new Session();

    @Agent(name = "Echo")
    static class Echo {
        @Handler
        Object echo(Object content) {
            return content;
        }
    }

    @AfterEach
    void close() throws Exception {
        session.close();
    }

    private static List<String> threads() {
        return Thread.getAllStackTraces().keySet().stream()
                .map(Thread::getName)
                .filter(name -> name.startsWith("amx-link") || name.startsWith("amx-handler"))
                .toList();
    }

    @Test
    void it_may_be_started_again_and_leaves_no_threads_when_it_is_stopped() throws Exception {
        EmbeddedEngine engine = session.engine();
        AmxEngine again = AmxEngine.builder().withAddress(engine.address()).withAgent(Echo.class).build();
        for (int number = 0; number < 5; number++) {
            again.start(Duration.ofSeconds(Waiting.PATIENCE_S));
            assertEquals(number, again.request("Echo", number));
            again.stop();
            assertFalse(again.started());
        }
        until(() -> threads().isEmpty(), "the end of its threads");
    }

    @Test
    void a_start_that_fails_leaves_no_threads() throws Exception {
        for (int number = 0; number < 5; number++) {
            AmxEngine engine = AmxEngine.builder().withAddress("127.0.0.1:1").withAgent(Echo.class).build();
            assertThrows(AmxException.class, () -> engine.start(Duration.ZERO));
        }
        until(() -> threads().isEmpty(), "the end of its threads");
    }

    @Test
    void a_stop_ends_a_start_that_still_tries() throws Exception {
        AmxEngine engine = AmxEngine.builder().withAddress("127.0.0.1:1").build();
        CompletableFuture<AmxEngine> starting =
                CompletableFuture.supplyAsync(() -> engine.start(Duration.ofMinutes(10)));
        until(engine::started, "it tries");
        engine.stop();
        Exception failed = assertThrows(Exception.class, () -> starting.get(Waiting.PATIENCE_S, TimeUnit.SECONDS));
        assertEquals("SHUTTING_DOWN", ((AmxException) failed.getCause()).reason());
        until(() -> threads().isEmpty(), "the end of its threads");
    }

    @Test
    void several_stops_at_once_end_together() throws Exception {
        EmbeddedEngine engine = session.engine();
        AmxEngine worker = session.connected(engine.address(), Echo.class);
        List<CompletableFuture<Void>> stops =
                List.of(CompletableFuture.runAsync(worker::stop), CompletableFuture.runAsync(worker::stop));
        for (CompletableFuture<Void> stop : stops) {
            stop.get(Waiting.PATIENCE_S, TimeUnit.SECONDS);
        }
        assertFalse(worker.started());
    }
}
