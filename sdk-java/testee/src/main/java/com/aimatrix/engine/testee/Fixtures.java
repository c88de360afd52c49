package com.aimatrix.engine.testee;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.spec.AgentInstance;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.HandlerRun;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.spec.InstanceMemory;
import com.aimatrix.engine.v1.AgentDefinition;
import com.aimatrix.engine.v1.HandlerDefinition;
import com.aimatrix.engine.v1.MemoryChange;
import com.aimatrix.engine.v1.MemoryDefinition;
import com.aimatrix.engine.v1.MemoryEntry;
import com.aimatrix.engine.v1.MemoryImage;
import com.aimatrix.engine.v1.MemoryKind;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.IntNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.protobuf.ByteString;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.function.DoubleSupplier;

/** The agents of conformance/README.md, "Fixtures", made by hand of the host's own parts. */
final class Fixtures {
    private static final JsonNodeFactory JSON = JsonNodeFactory.instance;
    private static final Set<CompletableFuture<Object>> WAITING = ConcurrentHashMap.newKeySet();
    private static final AtomicInteger CANCELLED = new AtomicInteger();

    private Fixtures() {}

    /** What a handler does. */
    @FunctionalInterface
    private interface Body {
        Object run(Total memory, JsonNode input, HandlerRun run) throws Throwable;
    }

    static List<AgentSpec> all(String prefix) {
        List<AgentSpec> written = new ArrayList<>(Annotated.all(prefix));
        List<String> names = written.stream().map(one -> one.definition().getName()).toList();
        for (AgentSpec one : made(prefix)) {
            if (!names.contains(one.definition().getName())) {
                written.add(one);
            }
        }
        return written;
    }

    private static List<AgentSpec> made(String prefix) {
        return List.of(
                new Agent(prefix + "Echo", "echo")
                        .handler("echo", (memory, input, run) -> input)
                        .handler("describe", (memory, input, run) -> describe(input, run))
                        .handler("nothing", (memory, input, run) -> null)
                        .spec(),
                new Agent(prefix + "Counter", "total")
                        .remembers()
                        .handler("increment", (memory, input, run) -> memory.add(input == null ? 1 : input.intValue()))
                        .handler("total", (memory, input, run) -> memory.add(0))
                        .handler(
                                "fail_after_increment",
                                (memory, input, run) -> {
                                    memory.add(input.intValue());
                                    throw new AmxException(Code.UNKNOWN, "OOPS", "as asked");
                                })
                        .spec(),
                new Agent(prefix + "Failing", "fail").handler("fail", (memory, input, run) -> fail(input)).spec(),
                new Agent(prefix + "Slow", "wait")
                        .handler("wait", (memory, input, run) -> await(run))
                        .concurrent("hold", (memory, input, run) -> await(run))
                        .concurrent("release", (memory, input, run) -> release())
                        .concurrent("cancelled", (memory, input, run) -> CANCELLED.get())
                        .spec(),
                new Agent(prefix + "Stream", "count")
                        .streaming("count", (memory, input, run) -> count(input))
                        .streaming("endless", (memory, input, run) -> count(JSON.objectNode().put("to", Integer.MAX_VALUE)))
                        .spec(),
                new Agent(prefix + "Blocking", "block")
                        .handler(
                                "block",
                                (memory, input, run) -> {
                                    Thread.sleep(input.get("ms").longValue());
                                    return "done";
                                })
                        .spec());
    }

    private static Object describe(JsonNode input, HandlerRun run) {
        Message message = run.message();
        ObjectNode said = JSON.objectNode();
        said.put("agent", run.agent()).put("key", run.key()).put("handler", run.handler());
        said.put("type", message.getType());
        said.set("headers", Values.MAPPER.valueToTree(message.getHeadersMap()));
        said.put("source", message.getSource()).put("sender", message.getSender());
        String priority = message.getPriority().name().substring("PRIORITY_".length());
        said.put("priority", priority.equals("UNSPECIFIED") ? "NORMAL" : priority);
        said.put("message_id", message.getMessageId()).put("attempt", run.attempt());
        said.put("traceparent", message.getTraceparent());
        said.set("content", input);
        return said;
    }

    private static Object await(HandlerRun run) {
        return await(run::onStop);
    }

    /** Waits until it is released or stopped. */
    static CompletableFuture<Object> await(Consumer<Consumer<AmxException>> onStop) {
        CompletableFuture<Object> released = new CompletableFuture<>();
        WAITING.add(released);
        onStop.accept(
                why -> {
                    if (WAITING.remove(released)) {
                        CANCELLED.incrementAndGet();
                        released.completeExceptionally(why);
                    }
                });
        return released;
    }

    private static Object release() {
        int count = 0;
        for (CompletableFuture<Object> waiting : WAITING) {
            if (WAITING.remove(waiting)) {
                count++;
                waiting.complete("released");
            }
        }
        return count;
    }

    private static Iterator<Object> count(JsonNode input) {
        int to = input.path("to").asInt();
        int failAt = input.path("fail_at").asInt(-1);
        return new Iterator<>() {
            private int next;

            @Override
            public boolean hasNext() {
                return next < to;
            }

            @Override
            public Object next() {
                if (next == failAt) {
                    throw new AmxException(Code.UNKNOWN, "BROKEN", "as asked");
                }
                return next++;
            }
        };
    }

    private static Object fail(JsonNode input) {
        throw error(input);
    }

    private static RuntimeException error(JsonNode input) {
        RuntimeException cause = input.has("cause") ? error(input.get("cause")) : null;
        String message = input.path("message").asText("");
        if (!input.has("reason")) {
            return new IllegalStateException(message, cause);
        }
        Map<String, String> metadata = new LinkedHashMap<>();
        for (Map.Entry<String, JsonNode> fact : input.path("metadata").properties()) {
            metadata.put(fact.getKey(), fact.getValue().asText());
        }
        List<Object> details = new ArrayList<>();
        input.path("details").forEach(details::add);
        return new AmxException.Facts(
                        Code.of(input.path("code").asInt(Code.UNKNOWN.number())), input.get("reason").asText(), message)
                .retryable(input.path("retryable").asBoolean(false))
                .retryAfter(Duration.ZERO)
                .metadata(metadata)
                .details(details)
                .cause(cause)
                .exception();
    }

    /** An agent being put together. */
    private static final class Agent {
        private final AgentDefinition.Builder definition;
        private final Map<String, HandlerSpec> handlers = new HashMap<>();
        private boolean memory;

        Agent(String name, String byDefault) {
            definition = AgentDefinition.newBuilder().setName(name).setVersion("1.0.0").setDefaultHandler(byDefault);
        }

        Agent remembers() {
            memory = true;
            definition.addMemories(
                    MemoryDefinition.newBuilder()
                            .setName("total")
                            .setKind(MemoryKind.MEMORY_KIND_VALUE)
                            .setPersistent(true));
            return this;
        }

        Agent handler(String name, Body body) {
            return add(name, false, false, body);
        }

        Agent concurrent(String name, Body body) {
            return add(name, false, true, body);
        }

        Agent streaming(String name, Body body) {
            return add(name, true, false, body);
        }

        private Agent add(String name, boolean streaming, boolean concurrent, Body body) {
            definition.addHandlers(
                    HandlerDefinition.newBuilder().setName(name).setStreaming(streaming).setConcurrent(concurrent));
            handlers.put(name, new Handler(name, streaming, concurrent, body));
            return this;
        }

        AgentSpec spec() {
            AgentDefinition complete = definition.build();
            boolean remembers = memory;
            return new AgentSpec() {
                @Override
                public AgentDefinition definition() {
                    return complete;
                }

                @Override
                public Map<String, HandlerSpec> handlers() {
                    return handlers;
                }

                @Override
                public AgentInstance createInstance(String key, DoubleSupplier now) {
                    Total total = remembers ? new Total() : null;
                    return () -> total;
                }
            };
        }
    }

    private record Handler(String name, boolean streaming, boolean concurrent, Body body) implements HandlerSpec {
        @Override
        public Object decode(Message message) {
            try {
                return Values.decode(message.getPayload());
            } catch (IllegalArgumentException error) {
                throw new AmxException(Code.INVALID_ARGUMENT, "INVALID_INPUT", "the content is not JSON");
            }
        }

        @Override
        public Object call(AgentInstance instance, Object input, HandlerRun run) throws Throwable {
            return body.run((Total) instance.memory(), (JsonNode) input, run);
        }

        @Override
        public Payload encode(Object value) {
            return Values.encode(value);
        }

        @Override
        public Payload encodeChunk(Object value) {
            return Values.encode(value);
        }
    }

    /** The one memory of Counter. */
    private static final class Total implements InstanceMemory {
        private int committed;
        private int value;

        int add(int amount) {
            value += amount;
            return value;
        }

        @Override
        public void load(List<MemoryImage> image, long version) {
            value = 0;
            for (MemoryImage memory : image) {
                for (MemoryEntry entry : memory.getEntriesList()) {
                    value = Values.decode(Payload.newBuilder().setData(entry.getValue()).build()).intValue();
                }
            }
            committed = value;
        }

        @Override
        public boolean changed() {
            return value != committed;
        }

        @Override
        public List<MemoryChange> collect() {
            committed = value;
            ByteString json = ByteString.copyFromUtf8(IntNode.valueOf(value).toString());
            return List.of(
                    MemoryChange.newBuilder().setName("total").setPut(MemoryEntry.newBuilder().setValue(json)).build());
        }

        @Override
        public boolean rollback() {
            value = committed;
            return true;
        }
    }
}
