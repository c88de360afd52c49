package com.aimatrix.engine.testee;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.memory.MemoryValue;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Supplier;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/** Runs a list of operations from its input, so that most new cases need no change here. */
@Agent(groups = "conformance", labels = "tier=gold", idleTimeout = "5m")
class Interpreter {
    /** The outcome of an operation without a value. */
    static final Object NOTHING = new Object();

    private static final Map<String, List<Map<String, Object>>> OUTSIDE = new ConcurrentHashMap<>();

    @Memory(persistent = true)
    final MemoryValue<Object> value = new MemoryValue<>(null);

    @Memory(persistent = true)
    final Map<Object, Object> map = new HashMap<>();

    @Memory(persistent = true)
    final Set<Object> set = new LinkedHashSet<>();

    @Memory(persistent = true)
    final List<Object> list = new ArrayList<>();

    @Memory(ttl = "60s")
    final Map<Object, Object> scratch = new HashMap<>();

    @Memory(persistent = true, maxEntries = 3)
    final Map<Object, Object> bounded = new HashMap<>();

    /** The operation `return` was met. */
    private static final class Returned extends RuntimeException {
        private static final long serialVersionUID = 1L;

        private final transient Object value;

        Returned(Object value) {
            super("return", null, false, false);
            this.value = value;
        }
    }

    @Handler(byDefault = true)
    Object run(List<Map<String, Object>> operations, Context context) {
        List<Object> outcomes = new ArrayList<>();
        try {
            for (Map<String, Object> operation : operations) {
                outcomes.add(outcome(new Operation(operation), context));
            }
        } catch (Returned end) {
            return end.value;
        }
        return outcomes;
    }

    @Handler(concurrent = true)
    Object concurrent(List<Map<String, Object>> operations, Context context) {
        return run(operations, context);
    }

    @Handler
    Stream<Object> stream(List<Map<String, Object>> operations, Context context) {
        Iterator<Map<String, Object>> left = operations.iterator();
        Iterable<Object> chunks = () -> new Chunks(left, context);
        return StreamSupport.stream(chunks.spliterator(), false);
    }

    /** What `yield` says; the other operations happen on the way to it. */
    private final class Chunks implements Iterator<Object> {
        private final Iterator<Map<String, Object>> left;
        private final Context context;
        private Object next = NOTHING;

        Chunks(Iterator<Map<String, Object>> left, Context context) {
            this.left = left;
            this.context = context;
        }

        @Override
        public boolean hasNext() {
            while (next == NOTHING && left.hasNext()) {
                Operation operation = new Operation(left.next());
                if (operation.op().equals("yield")) {
                    next = operation.said().get("value");
                    continue;
                }
                try {
                    outcome(operation, context);
                } catch (Returned end) {
                    return false;
                }
            }
            return next != NOTHING;
        }

        @Override
        public Object next() {
            if (!hasNext()) {
                throw new java.util.NoSuchElementException();
            }
            Object chunk = next;
            next = NOTHING;
            return chunk;
        }
    }

    private Map<String, Object> outcome(Operation operation, Context context) {
        return outcome(operation, context, () -> perform(operation, context));
    }

    private static Map<String, Object> outcome(Operation operation, Context context, Supplier<Object> what) {
        Map<String, Object> outcome = new LinkedHashMap<>();
        try {
            Object ok = what.get();
            if (ok != NOTHING) {
                outcome.put("ok", ok);
            }
        } catch (Returned end) {
            throw end;
        } catch (RuntimeException error) {
            if (operation.flag("or_raise")) {
                throw error;
            }
            if (context != null && context.stopped().isPresent()) {
                throw error; // the handler was asked to stop
            }
            outcome.put("failure", Errors.shown(error));
        }
        return outcome;
    }

    private Object perform(Operation operation, Context context) {
        switch (operation.op()) {
            case "return" -> throw new Returned(operation.said().get("value"));
            case "raise" -> throw Errors.thrown(operation.said());
            case "wait" -> {
                return Waiting.here(context);
            }
            case "context" -> {
                return about(context);
            }
            case "parallel" -> {
                return together(operation, context);
            }
            case "outside" -> {
                outside(operation);
                return NOTHING;
            }
            case "outcomes" -> {
                return List.copyOf(OUTSIDE.getOrDefault(operation.text("name"), List.of()));
            }
            case "register" -> {
                Testee.host(operation.texts("agents"), operation.texts("removed"));
                return NOTHING;
            }
            default -> {
                if (Calls.ALL.contains(operation.op())) {
                    return Calls.make(operation, Caller.of(context));
                }
                if (Effects.ALL.contains(operation.op())) {
                    Effects.stage(operation, context);
                    return NOTHING;
                }
                if (operation.said().containsKey("memory")) {
                    return OwnMemory.use(this, operation);
                }
                throw new InvalidInputException("there is no operation '" + operation.op() + "' here", "op");
            }
        }
    }

    private static Map<String, Object> about(Context context) {
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

    /** Requests are made at once, one after the other, and waited for together; anything else is done meanwhile. */
    private List<Object> together(Operation operation, Context context) {
        List<Supplier<Map<String, Object>>> begun = new ArrayList<>();
        for (Operation one : operation.operations()) {
            Supplier<Object> what =
                    one.op().equals("request") ? Calls.begin(one, Caller.of(context)) : () -> perform(one, context);
            begun.add(() -> outcome(one, context, what));
        }
        List<Object> outcomes = new ArrayList<>();
        begun.forEach(one -> outcomes.add(one.get()));
        return outcomes;
    }

    /** Makes calls one after another, on nobody's behalf, whether or not the handler has ended. */
    private static void outside(Operation operation) {
        List<Map<String, Object>> outcomes = new CopyOnWriteArrayList<>();
        OUTSIDE.put(operation.text("name"), outcomes);
        Testee.beside(
                () -> {
                    for (Operation one : operation.operations()) {
                        outcomes.add(outcome(one, null, () -> Calls.make(one, Caller.outside())));
                    }
                });
    }
}
