package com.aimatrix.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.v1.BroadcastRecipient;
import com.aimatrix.engine.v1.BroadcastResult;
import com.aimatrix.engine.v1.Failure;
import com.aimatrix.engine.v1.InstanceRef;
import com.aimatrix.engine.v1.MemoryEntry;
import com.aimatrix.engine.v1.MemoryKind;
import com.aimatrix.engine.v1.MemoryOperationResult;
import com.aimatrix.engine.v1.Payload;
import com.fasterxml.jackson.core.type.TypeReference;
import com.google.protobuf.ByteString;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;
import org.junit.jupiter.api.Test;

class ContextTest {
    private static final Json JSON = Json.standard();

    private final FakeCalls calls = new FakeCalls();
    private final FakeRun run =
            new FakeRun(
                    com.aimatrix.engine.v1.Message.newBuilder()
                            .setMessageId("m1")
                            .setSender("who")
                            .setTraceparent("trace")
                            .setType("t")
                            .setPayload(payload("{\"name\": \"n\", \"depth\": 3}"))
                            .build(),
                    calls);
    private final Context context = new Context(run, JSON, Message.received(JSON, run.message), null);

    record Nested(String name, int depth) {}

    private static Payload payload(String json) {
        return Payload.newBuilder().setData(ByteString.copyFromUtf8(json)).build();
    }

    private void replies(String json) {
        calls.reply = CompletableFuture.completedFuture(payload(json));
    }

    @Test
    void a_request_names_its_invocation_carries_the_trace_and_has_the_time_that_is_left() {
        replies("[1]");
        assertEquals(List.of(1), context.request("Other/k", Map.of("a", 1)));
        assertEquals("Other", calls.messages.get(0).getAgent());
        assertEquals("k", calls.messages.get(0).getKey());
        assertEquals("trace", calls.messages.get(0).getTraceparent());
        assertEquals("{\"a\":1}", calls.messages.get(0).getPayload().getData().toStringUtf8());
        assertEquals(7, calls.options.get(0).invocationId());
        assertEquals(1500, calls.options.get(0).timeoutMs());
        context.request("Other", null, Object.class, new MessageOptions().timeout(Duration.ofMillis(20)));
        assertEquals(20, calls.options.get(1).timeoutMs());
    }

    @Test
    void replies_become_what_is_wanted() {
        replies("{\"name\": \"n\", \"depth\": 3}");
        MessageOptions options = new MessageOptions();
        assertEquals(new Nested("n", 3), context.request("A", null, Nested.class, options));
        assertEquals(
                Map.of("name", "n", "depth", 3),
                context.request("A", null, new TypeReference<Map<String, Object>>() {}, options));
        assertEquals(
                Map.of("name", "n", "depth", 3),
                context.request("A", null, ProcessingResult.class, options).data());
        calls.reply =
                CompletableFuture.completedFuture(
                        ProcessingResult.warning("careful", new Nested("x", 1)).with("more", 2).toPayload(JSON));
        ProcessingResult result = (ProcessingResult) context.request("A", null);
        assertTrue(result.isWarning());
        assertEquals("careful", result.message());
        assertEquals(Map.of("more", 2), result.metadata());
        assertEquals(new Nested("x", 1), context.request("A", null, Nested.class, options));
        calls.reply = CompletableFuture.completedFuture(Payload.getDefaultInstance());
        assertNull(context.request("A", null, Nested.class, options));
        replies("\"text\"");
        assertThrows(InvalidInputException.class, () -> context.request("A", null, Nested.class, options));
    }

    @Test
    void a_failure_is_thrown_as_the_engine_said_it() {
        AmxException said = new AmxException(Code.NOT_FOUND, "AGENT_UNKNOWN", "nobody hosts it");
        calls.reply = CompletableFuture.failedFuture(said);
        assertSame(said, assertThrows(AmxException.class, () -> context.request("A", null)));
    }

    @Test
    void cancelling_what_was_asked_gives_the_call_up() {
        CompletableFuture<Object> asked = context.requestAsync("A", null, Object.class, new MessageOptions());
        asked.cancel(true);
        assertTrue(calls.reply.isCancelled());
    }

    @Test
    void an_interrupt_gives_the_call_up_and_stays() {
        Thread.currentThread().interrupt();
        assertEquals("CANCELLED", assertThrows(AmxException.class, () -> context.request("A", null)).reason());
        assertTrue(Thread.interrupted());
        assertTrue(calls.reply.isCancelled());
    }

    @Test
    void a_message_is_sent_on_with_what_it_says_of_itself() {
        context.send("Next", context.message(), new MessageOptions().handler("h").headers(Map.of("x", "1")));
        com.aimatrix.engine.v1.Message staged = run.effects.getMessages(0);
        assertEquals("Next", staged.getAgent());
        assertEquals("t", staged.getType());
        assertEquals("h", staged.getHandler());
        assertEquals("", staged.getSender());
        assertEquals(run.message.getPayload(), staged.getPayload());
        context.unschedule("s");
        context.subscribe("a.*", "h", "");
        context.unsubscribe("a.*");
        assertEquals("s", run.effects.getCancelledSchedules(0));
        assertEquals("a.*", run.effects.getSubscriptions(0).getPattern());
        assertEquals("a.*", run.effects.getCancelledSubscriptions(0));
        assertThrows(InvalidInputException.class, () -> context.publish("", 1));
    }

    @Test
    void content_of_a_message_is_decoded_as_wanted() {
        assertEquals(new Nested("n", 3), context.message().content(Nested.class));
        Map<String, Object> plain = new LinkedHashMap<>();
        plain.put("name", "n");
        plain.put("depth", 3);
        assertEquals(plain, context.message().content());
        assertEquals("who", context.message().sender());
        assertEquals("default", context.message().key());
    }

    @Test
    void chunks_come_as_their_type() {
        calls.chunks = List.of(payload("1"), payload("2"));
        List<Integer> read = new ArrayList<>();
        context.stream("A", null, Integer.class, new MessageOptions())
                .subscribe(
                        new Flow.Subscriber<>() {
                            @Override
                            public void onSubscribe(Flow.Subscription subscription) {
                                subscription.request(10);
                            }

                            @Override
                            public void onNext(Integer chunk) {
                                read.add(chunk);
                            }

                            @Override
                            public void onError(Throwable error) {
                                throw new AssertionError(error);
                            }

                            @Override
                            public void onComplete() {
                                read.add(-1);
                            }
                        });
        assertEquals(List.of(1, 2, -1), read);
    }

    @Test
    void receipts_and_outcomes_are_told() {
        assertEquals(new Receipt("m", true), context.sendNow("A", 1, new MessageOptions()));
        assertEquals(new Publication("e", 2), context.publishNow("t", 1, new EventOptions()));
        calls.broadcast =
                BroadcastResult.newBuilder()
                        .setMessageId("b")
                        .setSucceeded(1)
                        .setFailed(1)
                        .addRecipients(
                                BroadcastRecipient.newBuilder()
                                        .setInstance(InstanceRef.newBuilder().setAgent("A").setKey("1"))
                                        .setResult(payload("5")))
                        .addRecipients(
                                BroadcastRecipient.newBuilder()
                                        .setInstance(InstanceRef.newBuilder().setAgent("A").setKey("2"))
                                        .setFailure(Failure.newBuilder().setReason("OOPS")))
                        .build();
        Broadcast outcome = context.broadcast(Broadcast.Scope.agent("A"), 1, new MessageOptions());
        assertEquals(5, outcome.recipients().get(0).value());
        assertEquals("OOPS", outcome.recipients().get(1).error().reason());
    }

    @Test
    void the_memory_of_another_instance_is_read_by_its_shape() {
        MemoryEntry entry = MemoryEntry.newBuilder().setId("\"a\"").setValue(ByteString.copyFromUtf8("1")).build();
        calls.found =
                MemoryOperationResult.newBuilder()
                        .setKind(MemoryKind.MEMORY_KIND_MAP)
                        .addEntries(entry)
                        .setFound(true)
                        .setVersion(4)
                        .build();
        RemoteMemory memory = context.memoryOf("A/k");
        assertEquals(Map.of("a", 1), memory.get("map"));
        assertEquals(1, memory.get("map", "a"));
        assertEquals(4, memory.put("map", "a", List.of(2)));
        assertEquals("\"a\"", calls.operations.get(1).getGet());
        assertEquals("k", calls.operations.get(1).getInstance().getKey());
        assertEquals("[2]", calls.operations.get(2).getPut().getValue().toStringUtf8());
        assertTrue(memory.remove("map", "a"));
        assertEquals(Payloads.JSON_TYPE, Payloads.encode(JSON, 1).getContentType());
    }
}
