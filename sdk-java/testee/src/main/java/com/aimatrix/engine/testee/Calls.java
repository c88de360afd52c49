package com.aimatrix.engine.testee;

import com.aimatrix.engine.Broadcast;
import com.aimatrix.engine.Events;
import com.aimatrix.engine.Message;
import com.aimatrix.engine.ProcessingResult;
import com.aimatrix.engine.Publication;
import com.aimatrix.engine.Receipt;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Flow;
import java.util.function.Supplier;

/** The Interpreter's calls, from inside a handler or from outside of all. */
final class Calls {
    static final Set<String> ALL =
            Set.of("request", "stream", "send_now", "publish_now", "broadcast", "subscribe", "memory_of");

    private Calls() {}

    /** Makes a call, and waits for what comes of it. */
    static Object make(Operation operation, Caller caller) {
        String agent = operation.text("agent");
        Object payload = operation.said().get("payload");
        switch (operation.op()) {
            case "request" -> {
                return value(caller.request(agent, payload, operation.options()));
            }
            case "stream" -> {
                int take = operation.has("take") ? operation.number("take") : Integer.MAX_VALUE;
                return new Reader(take).read(caller.stream(agent, payload, operation.options()));
            }
            case "send_now" -> {
                Receipt receipt = caller.send(agent, payload, operation.options());
                return Map.of("message_id", receipt.messageId(), "duplicate", receipt.duplicate());
            }
            case "publish_now" -> {
                Publication published = caller.publish(operation.text("topic"), payload, operation.event());
                return Map.of("subscribers", published.subscribers());
            }
            case "broadcast" -> {
                return shown(caller.broadcast(scope(operation), payload, operation.options()));
            }
            case "subscribe" -> {
                return events(operation, caller);
            }
            default -> {
                return memory(operation, caller);
            }
        }
    }

    /** Begins a request; what it returns waits for it. */
    static Supplier<Object> begin(Operation operation, Caller caller) {
        CompletableFuture<Object> reply =
                caller.begin(operation.text("agent"), operation.said().get("payload"), operation.options());
        return () -> {
            try {
                return value(reply.join());
            } catch (CompletionException failed) {
                throw failed.getCause() instanceof RuntimeException error ? error : failed;
            }
        };
    }

    private static Object value(Object reply) {
        return reply == null ? Interpreter.NOTHING : plain(reply);
    }

    private static Object plain(Object reply) {
        if (!(reply instanceof ProcessingResult result)) {
            return reply;
        }
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("status", result.status().name().toLowerCase(Locale.ROOT));
        fields.put("data", result.data());
        fields.put("message", result.message());
        fields.put("metadata", result.metadata());
        return fields;
    }

    private static Broadcast.Scope scope(Operation operation) {
        Map.Entry<?, ?> one = ((Map<?, ?>) operation.said().get("scope")).entrySet().iterator().next();
        String argument = String.valueOf(one.getValue());
        return switch (String.valueOf(one.getKey())) {
            case "all" -> Broadcast.Scope.all();
            case "agent" -> Broadcast.Scope.agent(argument);
            case "group" -> Broadcast.Scope.group(argument);
            default -> Broadcast.Scope.labels(argument);
        };
    }

    private static Map<String, Object> shown(Broadcast outcome) {
        List<Object> recipients = new ArrayList<>();
        for (Broadcast.Recipient one : outcome.recipients()) {
            Map<String, Object> fields = new LinkedHashMap<>();
            fields.put("agent", one.instance().name());
            fields.put("key", one.instance().key());
            if (one.error() == null) {
                fields.put("ok", plain(one.value()));
            } else {
                fields.put("failure", Errors.shown(one.error()));
            }
            recipients.add(fields);
        }
        return Map.of("succeeded", outcome.succeeded(), "failed", outcome.failed(), "recipients", recipients);
    }

    private static List<Object> events(Operation operation, Caller caller) {
        List<Object> taken = new ArrayList<>();
        try (Events events = caller.events(operation.text("pattern"), operation.text("filter"))) {
            while (taken.size() < operation.number("take")) {
                Message event = events.next();
                Map<String, Object> fields = new LinkedHashMap<>();
                fields.put("topic", event.topic());
                fields.put("payload", event.content());
                fields.put("attributes", event.headers());
                taken.add(fields);
            }
        }
        return taken;
    }

    private static Object memory(Operation operation, Caller caller) {
        String key = operation.text("key");
        String agent = key.isEmpty() ? operation.text("agent") : operation.text("agent") + "/" + key;
        String name = operation.text("memory");
        Object found =
                operation.has("entry")
                        ? caller.memory(agent).get(name, operation.said().get("entry"))
                        : caller.memory(agent).get(name);
        if (found == null) {
            return Interpreter.NOTHING;
        }
        return found instanceof Set<?> set ? new ArrayList<>(set) : found;
    }

    /** Takes so many chunks of a stream. */
    private static final class Reader implements Flow.Subscriber<Object> {
        private final List<Object> chunks = new ArrayList<>();
        private final CompletableFuture<List<Object>> end = new CompletableFuture<>();
        private final int take;
        private Flow.Subscription subscription;

        Reader(int take) {
            this.take = take;
        }

        List<Object> read(Flow.Publisher<Object> stream) {
            stream.subscribe(this);
            try {
                return end.join();
            } catch (CompletionException failed) {
                throw failed.getCause() instanceof RuntimeException error ? error : failed;
            }
        }

        @Override
        public void onSubscribe(Flow.Subscription given) {
            subscription = given;
            given.request(1);
        }

        @Override
        public void onNext(Object chunk) {
            chunks.add(plain(chunk));
            if (chunks.size() == take) {
                subscription.cancel();
                end.complete(chunks);
            } else {
                subscription.request(1);
            }
        }

        @Override
        public void onError(Throwable error) {
            end.completeExceptionally(error);
        }

        @Override
        public void onComplete() {
            end.complete(chunks);
        }
    }
}
