package com.aimatrix.engine.testing;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.io.TempDir;

/** With the engine's program; `make java` names it. */
class EmbeddedEngineTest {
    /** The first connection of a JVM loads a great many classes: on a busy machine that takes long. */
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    @Agent(name = "Names")
    static class Names {
        @Memory(persistent = true)
        private final Set<String> seen = new HashSet<>();

        @Handler
        int add(String name) {
            seen.add(name);
            return seen.size();
        }
    }

    @Nested
    @EnabledIf(value = "com.aimatrix.engine.testing.EmbeddedEngine#available", disabledReason = "no engine")
    class WithAProgram {
        @Test
        void an_engine_that_is_killed_comes_back_with_what_it_stored_at_the_same_address() {
            List<String> said = new CopyOnWriteArrayList<>();
            try (EmbeddedEngine process = EmbeddedEngine.builder().onLine(said::add).start();
                    AmxEngine engine = process.client().withAgent(Names.class).build().start(PATIENCE)) {
                String address = process.address();
                long pid = process.pid();
                assertEquals(1, engine.request("Names", "Ada"));
                process.kill();
                assertFalse(process.running());
                process.restart();
                assertTrue(process.running());
                assertNotEquals(pid, process.pid());
                assertEquals(address, process.address());
                assertEquals(2, engine.request("Names", "Grace"));
                assertTrue(said.stream().anyMatch(line -> line.contains(address)), said::toString);
            }
        }

        @Test
        void an_engine_that_is_stopped_ends_well_and_a_closed_one_leaves_only_what_it_was_told_to(@TempDir Path data) {
            EmbeddedEngine process = EmbeddedEngine.builder().dataDir(data).start();
            assertFalse(process.httpAddress().isEmpty());
            assertEquals(0, process.stop());
            process.close();
            process.close();
            assertTrue(Files.exists(data.resolve("amx.db")));
            assertThrows(IllegalStateException.class, process::restart);
        }

        @Test
        void several_engines_share_an_address() {
            try (EmbeddedEngine process = EmbeddedEngine.builder().workers(2).start();
                    AmxEngine engine = process.client().build().start(PATIENCE)) {
                assertTrue(engine.started());
                process.restart();
                assertEquals(0, process.stop());
                assertTrue(process.output().contains("2 engines"), process::output);
            }
        }

        @Test
        void an_engine_that_refuses_its_configuration_is_reported_with_its_own_words() {
            IllegalStateException error =
                    assertThrows(
                            IllegalStateException.class,
                            EmbeddedEngine.builder().config("shutdown_deadline", "never")::start);
            assertTrue(error.getMessage().contains("shutdown_deadline"), error::getMessage);
        }
    }

    @Nested
    @WithEmbeddedEngine
    @EnabledIf(value = "com.aimatrix.engine.testing.EmbeddedEngine#available", disabledReason = "no engine")
    class Given {
        private static EmbeddedEngine seen;

        @Test
        void a_test_gets_the_engine_of_its_class(EmbeddedEngine process) {
            assertTrue(process.running());
            assertTrue(seen == null || seen == process);
            seen = process;
        }

        @Nested
        class Inside {
            @Test
            void and_so_does_one_of_a_class_in_it(EmbeddedEngine process) {
                assertTrue(process.running());
                assertTrue(seen == null || seen == process);
                seen = process;
            }
        }
    }

    @Test
    void a_program_that_is_not_there_is_named_with_what_to_do() {
        IllegalStateException error =
                assertThrows(IllegalStateException.class, EmbeddedEngine.builder().command("no-such-program")::start);
        assertTrue(error.getMessage().contains("no-such-program"), error::getMessage);
        assertTrue(error.getMessage().contains("AMX_COMMAND"), error::getMessage);
    }
}
