package com.aimatrix.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.DefinitionException;
import com.aimatrix.engine.errors.HandlerException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.memory.MemoryValue;
import com.aimatrix.engine.spec.AgentInstance;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.v1.AgentDefinition;
import com.aimatrix.engine.v1.AgentKind;
import com.aimatrix.engine.v1.HandlerDefinition;
import com.aimatrix.engine.v1.MemoryKind;
import com.aimatrix.engine.v1.MissedRuns;
import com.aimatrix.engine.v1.Payload;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.Flow;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

class AgentsTest {
    private static final Json JSON = Json.standard();

    record Order(String id, int amount, Optional<String> note) {}

    static class Shared implements AutoCloseable {
        int closed;

        @Override
        public void close() {
            closed++;
        }
    }

    static class Base {
        @Handler(name = "inherited")
        String whoever(Context context) {
            return context.agent() + "/" + context.key();
        }
    }

    @Agent(
            name = "Shop",
            version = "2.1.0",
            description = "Sells.",
            groups = "g",
            labels = {"tier=gold"},
            idleTimeout = "5m",
            mailboxCapacity = 10)
    @RequiresPermission("shop:use")
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
                        onRestart = "report")
            })
    static class Shop extends Base {
        @Memory(persistent = true, ttl = "7d", maxEntries = 100)
        private final Map<String, Order> orders = new HashMap<>();

        @Memory private final ConcurrentMap<String, List<String>> lists = new ConcurrentHashMap<>();
        @Memory private final Set<Integer> numbers = new LinkedHashSet<>();
        @Memory private final List<Order> history = new ArrayList<>();
        @Memory(persistent = true) private final MemoryValue<Long> total = new MemoryValue<>(0L);
        @Memory(persistent = true) private int count = 3;
        @Capability private final Shared index = new Shared();

        @Handler(
                byDefault = true,
                description = "Takes an order.",
                messageTypes = {"order"},
                timeout = "30s",
                durability = Durability.DURABLE,
                retry = @Retry(attempts = 3, initial = "100ms", multiplier = 2, never = "SOLD_OUT"),
                circuitBreaker = @CircuitBreaker(failures = 4, rest = "1m"),
                permissions = "shop:order",
                execution = Execution.THREAD)
        ProcessingResult order(Order order, Context context) {
            orders.put(order.id(), order);
            history.add(order);
            numbers.add(order.amount());
            lists.computeIfAbsent("ids", name -> new ArrayList<>()).add(order.id());
            total.update(sum -> sum + order.amount());
            count++;
            context.send("Stock/main", order, new MessageOptions().type("taken"));
            context.publish("orders.created", Map.of("id", order.id()), new EventOptions().durable(true));
            context.schedule("remind", "tick", Timing.after(Duration.ofSeconds(5)), null);
            return ProcessingResult.success(orders.size());
        }

        @Handler
        int add(int left, int right) {
            return left + right;
        }

        @Handler(concurrent = true)
        CompletableFuture<List<Long>> later(Message message) {
            return CompletableFuture.completedFuture(List.of((long) message.headers().size()));
        }

        @Handler
        Stream<Integer> count(Integer to) {
            return IntStream.range(0, to).boxed();
        }

        @Handler
        Flow.Publisher<String> flow() {
            return null;
        }

        @Handler
        Object echo(Object content) {
            return content;
        }

        @Handler
        void fails(Optional<String> reason) throws Exception {
            Context.current().expire("count", Duration.ofSeconds(1));
            if (reason.isPresent()) {
                throw new HandlerException(reason.get(), "as asked");
            }
            throw new java.io.IOException("checked");
        }

        @Scheduled(fixedRate = "60s", name = "every-minute")
        @Scheduled(cron = "0 30 6 * * MON-FRI", zone = "Europe/Berlin", missed = Missed.SKIP, key = "b")
        void tick() {}

        @Subscribe(value = {"orders.*", "carts.*"}, filter = "level in (high)")
        void seen(Order order) {}
    }

    private final AgentSpec spec = Agents.of(Shop.class);
    private double now;
    private final AgentInstance instance = instance(spec);

    private AgentInstance instance(AgentSpec of) {
        AgentInstance made = of.createInstance("k", () -> now);
        if (made.memory() != null) {
            made.memory().load(List.of(), 0);
        }
        return made;
    }

    private static com.aimatrix.engine.v1.Message message(String handler, String json) {
        com.aimatrix.engine.v1.Message.Builder message =
                com.aimatrix.engine.v1.Message.newBuilder().setHandler(handler).putHeaders("h", "1");
        if (json != null) {
            message.setPayload(Payload.newBuilder().setData(com.google.protobuf.ByteString.copyFromUtf8(json)));
        }
        return message.build();
    }

    private final List<FakeRun> runs = new ArrayList<>();

    private Object call(AgentSpec of, AgentInstance on, String handler, String json) {
        com.aimatrix.engine.v1.Message message = message(handler, json);
        FakeRun run = new FakeRun(message, null);
        runs.add(run);
        HandlerSpec its = of.handlers().get(handler);
        try {
            return its.call(on, its.decode(message), run);
        } catch (RuntimeException error) {
            throw error;
        } catch (Throwable error) {
            throw new AssertionError(error);
        }
    }

    private String reply(String handler, String json) {
        return spec.handlers().get(handler).encode(call(spec, instance, handler, json)).getData().toStringUtf8();
    }

    private static HandlerDefinition handler(AgentDefinition definition, String name) {
        return definition.getHandlersList().stream().filter(one -> one.getName().equals(name)).findFirst().orElseThrow();
    }

    @Test
    void the_definition_says_what_the_annotations_say() {
        AgentDefinition definition = spec.definition();
        assertEquals("Shop", definition.getName());
        assertEquals("2.1.0", definition.getVersion());
        assertEquals(AgentKind.AGENT_KIND_AGENT, definition.getKind());
        assertEquals(List.of("g"), definition.getGroupsList());
        assertEquals(Map.of("tier", "gold"), definition.getLabelsMap());
        assertEquals(300_000, definition.getIdleTimeoutMs());
        assertEquals(List.of("index"), definition.getCapabilitiesList());
        assertEquals("order", definition.getDefaultHandler());
        assertEquals(2, definition.getSupervisor().getChildrenCount());
        assertEquals(10_000, definition.getSupervisor().getWithinMs());
        assertEquals("report", definition.getSupervisor().getChildren(1).getOnRestart());
        HandlerDefinition order = handler(definition, "order");
        assertEquals(List.of("shop:use", "shop:order"), order.getPermissionsList());
        assertEquals(List.of("order"), order.getMessageTypesList());
        assertEquals(30_000, order.getTimeoutMs());
        assertEquals(3, order.getRetry().getMaxAttempts());
        assertEquals(60_000, order.getCircuitBreaker().getOpenMs());
        assertEquals(2, order.getExecutionValue());
        assertEquals(
                "{\"type\":\"object\",\"required\":[\"amount\"],\"properties\":{\"id\":{\"type\":\"string\"},"
                        + "\"amount\":{\"type\":\"integer\"},\"note\":{\"anyOf\":[{\"type\":\"string\"},"
                        + "{\"type\":\"null\"}]}}}",
                order.getInputSchema());
        assertEquals(
                "{\"type\":\"object\",\"properties\":{\"left\":{\"type\":\"integer\"},\"right\":{\"type\":\"integer\"}},"
                        + "\"required\":[\"left\",\"right\"]}",
                handler(definition, "add").getInputSchema());
        assertEquals("{\"type\":\"integer\"}", handler(definition, "count").getOutputSchema());
        assertTrue(handler(definition, "count").getStreaming());
        assertTrue(handler(definition, "flow").getStreaming());
        assertTrue(handler(definition, "later").getConcurrent());
        assertEquals(
                "{\"type\":\"array\",\"items\":{\"type\":[\"integer\",\"string\"],\"format\":\"int64\","
                        + "\"pattern\":\"^-?[0-9]+$\"}}",
                handler(definition, "later").getOutputSchema());
        assertEquals("", handler(definition, "echo").getInputSchema());
        assertEquals(2, handler(definition, "seen").getSubscriptionsCount());
        assertEquals("level in (high)", handler(definition, "seen").getSubscriptions(1).getFilter());
        assertEquals(60_000, definition.getSchedules(0).getFixedRateMs());
        assertEquals("every-minute", definition.getSchedules(0).getName());
        assertEquals(MissedRuns.MISSED_RUNS_SKIP, definition.getSchedules(1).getMissed());
        assertEquals("Europe/Berlin", definition.getSchedules(1).getTimeZone());
        assertEquals("tick", definition.getSchedules(1).getHandler());
        Map<String, MemoryKind> kinds = new HashMap<>();
        definition.getMemoriesList().forEach(one -> kinds.put(one.getName(), one.getKind()));
        assertEquals(
                Map.of(
                        "orders", MemoryKind.MEMORY_KIND_MAP,
                        "lists", MemoryKind.MEMORY_KIND_MAP,
                        "numbers", MemoryKind.MEMORY_KIND_SET,
                        "history", MemoryKind.MEMORY_KIND_LIST,
                        "total", MemoryKind.MEMORY_KIND_VALUE,
                        "count", MemoryKind.MEMORY_KIND_VALUE),
                kinds);
        assertEquals(604_800_000, definition.getMemories(0).getTtlMs());
    }

    @Test
    void a_handler_gets_its_content_remembers_and_stages() {
        Object result = call(spec, instance, "order", "{\"id\": \"a\", \"amount\": 5, \"more\": 1}");
        assertEquals(ProcessingResult.success(1), result);
        assertEquals(Payloads.RESULT_TYPE, spec.handlers().get("order").encode(result).getContentType());
        assertTrue(instance.memory().changed());
        assertEquals(6, instance.memory().collect().size());
        assertEquals("Stock", runs.get(0).effects.getMessages(0).getAgent());
        assertEquals("main", runs.get(0).effects.getMessages(0).getKey());
        assertEquals("taken", runs.get(0).effects.getMessages(0).getType());
        assertEquals("orders.created", runs.get(0).effects.getEvents(0).getTopic());
        assertEquals(5000, runs.get(0).effects.getSchedules(0).getOnceAfterMs());
        call(spec, instance, "order", "{\"id\": \"b\", \"amount\": 7}");
        instance.memory().rollback();
        assertFalse(instance.memory().changed());
        assertEquals(ProcessingResult.success(1), call(spec, instance, "order", "{\"id\": \"a\", \"amount\": 5}"));
    }

    @Test
    void parameters_are_filled_by_what_they_are() {
        assertEquals("7", reply("add", "{\"left\": 3, \"right\": 4}"));
        assertEquals("[1]", spec.handlers().get("later").encode(
                ((CompletableFuture<?>) call(spec, instance, "later", null)).join()).getData().toStringUtf8());
        assertEquals("\"Tested/k\"", reply("inherited", "\"ignored\""));
        assertEquals("{\"b\":[1.0,null]}", reply("echo", "{\"b\": [1.0, null]}"));
        assertEquals(Payload.getDefaultInstance(), spec.handlers().get("echo").encode(call(spec, instance, "echo", null)));
        assertInstanceOf(Stream.class, call(spec, instance, "count", "3"));
        assertEquals("2", spec.handlers().get("count").encodeChunk(2).getData().toStringUtf8());
    }

    @Test
    void what_does_not_fit_is_refused_with_handler_and_field() {
        AmxException misfit =
                assertThrows(AmxException.class, () -> call(spec, instance, "order", "{\"amount\": \"many\"}"));
        assertEquals("INVALID_INPUT", misfit.reason());
        assertEquals(Map.of("handler", "order", "field", "amount"), misfit.metadata());
        assertEquals("INVALID_INPUT", assertThrows(
                AmxException.class, () -> call(spec, instance, "add", "{\"left\": 1}")).reason());
        assertEquals("right", assertThrows(
                AmxException.class, () -> call(spec, instance, "add", "{\"left\": 1}")).metadata().get("field"));
        assertEquals("INVALID_INPUT", assertThrows(
                AmxException.class, () -> call(spec, instance, "add", "[1]")).reason());
        assertEquals("INVALID_VALUE", assertThrows(
                AmxException.class, () -> call(spec, instance, "order", "{")).reason());
        AmxException output = assertThrows(
                AmxException.class, () -> spec.handlers().get("echo").encode(List.of(Double.NaN)));
        assertEquals("INVALID_OUTPUT", output.reason());
        assertEquals("[0]", output.metadata().get("field"));
    }

    @Test
    void what_a_handler_throws_is_thrown_as_it_is() throws Throwable {
        assertEquals("SOLD_OUT", assertThrows(
                HandlerException.class, () -> call(spec, instance, "fails", "\"SOLD_OUT\"")).reason());
        com.aimatrix.engine.v1.Message message = message("fails", null);
        HandlerSpec fails = spec.handlers().get("fails");
        assertThrows(
                java.io.IOException.class,
                () -> fails.call(instance, fails.decode(message), new FakeRun(message, null)));
        assertEquals("NO_CONTEXT", assertThrows(AmxException.class, Context::current).reason());
    }

    @Test
    void a_context_that_outlives_its_handler_refuses() {
        FakeRun run = new FakeRun(message("x", null), null);
        Context context = new Context(run, JSON, Message.received(JSON, run.message), null);
        run.ended = true;
        assertEquals("NO_CONTEXT", assertThrows(AmxException.class, () -> context.send("A", 1)).reason());
        assertEquals("NO_CONTEXT", assertThrows(AmxException.class, () -> context.request("A", 1)).reason());
    }

    @Test
    void capabilities_are_shared_and_closed_at_the_end() {
        CompiledAgent.Instance first = (CompiledAgent.Instance) instance(spec);
        CompiledAgent.Instance second = (CompiledAgent.Instance) instance(spec);
        Shared shared = ((Shop) first.self()).index;
        assertSame(shared, ((Shop) second.self()).index);
        assertEquals(0, shared.closed);
        spec.close();
        assertEquals(1, shared.closed);
    }

    @Agent
    static class Greeter {
        private final String greeting;
        @Memory private final List<String> seen;
        private int own;

        Greeter(String greeting, List<String> seen) {
            this.greeting = greeting;
            this.seen = seen;
        }

        @Handler
        String greet(String name) {
            own++;
            seen.add(name);
            return greeting + " " + name + " " + own + " " + seen;
        }
    }

    @Test
    void of_an_object_each_instance_gets_a_copy_with_memories_of_its_own() {
        Greeter prototype = new Greeter("hello", new ArrayList<>(List.of("first")));
        AgentSpec greeter = Agents.of(prototype);
        AgentInstance one = instance(greeter);
        AgentInstance two = instance(greeter);
        assertEquals("hello a 1 [first, a]", call(greeter, one, "greet", "\"a\""));
        assertEquals("hello b 2 [first, a, b]", call(greeter, one, "greet", "\"b\""));
        assertEquals("hello c 1 [first, c]", call(greeter, two, "greet", "\"c\""));
        assertEquals("hello d 1 [first, d]", prototype.greet("d"));
        assertEquals("greet", greeter.definition().getDefaultHandler());
        assertEquals("Greeter", greeter.definition().getName());
        AgentSpec supplied = Agents.of(Greeter.class, () -> new Greeter("hi", new ArrayList<>()), "x.", JSON);
        assertEquals("hi e 1 [e]", call(supplied, instance(supplied), "greet", "\"e\""));
        assertEquals("x.Greeter", supplied.definition().getName());
    }

    @MessageRouter(order = 10)
    static class Router extends BaseMessageRouter {
        @Override
        public AgentReference route(Message message) {
            return message.priority() == Priority.HIGH ? findAgent("Fast", "k", String.valueOf(message.content())) : null;
        }
    }

    @PerformanceMonitor(name = "Watch")
    static class Watch extends BasePerformanceMonitor {
        @Override
        public void onMessageProcessed(String agentName, Message message, ProcessingResult result, Duration duration) {
            metrics().recordProcessingTime(agentName, duration);
            if (!result.isSuccess()) {
                metrics().incrementErrorCount(agentName, result.errorType());
            }
            alerts().sendSlowProcessingAlert(agentName, message, duration);
        }
    }

    @Test
    void a_router_answers_an_address_or_null() {
        AgentSpec router = Agents.of(Router.class);
        assertEquals(AgentKind.AGENT_KIND_ROUTER, router.definition().getKind());
        assertEquals(10, router.definition().getOrder());
        AgentInstance on = instance(router);
        HandlerSpec route = router.handlers().get("route");
        Object answer = call(router, on, "route", "{\"id\": \"m\", \"priority\": \"HIGH\", \"content\": \"h\"}");
        assertEquals("{\"agent\":\"Fast\",\"key\":\"k\",\"handler\":\"h\"}", route.encode(answer).getData().toStringUtf8());
        assertNull(call(router, on, "route", "{\"priority\": \"normal\"}"));
        assertEquals("null", route.encode(null).getData().toStringUtf8());
        assertEquals("route", router.definition().getDefaultHandler());
    }

    @Test
    void a_monitor_is_told_and_alerts() {
        AgentSpec watch = Agents.of(Watch.class);
        assertEquals("on_message_processed", watch.definition().getHandlers(0).getName());
        AgentInstance on = instance(watch);
        call(watch, on, "on_message_processed",
                "{\"agent_name\": \"Shop\", \"handler\": \"order\", \"message\": {\"id\": \"m1\"},"
                        + " \"result\": {\"status\": \"error\", \"error_type\": \"OOPS\"}, \"duration_ms\": 1500.5}");
        Metrics.OfAgent seen = ((Watch) ((CompiledAgent.Instance) on).self()).metrics().of("Shop");
        assertEquals(Duration.ofNanos(1_500_500_000), seen.longest());
        assertEquals(Map.of("OOPS", 1L), seen.errors());
        assertEquals("alerts.performance", runs.get(0).effects.getEvents(0).getTopic());
        assertEquals("high", runs.get(0).effects.getEvents(0).getAttributesMap().get("severity"));
    }

    static class NoAgent {}

    @Agent
    static class Empty {}

    @Agent(name = "no spaces please")
    static class BadName {
        @Handler
        void run() {}
    }

    @Agent
    static class ConcreteMemory {
        @Memory private HashMap<String, String> map = new HashMap<>();

        @Handler
        void run() {}
    }

    @Agent
    static class FinalValue {
        @Memory private final int number = 1;

        @Handler
        void run() {}
    }

    @Agent
    static class TwoTimings {
        @Scheduled(fixedRate = "1s", fixedDelay = "1s")
        void run() {}
    }

    @Agent
    static class BadLength {
        @Handler(timeout = "soon")
        void run() {}
    }

    @Agent
    static class TwoDefaults {
        @Handler(byDefault = true)
        void one() {}

        @Handler(byDefault = true)
        void two() {}
    }

    @Agent
    static class Guard {
        @RequiresPermission("a:b")
        void run() {}
    }

    @Test
    void what_cannot_become_an_agent_says_why_and_what_to_do() {
        Map<Class<?>, String> wrong =
                Map.of(
                        NoAgent.class, "@Agent",
                        Empty.class, "@Handler",
                        BadName.class, "no spaces please",
                        ConcreteMemory.class, "declare it as Map",
                        FinalValue.class, "MemoryValue",
                        TwoTimings.class, "exactly one",
                        BadLength.class, "250ms",
                        TwoDefaults.class, "choose one",
                        Guard.class, "add @Handler",
                        Greeter.class, "withAgent(new Greeter");
        wrong.forEach(
                (type, cure) -> {
                    DefinitionException error = assertThrows(DefinitionException.class, () -> Agents.of(type), type.getName());
                    assertTrue(error.getMessage().contains(type.getSimpleName()), error.getMessage());
                    assertTrue(error.getMessage().contains(cure), error.getMessage());
                });
    }
}
