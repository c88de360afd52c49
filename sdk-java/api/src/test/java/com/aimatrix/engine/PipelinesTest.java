package com.aimatrix.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.DefinitionException;
import com.aimatrix.engine.errors.HandlerException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.spec.AgentInstance;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.v1.AgentKind;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;

class PipelinesTest {
    record Row(String name, int count) {}

    @Pipeline(name = "Import")
    static class Import {
        @Stage(order = 2)
        CompletableFuture<Integer> total(List<Row> rows) {
            return CompletableFuture.completedFuture(rows.stream().mapToInt(Row::count).sum());
        }

        @Stage(order = 1)
        List<Row> parse(PipelineContext context, List<Map<String, Object>> rows) {
            if (rows.isEmpty()) {
                throw new HandlerException("NO_ROWS", "nothing to do");
            }
            return rows.stream().map(row -> new Row((String) row.get("name"), (Integer) row.get("count"))).toList();
        }

        @Stage(order = 3)
        String tell(PipelineContext context, int total) {
            return context.results().keySet() + " " + total + " of " + ((List<?>) context.input()).size();
        }
    }

    @Pipeline
    static class Recovering {
        @Stage(order = 1, timeout = "20ms")
        void slow() throws InterruptedException {
            Thread.sleep(60_000);
        }

        @ErrorHandler
        String recover(PipelineContext context, Throwable error) {
            return context.currentStage() + ": " + ((AmxException) error).reason();
        }
    }

    @Pipeline
    static class Broken {
        @Stage(order = 1)
        void fails() {
            throw new IllegalStateException("oops");
        }
    }

    @Pipeline
    static class Twins {
        @Stage(order = 1)
        void one() {}

        @Stage(order = 1)
        void two() {}
    }

    private static Object run(Class<?> type, Object content) {
        AgentSpec spec = Agents.of(type);
        AgentInstance instance = spec.createInstance("k", () -> 0);
        com.aimatrix.engine.v1.Message message =
                com.aimatrix.engine.v1.Message.newBuilder().setPayload(Payloads.encode(Json.standard(), content)).build();
        HandlerSpec handler = spec.handlers().get("run");
        try {
            return handler.call(instance, handler.decode(message), new FakeRun(message, null));
        } catch (RuntimeException error) {
            throw error;
        } catch (Throwable error) {
            throw new AssertionError(error);
        }
    }

    @Test
    void stages_run_in_their_order_each_with_what_the_one_before_returned() {
        AgentSpec spec = Agents.of(Import.class);
        assertEquals(AgentKind.AGENT_KIND_PIPELINE, spec.definition().getKind());
        assertEquals("run", spec.definition().getDefaultHandler());
        assertTrue(spec.definition().getHandlers(0).getDescription().contains("parse, total, tell"));
        assertEquals(
                "[parse, total] 5 of 2", run(Import.class, List.of(new Row("a", 2), new Row("b", 3))));
    }

    @Test
    void a_stage_that_fails_ends_the_run_with_its_reason_and_place() {
        AmxException known = assertThrows(AmxException.class, () -> run(Import.class, List.of()));
        assertEquals("NO_ROWS", known.reason());
        assertEquals(Map.of("pipeline", "Import", "stage", "parse"), known.metadata());
        AmxException other = assertThrows(AmxException.class, () -> run(Broken.class, 1));
        assertEquals("PIPELINE_STAGE_FAILED", other.reason());
        assertTrue(other.retryable());
        assertEquals("oops", other.getCause().getMessage());
    }

    @Test
    void the_error_handler_answers_for_a_stage_that_takes_too_long() {
        assertEquals("slow: DEADLINE_EXCEEDED", run(Recovering.class, 1));
    }

    @Test
    void stages_with_one_order_are_refused() {
        assertTrue(
                assertThrows(DefinitionException.class, () -> Agents.of(Twins.class)).getMessage().contains("same order 1"));
    }
}
