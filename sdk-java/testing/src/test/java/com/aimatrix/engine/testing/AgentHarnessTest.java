package com.aimatrix.engine.testing;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AgentReference;
import com.aimatrix.engine.BaseMessageRouter;
import com.aimatrix.engine.BasePerformanceMonitor;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.EventOptions;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import com.aimatrix.engine.Message;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.MessageRouter;
import com.aimatrix.engine.PerformanceMonitor;
import com.aimatrix.engine.ProcessingResult;
import com.aimatrix.engine.Scheduled;
import com.aimatrix.engine.Subscribe;
import com.aimatrix.engine.Timing;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.HandlerException;
import com.aimatrix.engine.memory.Memories;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

class AgentHarnessTest {
    record Order(String id) {}

    @Agent(name = "Reminder")
    static class Reminder {
        @Memory(persistent = true)
        private final List<String> reminded = new ArrayList<>();

        @Memory(persistent = true, ttl = "1h")
        private final Map<String, Integer> seen = new HashMap<>();

        private final CountDownLatch never = new CountDownLatch(1);

        @Handler(byDefault = true)
        String remember(String what, Context context) {
            seen.merge(what, 1, Integer::sum);
            context.schedule(what, "remind", Timing.after(Duration.ofHours(1)), what);
            context.publish("reminders.set", Map.of("what", what));
            return "I shall remind you of " + what;
        }

        @Handler
        void remind(String what) {
            reminded.add(what);
            if (what.equals("bad")) {
                throw new HandlerException("BAD", "cannot");
            }
        }

        @Scheduled(fixedRate = "1d")
        int daily() {
            return reminded.size();
        }

        @Subscribe("orders.*")
        void order(Order order, Context context) {
            reminded.add(context.message().topic() + " " + order.id() + " " + context.headers().get("region"));
        }

        @Handler
        Object ask(String question, Context context) {
            context.sendNow("Log", question, new MessageOptions());
            return context.request("Oracle", question, Object.class, new MessageOptions().handler("answer"));
        }

        @Handler
        Stream<Integer> count(int to) {
            return Stream.iterate(0, one -> one < to, one -> one + 1);
        }

        @Handler
        void hang() throws InterruptedException {
            never.await();
        }

        @Handler
        void shorten(String what) {
            Memories.expire(seen, what, Duration.ofMinutes(1));
        }

        @Handler
        int attempt(Context context) {
            return context.attempt();
        }
    }

    private static MessageOptions to(String handler) {
        return new MessageOptions().handler(handler);
    }

    private static String reason(Runnable what) {
        return assertThrows(AmxException.class, what::run).reason();
    }

    @Test
    void a_message_shows_what_it_led_to_and_memory_is_kept_from_one_to_the_next() {
        try (AgentHarness agent = AgentHarness.start(Reminder.class)) {
            Outcome<Object> outcome = agent.run("tea");
            assertEquals("I shall remind you of tea", outcome.value());
            assertEquals("tea", outcome.schedules().get(0).getName());
            assertEquals("reminders.set", outcome.published().get(0).topic());
            assertEquals(Map.of("what", "tea"), outcome.published().get(0).content());
            assertTrue(outcome.memoryChanged());
            agent.fire("tea");
            assertEquals(List.of("tea"), agent.memory().get("reminded"));
            assertEquals(Map.of("tea", 1), agent.memory().get("seen"));
            assertTrue(agent.timers().isEmpty());
            agent.hibernate("default");
            agent.run("tea");
            assertEquals(Map.of("tea", 2), agent.memory().get("seen"));
            assertEquals(List.of(), agent.memory("other").get("reminded"));
            assertEquals(1, agent.fire("daily").value());
            assertEquals("SCHEDULE_UNKNOWN", reason(() -> agent.fire("weekly")));
            assertEquals(2, agent.published().size());
        }
    }

    @Test
    void what_failed_is_undone_and_thrown_with_its_reason() {
        try (AgentHarness agent = AgentHarness.start(Reminder.class)) {
            AmxException error =
                    assertThrows(AmxException.class, () -> agent.request("bad", Object.class, to("remind")));
            assertEquals("BAD", error.reason());
            assertEquals("Reminder/default#remind", error.source());
            assertEquals(List.of(), agent.memory().get("reminded"));
            assertEquals("HANDLER_UNKNOWN", reason(() -> agent.request("x", Object.class, to("none"))));
            assertEquals(3, agent.runAsync(null, int.class, to("attempt"), 3).join().value());
        }
    }

    @Test
    void memory_that_is_written_from_outside_is_what_the_next_handler_finds() {
        try (AgentHarness agent = AgentHarness.start(Reminder.class)) {
            agent.run("tea");
            agent.memory().put("seen", "tea", 41);
            agent.run("tea");
            assertEquals(42, agent.memory().get("seen", "tea"));
            assertTrue(agent.memory().remove("seen", "tea"));
            assertFalse(agent.memory().has("seen", "tea"));
            assertEquals("MEMORY_UNKNOWN", reason(() -> agent.memory().get("nothing")));
        }
    }

    @Test
    void the_clock_that_memory_expires_by_is_moved_by_the_test() {
        try (AgentHarness agent = AgentHarness.start(new Reminder())) {
            agent.run("tea");
            agent.run("cake");
            agent.request("tea", Object.class, to("shorten"));
            agent.advance(Duration.ofMinutes(2));
            assertEquals(Map.of("cake", 1), agent.memory().get("seen"));
            agent.advance(Duration.ofDays(7));
            assertEquals(Map.of(), agent.memory().get("seen"));
            agent.run("tea");
            assertEquals(Map.of("tea", 1), agent.memory().get("seen"));
        }
    }

    @Test
    void events_go_to_their_subscribers_and_other_agents_answer_what_the_test_says() {
        try (AgentHarness agent = AgentHarness.start(Reminder.class)) {
            agent.deliver("orders.new", new Order("7"), new EventOptions().attributes(Map.of("region", "eu")), "");
            assertEquals(List.of("orders.new 7 eu"), agent.memory().get("reminded"));
            assertEquals("NO_SUBSCRIBER", reason(() -> agent.deliver("nobody.cares", 1)));
            assertEquals("AGENT_UNKNOWN", reason(() -> agent.request("why", Object.class, to("ask"))));
            agent.replyTo("Oracle", message -> message.content() + "? " + message.handler() + "!");
            assertEquals("why? answer!", agent.request("why", Object.class, to("ask")));
            assertEquals(List.of("Log", "Log"), agent.sent().stream().map(Message::agent).toList());
            agent.replyTo("Oracle", message -> {
                throw new HandlerException("SILENT", "says nothing");
            });
            assertEquals("SILENT", reason(() -> agent.request("why", Object.class, to("ask"))));
        }
    }

    @Test
    void a_stream_is_read_to_its_end_or_left() {
        try (AgentHarness agent = AgentHarness.start(Reminder.class)) {
            try (Stream<Integer> chunks = agent.stream(300, Integer.class, to("count"))) {
                assertEquals(300, chunks.toList().size());
            }
            try (Stream<Integer> chunks = agent.stream(1_000_000_000, Integer.class, to("count"))) {
                assertEquals(List.of(0, 1, 2), chunks.limit(3).toList());
            }
            // Its turn comes only when the one before has ended.
            assertEquals("I shall remind you of tea", agent.request("tea"));
            try (Stream<Integer> chunks = agent.stream("no number", Integer.class, to("count"))) {
                assertEquals("INVALID_INPUT", reason(chunks::toList));
            }
        }
    }

    @Test
    void a_handler_that_takes_too_long_is_ended_when_the_test_moves_the_clock() {
        try (AgentHarness agent = AgentHarness.start(Reminder.class)) {
            MessageOptions options = to("hang").timeout(Duration.ofSeconds(5));
            CompletableFuture<Outcome<Object>> waiting = agent.runAsync(null, Object.class, options, 1);
            agent.advance(Duration.ofSeconds(10));
            assertEquals("DEADLINE_EXCEEDED", reason(() -> Results.await(waiting)));
        }
    }

    @Test
    void a_harness_ends_with_a_handler_that_runs_and_one_that_waits_for_its_turn() {
        CompletableFuture<Outcome<Object>> waiting;
        CompletableFuture<Outcome<Object>> next;
        AgentHarness ended = AgentHarness.start(Reminder.class);
        try (AgentHarness agent = ended) {
            waiting = agent.runAsync(null, Object.class, to("hang"), 1);
            next = agent.runAsync("tea", Object.class, new MessageOptions(), 1);
            next.cancel(true);
        }
        assertTrue(next.isCancelled());
        assertEquals("CANCELLED", reason(() -> Results.await(waiting)));
        assertEquals(List.of(), ended.sent());
        assertEquals("CANCELLED", reason(() -> ended.request("tea")));
    }

    @MessageRouter(order = 10)
    static class Inquiries extends BaseMessageRouter {
        @Override
        public AgentReference route(Message message) {
            return message.type().equals("inquiry") ? findAgent("Support/" + message.content()) : null;
        }
    }

    @PerformanceMonitor
    static class Slow extends BasePerformanceMonitor {
        @Override
        public void onMessageProcessed(String agent, Message message, ProcessingResult result, Duration duration) {
            if (duration.toSeconds() > 5) {
                alerts().sendSlowProcessingAlert(agent, message, duration);
            }
        }
    }

    @Test
    void a_router_chooses_and_a_monitor_is_told() {
        try (AgentHarness router = AgentHarness.start(Inquiries.class)) {
            Map<String, Object> inquiry = Map.of("type", "inquiry", "content", "ada", "headers", Map.of());
            assertEquals(Map.of("agent", "Support", "key", "ada"), router.request(inquiry));
            assertNull(router.request(Map.of("type", "other")));
        }
        try (AgentHarness monitor = AgentHarness.start(Slow.class)) {
            Outcome<Object> outcome =
                    monitor.run(
                            Map.of(
                                    "agent_name", "Support",
                                    "instance", "Support/ada",
                                    "handler", "help",
                                    "message", Map.of("id", "m1"),
                                    "result", Map.of("status", "error", "error_type", "OOPS"),
                                    "duration_ms", 6000.5));
            assertEquals("alerts.performance", outcome.published().get(0).topic());
        }
    }

    @Test
    void topic_patterns_match_by_segments() {
        assertTrue(Topics.matches("orders.*", "orders.new"));
        assertFalse(Topics.matches("orders.*", "orders.eu.new"));
        assertTrue(Topics.matches("orders.**", "orders.eu.new"));
        assertTrue(Topics.matches("**.new", "orders.eu.new"));
        assertTrue(Topics.matches("orders.>", "orders.eu.new"));
        assertFalse(Topics.matches("orders.>", "orders"));
        assertFalse(Topics.matches("orders", "orders.new"));
    }
}
