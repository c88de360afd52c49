package com.aimatrix.engine.testee;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.Agents;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.EventOptions;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.Missed;
import com.aimatrix.engine.Priority;
import com.aimatrix.engine.RequiresPermission;
import com.aimatrix.engine.Scheduled;
import com.aimatrix.engine.Subscribe;
import com.aimatrix.engine.Supervisor;
import com.aimatrix.engine.Timing;
import com.aimatrix.engine.errors.HandlerException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.memory.Memories;
import com.aimatrix.engine.memory.MemoryValue;
import com.aimatrix.engine.spec.AgentSpec;
import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import com.fasterxml.jackson.databind.JsonNode;
import java.math.BigDecimal;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;

/** The agents of conformance/README.md, "Fixtures", as applications write them. */
final class Annotated {
    private Annotated() {}

    static List<AgentSpec> all(String prefix) {
        List<AgentSpec> agents = new ArrayList<>();
        for (Class<?> type :
                List.of(
                        Echo.class, Counter.class, Scheduling.class, Overseer.class, Listener.class, Interpreter.class)) {
            agents.add(Agents.of(type, null, prefix, Json.standard()));
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
            Map<String, Object> said = new LinkedHashMap<>();
            said.put("agent", context.agent());
            said.put("key", context.key());
            said.put("handler", context.handler());
            said.put("type", context.message().type());
            said.put("headers", context.headers());
            said.put("source", context.message().source());
            said.put("sender", context.message().sender());
            said.put("priority", context.message().priority().name());
            said.put("message_id", context.message().id());
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
        void failAfterIncrement(int n) {
            total += n;
            throw new HandlerException("OOPS", "as asked");
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

    @Agent(groups = "conformance", labels = "tier=gold")
    static class Listener {
        @Memory(persistent = true)
        private final List<Object> seen = new ArrayList<>();

        @Handler(name = "on_event")
        @Subscribe(value = "conformance.events.*", filter = "level in (high, critical)")
        void onEvent(Object content) {
            if ("fail".equals(content)) {
                throw new HandlerException("REFUSED", "as asked");
            }
            seen.add(content);
        }

        @Handler(byDefault = true)
        List<Object> seen() {
            return seen;
        }
    }

    /** Does what it is told. Calls are not here yet. */
    @Agent(groups = "conformance", labels = "tier=gold", idleTimeout = "5m")
    static class Interpreter {
        @Memory(persistent = true)
        private final MemoryValue<Object> value = new MemoryValue<>(null);

        @Memory(persistent = true)
        private final Map<Object, Object> map = new HashMap<>();

        @Memory(persistent = true)
        private final Set<Object> set = new LinkedHashSet<>();

        @Memory(persistent = true)
        private final List<Object> list = new ArrayList<>();

        @Memory(ttl = "60s")
        private final Map<Object, Object> scratch = new HashMap<>();

        @Memory(persistent = true, maxEntries = 3)
        private final Map<Object, Object> bounded = new HashMap<>();

        private static final Object NOTHING = new Object();

        @Handler(byDefault = true)
        Object run(List<Map<String, Object>> operations, Context context) {
            List<Object> outcomes = new ArrayList<>();
            for (Map<String, Object> operation : operations) {
                if (operation.get("op").equals("return")) {
                    return operation.get("value");
                }
                Map<String, Object> outcome = new LinkedHashMap<>();
                Object ok = perform(operation, context);
                if (ok != NOTHING) {
                    outcome.put("ok", ok);
                }
                outcomes.add(outcome);
            }
            return outcomes;
        }

        @Handler(concurrent = true)
        Object concurrent(List<Map<String, Object>> operations, Context context) {
            return run(operations, context);
        }

        @Handler
        Stream<Object> stream(List<Map<String, Object>> operations, Context context) {
            return operations.stream()
                    .flatMap(
                            operation -> {
                                if (operation.get("op").equals("yield")) {
                                    return Stream.of(new Object[] {operation.get("value")});
                                }
                                perform(operation, context);
                                return Stream.empty();
                            });
        }

        private Object perform(Map<String, Object> operation, Context context) {
            String op = (String) operation.get("op");
            switch (op) {
                case "raise" -> {
                    if (operation.get("reason") instanceof String reason) {
                        throw new HandlerException(reason, String.valueOf(operation.get("message")));
                    }
                    throw new IllegalStateException(String.valueOf(operation.get("message")));
                }
                case "wait" -> {
                    return Fixtures.await(context::onStop).join();
                }
                case "context" -> {
                    Map<String, Object> said = new LinkedHashMap<>();
                    said.put("agent", context.agent());
                    said.put("key", context.key());
                    said.put("handler", context.handler());
                    said.put("attempt", context.attempt());
                    said.put("message_id", context.message().id());
                    said.put("has_deadline", context.deadline().isPresent());
                    said.put("sender", context.message().sender());
                    return said;
                }
                case "send" -> context.send(
                        (String) operation.get("agent"), operation.get("payload"), options(operation));
                case "publish" -> context.publish(
                        (String) operation.get("topic"), operation.get("payload"), event(operation));
                case "schedule" -> context.schedule(
                        (String) operation.get("name"),
                        (String) operation.get("handler"),
                        timing(operation),
                        operation.get("payload"));
                case "unschedule" -> context.unschedule((String) operation.get("name"));
                default -> {
                    return remember(op, operation);
                }
            }
            return NOTHING;
        }

        private static Timing timing(Map<String, Object> operation) {
            if (operation.get("every_ms") instanceof Integer millis) {
                return Timing.fixedRate(Duration.ofMillis(millis));
            }
            if (operation.get("delay_ms") instanceof Integer millis) {
                return Timing.fixedDelay(Duration.ofMillis(millis));
            }
            if (operation.get("cron") instanceof String cron) {
                return Timing.cron(cron, "");
            }
            return Timing.after(Duration.ofMillis((Integer) operation.get("after_ms")));
        }

        private static MessageOptions options(Map<String, Object> operation) {
            MessageOptions options = new MessageOptions();
            if (operation.get("key") instanceof String key) {
                options.key(key);
            }
            if (operation.get("handler") instanceof String handler) {
                options.handler(handler);
            }
            if (operation.get("type") instanceof String type) {
                options.type(type);
            }
            if (operation.get("headers") instanceof Map<?, ?> headers) {
                options.headers(texts(headers));
            }
            if (operation.get("priority") instanceof String priority) {
                options.priority(Priority.valueOf(priority));
            }
            if (operation.get("source") instanceof String source) {
                options.source(source);
            }
            if (operation.get("message_id") instanceof String id) {
                options.id(id);
            }
            if (operation.get("idempotency_key") instanceof String key) {
                options.idempotencyKey(key);
            }
            if (operation.get("ttl_ms") instanceof Integer millis) {
                options.ttl(Duration.ofMillis(millis));
            }
            if (operation.get("delay_ms") instanceof Integer millis) {
                options.delay(Duration.ofMillis(millis));
            }
            if (operation.get("durable") instanceof Boolean durable) {
                options.durable(durable);
            }
            return options;
        }

        private static EventOptions event(Map<String, Object> operation) {
            EventOptions options = new EventOptions();
            if (operation.get("attributes") instanceof Map<?, ?> attributes) {
                options.attributes(texts(attributes));
            }
            if (operation.get("key") instanceof String key) {
                options.key(key);
            }
            if (operation.get("event_id") instanceof String id) {
                options.id(id);
            }
            if (operation.get("durable") instanceof Boolean durable) {
                options.durable(durable);
            }
            return options;
        }

        private static Map<String, String> texts(Map<?, ?> values) {
            Map<String, String> texts = new LinkedHashMap<>();
            values.forEach((name, value) -> texts.put(String.valueOf(name), String.valueOf(value)));
            return texts;
        }

        private Object remember(String op, Map<String, Object> operation) {
            Object key = operation.get("key");
            Object item = operation.get("value");
            String name = (String) operation.get("memory");
            switch (name) {
                case "value" -> {
                    switch (op) {
                        case "get", "all" -> {
                            return value.get() == null ? NOTHING : value.get();
                        }
                        case "put" -> value.set(item);
                        case "expire" -> value.expire(Duration.ofMillis((Integer) operation.get("after_ms")));
                        default -> value.set(null);
                    }
                }
                case "set" -> {
                    switch (op) {
                        case "get" -> {
                            return set.contains(item);
                        }
                        case "add" -> set.add(item);
                        case "remove" -> set.remove(item);
                        case "clear" -> set.clear();
                        case "length" -> {
                            return set.size();
                        }
                        case "expire" -> Memories.expire(
                                set, item == null ? key : item, Duration.ofMillis((Integer) operation.get("after_ms")));
                        default -> {
                            return new ArrayList<>(set);
                        }
                    }
                }
                case "list" -> {
                    int index = key instanceof Integer number ? number : -1;
                    boolean there = index >= 0 && index < list.size();
                    switch (op) {
                        case "get" -> {
                            return there ? list.get(index) : NOTHING;
                        }
                        case "put" -> list.set(index, item);
                        case "append" -> list.add(item);
                        case "remove" -> {
                            if (there) {
                                list.remove(index);
                            }
                        }
                        case "clear" -> list.clear();
                        case "length" -> {
                            return list.size();
                        }
                        case "expire" -> Memories.expire(
                                list, index, Duration.ofMillis((Integer) operation.get("after_ms")));
                        default -> {
                            return new ArrayList<>(list);
                        }
                    }
                }
                default -> {
                    Map<Object, Object> one = name.equals("map") ? map : name.equals("scratch") ? scratch : bounded;
                    switch (op) {
                        case "get" -> {
                            return one.containsKey(key) ? one.get(key) : NOTHING;
                        }
                        case "put" -> one.put(key, item);
                        case "remove" -> one.remove(key);
                        case "clear" -> one.clear();
                        case "length" -> {
                            return one.size();
                        }
                        case "expire" -> Memories.expire(
                                one, key, Duration.ofMillis((Integer) operation.get("after_ms")));
                        default -> {
                            List<Object> pairs = new ArrayList<>();
                            one.forEach((its, held) -> {
                                List<Object> pair = new ArrayList<>();
                                pair.add(its);
                                pair.add(held);
                                pairs.add(pair);
                            });
                            return pairs;
                        }
                    }
                }
            }
            return NOTHING;
        }
    }
}
