package com.aimatrix.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.errors.DefinitionException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.spec.AgentInstance;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.v1.HandlerDefinition;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;
import com.google.protobuf.ByteString;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Flow;
import org.junit.jupiter.api.Test;

/** Agents whose classes are not all that is to know: generic ones that they extend, proxies that extend them. */
class DeclaredTest {
    record Order(String item, int count) {}

    abstract static class Desk<T, R> {
        @Memory
        final List<T> taken = new ArrayList<>();

        @Handler
        R handle(T input) {
            taken.add(input);
            return answer(input);
        }

        @Handler(name = "later")
        CompletionStage<R> later(Map<String, T> inputs) {
            throw new UnsupportedOperationException();
        }

        @Handler(name = "each")
        Flow.Publisher<T> each() {
            throw new UnsupportedOperationException();
        }

        abstract R answer(T input);
    }

    @Agent(name = "OrderDesk")
    static class OrderDesk extends Desk<Order, List<Integer>> {
        @Override
        List<Integer> answer(Order order) {
            return List.of(order.count());
        }
    }

    @Agent(name = "OwnDesk")
    static class OwnDesk extends OrderDesk {
        @Override
        @Handler
        List<Integer> handle(Order order) {
            return List.of(-order.count());
        }
    }

    private static HandlerDefinition handler(AgentSpec agent, String name) {
        return agent.definition().getHandlersList().stream()
                .filter(one -> one.getName().equals(name))
                .findFirst()
                .orElseThrow();
    }

    private static Object call(AgentSpec agent, String handler, String input) throws Throwable {
        AgentInstance instance = agent.createInstance("k", () -> 0);
        if (instance.memory() != null) {
            instance.memory().load(List.of(), 0);
        }
        HandlerSpec spec = agent.handlers().get(handler);
        Message message =
                Message.newBuilder()
                        .setPayload(Payload.newBuilder().setData(ByteString.copyFromUtf8(input)))
                        .build();
        return spec.call(instance, spec.decode(message), new FakeRun(message, null));
    }

    @Test
    void handlers_and_memories_of_a_generic_class_take_what_the_class_that_extends_it_says() throws Throwable {
        AgentSpec agent = Agents.of(OrderDesk.class);
        assertTrue(handler(agent, "handle").getInputSchema().contains("\"item\""));
        assertTrue(handler(agent, "handle").getOutputSchema().contains("\"integer\""));
        assertTrue(handler(agent, "later").getInputSchema().contains("\"item\""));
        assertTrue(handler(agent, "later").getOutputSchema().contains("\"integer\""));
        assertTrue(handler(agent, "each").getOutputSchema().contains("\"item\""));
        assertTrue(handler(agent, "each").getStreaming());
        assertEquals(List.of(3), call(agent, "handle", "{\"item\":\"tea\",\"count\":3}"));
    }

    @Test
    void a_method_that_overrides_a_generic_handler_is_that_handler() throws Throwable {
        AgentSpec agent = Agents.of(OwnDesk.class);
        assertEquals(3, agent.handlers().size());
        assertEquals(List.of(-3), call(agent, "handle", "{\"item\":\"tea\",\"count\":3}"));
    }

    // --- proxies -----------------------------------------------------------------------------------------------------

    @Agent
    static class Till {
        @Memory
        int sum;

        @Handler
        int add(int amount) {
            sum += amount;
            return sum;
        }
    }

    /** As containers make them: interception by a class that extends the one that was written. */
    static class Till$$SpringCGLIB$$0 extends Till {
        static int intercepted;

        @Override
        int add(int amount) {
            intercepted++;
            return super.add(amount);
        }
    }

    @Test
    void a_class_that_a_container_made_is_the_class_it_extends() throws Throwable {
        for (AgentSpec agent :
                List.of(
                        Agents.of(Till$$SpringCGLIB$$0.class),
                        Agents.of(new Till$$SpringCGLIB$$0()),
                        Agents.of(Till.class, Till$$SpringCGLIB$$0::new, "", Json.standard()))) {
            assertEquals("Till", agent.definition().getName());
            assertEquals(Agents.of(Till.class).definition(), agent.definition());
            int before = Till$$SpringCGLIB$$0.intercepted;
            assertEquals(5, call(agent, "add", "5"));
            assertEquals(before + 1, Till$$SpringCGLIB$$0.intercepted);
        }
    }

    // --- classes that cannot be loaded -------------------------------------------------------------------------------

    static class Library {}

    @Agent
    static class NeedsLibrary {
        @Handler
        void use(Library library) {}
    }

    @Agent
    static class Unable {
        static final Object NEVER = fail();

        private static Object fail() {
            throw new IllegalStateException("no configuration");
        }

        @Handler
        void run() {}
    }

    /** Loads the classes of this test anew, all but one. */
    private static final class Without extends ClassLoader {
        private final String missing;

        Without(Class<?> missing) {
            super(DeclaredTest.class.getClassLoader());
            this.missing = missing.getName();
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            if (name.equals(missing)) {
                throw new ClassNotFoundException(name);
            }
            if (!name.startsWith(DeclaredTest.class.getName())) {
                return super.loadClass(name, resolve);
            }
            Class<?> known = findLoadedClass(name);
            if (known != null) {
                return known;
            }
            try (InputStream in = getResourceAsStream(name.replace('.', '/') + ".class")) {
                byte[] code = in.readAllBytes();
                return defineClass(name, code, 0, code.length);
            } catch (IOException error) {
                throw new ClassNotFoundException(name, error);
            }
        }
    }

    @Test
    void a_class_that_cannot_be_loaded_as_a_whole_is_named_with_what_is_missing() throws Exception {
        Class<?> type = new Without(Library.class).loadClass(NeedsLibrary.class.getName());
        assertNotSame(NeedsLibrary.class, type);
        for (Runnable attempt :
                List.<Runnable>of(
                        () -> Agents.of(type), () -> AmxEngine.builder().withAgent(type), () -> Agents.of(type, null, "", Json.standard()))) {
            DefinitionException error = assertThrows(DefinitionException.class, attempt::run);
            assertTrue(error.getMessage().contains(type.getName()), error.getMessage());
            assertTrue(error.getMessage().contains("Library"), error.getMessage());
            assertTrue(error.getMessage().contains("class path"), error.getMessage());
        }
    }

    @Test
    void a_class_whose_initialization_fails_fails_its_messages() {
        AgentSpec agent = Agents.of(Unable.class);
        assertThrows(LinkageError.class, () -> agent.createInstance("k", () -> 0));
        assertThrows(LinkageError.class, () -> agent.createInstance("k", () -> 0));
        assertFalse(agent.handlers().isEmpty());
    }
}
