package com.aimatrix.engine;

import com.aimatrix.engine.memory.InstanceMemories;
import com.aimatrix.engine.memory.MemorySpec;
import com.aimatrix.engine.spec.AgentInstance;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.v1.AgentDefinition;
import java.lang.reflect.Field;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.DoubleSupplier;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import org.slf4j.LoggerFactory;

/** An annotated class, compiled. */
final class CompiledAgent implements AgentSpec {
    private final AgentDefinition definition;
    private final Map<String, HandlerSpec> handlers;
    private final List<MemoryField> memories;
    private final List<Field> capabilities;
    private final Supplier<?> maker;
    private final UnaryOperator<Object> behind;
    private final Map<Field, Object> shared = new HashMap<>(); // guarded by itself

    /**
     * A field that is a memory. plain: it holds the value itself. initial: of what it holds in a new object; bound: what
     * it shall hold.
     */
    record MemoryField(
            Field field,
            MemorySpec spec,
            boolean plain,
            UnaryOperator<Object> initial,
            UnaryOperator<Object> bound) {
        MemoryField(Field field, MemorySpec spec, boolean plain) {
            this(field, spec, plain, UnaryOperator.identity(), UnaryOperator.identity());
        }
    }

    /** One instance: the application's object, or the proxy before it, and its memories. */
    record Instance(Object self, InstanceMemories memory) implements AgentInstance {}

    CompiledAgent(
            AgentDefinition definition,
            Map<String, HandlerSpec> handlers,
            List<MemoryField> memories,
            List<Field> capabilities,
            Supplier<?> maker,
            UnaryOperator<Object> behind) {
        this.definition = definition;
        this.handlers = handlers;
        this.memories = memories;
        this.capabilities = capabilities;
        this.maker = maker;
        this.behind = behind == null ? UnaryOperator.identity() : behind;
    }

    @Override
    public AgentDefinition definition() {
        return definition;
    }

    @Override
    public Map<String, HandlerSpec> handlers() {
        return handlers;
    }

    @Override
    public AgentInstance createInstance(String key, DoubleSupplier now) {
        Object made = maker.get();
        Object self = behind.apply(made);
        for (Field field : capabilities) {
            share(field, self);
        }
        if (memories.isEmpty()) {
            return new Instance(made, null);
        }
        InstanceMemories memory = new InstanceMemories(now);
        for (MemoryField one : memories) {
            Field field = one.field();
            if (one.plain()) {
                memory.attachField(one.spec(), () -> get(field, self), value -> set(field, self, value));
            } else {
                Object attached = memory.attach(one.spec(), one.initial().apply(get(field, self)));
                set(field, self, one.bound().apply(attached));
            }
        }
        return new Instance(made, memory);
    }

    /** The first instance's value is everybody's; what another one was constructed with is closed. */
    private void share(Field field, Object self) {
        Object own = get(field, self);
        Object common;
        synchronized (shared) {
            common = shared.computeIfAbsent(field, first -> own);
        }
        if (common != own && common != null) {
            set(field, self, common);
            close(own);
        }
    }

    @Override
    public void close() {
        Map<Field, Object> built;
        synchronized (shared) {
            built = new HashMap<>(shared);
            shared.clear();
        }
        built.values().forEach(this::close);
    }

    private void close(Object capability) {
        if (capability instanceof AutoCloseable closeable) {
            try {
                closeable.close();
            } catch (Exception error) {
                LoggerFactory.getLogger("amx.agent." + definition.getName()).warn("a capability did not close", error);
            }
        }
    }

    static Object get(Field field, Object self) {
        try {
            return field.get(self);
        } catch (IllegalAccessException error) {
            throw new IllegalStateException(error);
        }
    }

    private static void set(Field field, Object self, Object value) {
        try {
            field.set(self, value);
        } catch (IllegalAccessException error) {
            throw new IllegalStateException(error);
        }
    }
}
