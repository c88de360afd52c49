package com.aimatrix.engine.testee;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AgentReference;
import com.aimatrix.engine.Agents;
import com.aimatrix.engine.BaseMessageRouter;
import com.aimatrix.engine.BasePerformanceMonitor;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.Execution;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import com.aimatrix.engine.Message;
import com.aimatrix.engine.MessageRouter;
import com.aimatrix.engine.Missed;
import com.aimatrix.engine.PerformanceMonitor;
import com.aimatrix.engine.ProcessingResult;
import com.aimatrix.engine.RequiresPermission;
import com.aimatrix.engine.Scheduled;
import com.aimatrix.engine.Subscribe;
import com.aimatrix.engine.Supervisor;
import com.aimatrix.engine.errors.HandlerException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.spec.AgentSpec;
import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import com.fasterxml.jackson.databind.JsonNode;
import java.math.BigDecimal;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.IntStream;

/** The agents of conformance/README.md, "Fixtures", as applications write them. */
final class Fixtures {
    private Fixtures() {}

    static Map<String, AgentSpec> all(String prefix) {
        Map<String, AgentSpec> agents = new LinkedHashMap<>();
        for (Class<?> type :
                List.of(
                        Echo.class,
                        Counter.class,
                        Failing.class,
                        Slow.class,
                        Stream.class,
                        Blocking.class,
                        Scheduling.class,
                        Overseer.class,
                        Router.class,
                        Monitor.class,
                        Listener.class,
                        Interpreter.class)) {
            AgentSpec agent = Agents.of(type, null, prefix, Json.standard());
            agents.put(agent.definition().getName().substring(prefix.length()), agent);
        }
        return agents;
    }

    enum Color {
        RED,
        GREEN,
        BLUE
    }

    record Nested(String name, Integer depth) {}

    @JsonPropertyOrder({"text", "flag"})
    record Typed(
            String text,
            Boolean flag,
            Integer small,
            Long large,
            Double ratio,
            BigDecimal amount,
            byte[] data,
            Instant at,
            LocalDate on,
            Duration lasting,
            Color color,
            List<String> tags,
            Map<String, Integer> scores,
            Nested nested,
            Optional<String> maybe) {}

    @Agent
    static class Echo {
        @Handler(byDefault = true)
        JsonNode echo(JsonNode content) {
            return content;
        }

        @Handler
        Typed typed(Typed content) {
            return content;
        }

        @Handler
        Map<String, Object> describe(JsonNode content, Context context) {
            Message message = context.message();
            Map<String, Object> said = new LinkedHashMap<>();
            said.put("agent", context.agent());
            said.put("key", context.key());
            said.put("handler", context.handler());
            said.put("type", message.type());
            said.put("headers", context.headers());
            said.put("source", message.source());
            said.put("sender", message.sender());
            said.put("priority", message.priority().name());
            said.put("message_id", message.id());
            said.put("attempt", context.attempt());
            said.put("traceparent", context.traceparent());
            said.put("content", content);
            return said;
        }

        @Handler
        void nothing() {}

        @Handler
        @RequiresPermission("conformance.guard")
        String guarded() {
            return "open";
        }
    }

    @Agent
    static class Counter {
        @Memory(persistent = true)
        private int total;

        @Handler
        int increment(Optional<Integer> n) {
            total += n.orElse(1);
            return total;
        }

        @Handler(byDefault = true)
        int total() {
            return total;
        }

        @Handler(name = "fail_after_increment")
        void failAfterIncrement(Optional<Integer> n) {
            total += n.orElse(1);
            throw new HandlerException("OOPS", "failed after the increment, as it was asked to");
        }
    }

    @Agent
    static class Failing {
        record Result(String status, Object data, String message, Map<String, Object> metadata) {}

        @Handler(byDefault = true)
        void fail(Map<String, Object> what) {
            throw Errors.thrown(what);
        }

        @Handler
        ProcessingResult result(Result what) {
            return new ProcessingResult(
                    ProcessingResult.Status.valueOf(what.status().toUpperCase(Locale.ROOT)),
                    what.data(),
                    what.message() == null ? "" : what.message(),
                    what.metadata() == null ? Map.of() : what.metadata());
        }
    }

    @Agent
    static class Slow {
        @Handler(name = "wait", byDefault = true)
        String await(Context context) {
            return Waiting.here(context);
        }

        @Handler(concurrent = true)
        String hold(Context context) {
            return Waiting.here(context);
        }

        @Handler(concurrent = true)
        int release() {
            return Waiting.release();
        }

        @Handler(concurrent = true)
        int cancelled() {
            return Waiting.cancelled();
        }
    }

    @Agent
    static class Stream {
        record Count(int to, Integer fail_at) {}

        @Handler(byDefault = true)
        java.util.stream.Stream<Integer> count(Count asked) {
            return IntStream.range(0, asked.to())
                    .mapToObj(
                            i -> {
                                if (asked.fail_at() != null && i == asked.fail_at()) {
                                    throw new HandlerException(
                                            "BROKEN", "failed in place of chunk " + i + ", as it was asked to");
                                }
                                return i;
                            });
        }

        @Handler
        java.util.stream.Stream<Integer> endless() {
            return java.util.stream.Stream.iterate(0, i -> i + 1);
        }
    }

    @Agent
    static class Blocking {
        record Pause(long ms) {}

        @Handler(byDefault = true, execution = Execution.THREAD)
        String block(Pause pause) throws InterruptedException {
            Thread.sleep(pause.ms());
            return "done";
        }

        @Handler(name = "block_process", execution = Execution.PROCESS)
        String blockProcess(Pause pause) throws InterruptedException {
            Thread.sleep(pause.ms());
            return "done";
        }
    }

    @Agent(name = "Scheduled")
    static class Scheduling {
        @Memory(persistent = true)
        private int ticks;

        @Scheduled(name = "every-minute", fixedRate = "60s")
        @Scheduled(name = "after-rest", fixedDelay = "30s", initialDelay = "5s")
        @Scheduled(name = "mornings", cron = "0 30 6 * * MON-FRI", zone = "Europe/Berlin", missed = Missed.SKIP)
        int tick() {
            return ++ticks;
        }

        @Handler(byDefault = true)
        int ticks() {
            return ticks;
        }
    }

    @Agent
    @Supervisor(
            strategy = Supervisor.Strategy.REST_FOR_ONE,
            maxRestarts = 5,
            within = "10s",
            maxBackoff = "2s",
            children = {
                @Supervisor.Child(agent = "Ward"),
                @Supervisor.Child(
                        agent = "Orderly",
                        key = "*",
                        restart = Supervisor.Restart.TRANSIENT,
                        onRestart = "report"),
                @Supervisor.Child(agent = "Visitor", key = "guest", restart = Supervisor.Restart.TEMPORARY)
            })
    static class Overseer {
        @Handler(byDefault = true)
        String watch() {
            return "watching";
        }
    }

    @MessageRouter(order = 10)
    static class Router extends BaseMessageRouter {
        record Where(String agent, String key, String handler) {}

        @Override
        public AgentReference route(Message message) {
            if (!message.type().equals("conformance.route")) {
                return null;
            }
            Where where = message.content(Where.class);
            return findAgent(
                    where.agent(),
                    where.key() == null ? "" : where.key(),
                    where.handler() == null ? "" : where.handler());
        }
    }

    @PerformanceMonitor
    static class Monitor extends BasePerformanceMonitor {
        static final List<List<String>> OBSERVED = new CopyOnWriteArrayList<>();

        @Override
        public void onMessageProcessed(String agentName, Message message, ProcessingResult result, Duration duration) {
            if (agentName.endsWith("Echo")) {
                String status = result.status().name().toLowerCase(Locale.ROOT);
                OBSERVED.add(List.of(agentName, message.handler(), status));
            }
        }
    }

    @Agent(groups = "conformance", labels = "tier=gold")
    static class Listener {
        @Memory(persistent = true)
        private final List<Object> seen = new ArrayList<>();

        @Handler(name = "on_event")
        @Subscribe(value = "conformance.events.*", filter = "level in (high, critical)")
        void onEvent(Object content) {
            if ("fail".equals(content)) {
                throw new HandlerException("REFUSED", "refused, as it was asked to");
            }
            seen.add(content);
        }

        @Handler(byDefault = true)
        List<Object> seen() {
            return seen;
        }

        @Handler
        List<List<String>> observed() {
            return Monitor.OBSERVED;
        }
    }
}
