package com.aimatrix.engine.spring;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.spec.AgentInstance;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.HandlerRun;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.v1.AgentDefinition;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.DoubleSupplier;

/**
 * An agent whose handlers are timed: `amx.handler` by agent, handler and outcome (`success`, or the reason of the
 * failure), and `amx.handler.active` by agent and handler. A CompletionStage counts until it is done, a stream until it
 * is returned.
 */
final class MeasuredAgent implements AgentSpec {
    private static final String SUCCESS = "success";

    private final AgentSpec agent;
    private final Map<String, HandlerSpec> handlers;

    MeasuredAgent(AgentSpec agent, MeterRegistry registry) {
        this.agent = agent;
        String name = agent.definition().getName();
        Map<String, HandlerSpec> measured = new HashMap<>();
        agent.handlers().forEach((key, handler) -> measured.put(key, new Measured(name, handler, registry)));
        handlers = Map.copyOf(measured);
    }

    @Override
    public AgentDefinition definition() {
        return agent.definition();
    }

    @Override
    public Map<String, HandlerSpec> handlers() {
        return handlers;
    }

    @Override
    public AgentInstance createInstance(String key, DoubleSupplier now) {
        return agent.createInstance(key, now);
    }

    @Override
    public void close() {
        agent.close();
    }

    private static final class Measured implements HandlerSpec {
        private final HandlerSpec handler;
        private final MeterRegistry registry;
        private final String agent;
        private final Timer successes;
        private final AtomicInteger active = new AtomicInteger();

        Measured(String agent, HandlerSpec handler, MeterRegistry registry) {
            this.agent = agent;
            this.handler = handler;
            this.registry = registry;
            this.successes = timer(SUCCESS);
            Gauge.builder("amx.handler.active", active, AtomicInteger::get)
                    .description("Messages that a handler is at work on")
                    .tag("agent", agent)
                    .tag("handler", handler.name())
                    .strongReference(true)
                    .register(registry);
        }

        private Timer timer(String outcome) {
            return Timer.builder("amx.handler")
                    .description("Time that a handler takes")
                    .tag("agent", agent)
                    .tag("handler", handler.name())
                    .tag("outcome", outcome)
                    .register(registry);
        }

        @Override
        public Object call(AgentInstance instance, Object input, HandlerRun run) throws Throwable {
            Timer.Sample sample = Timer.start(registry);
            active.incrementAndGet();
            Object value;
            try {
                value = handler.call(instance, input, run);
            } catch (Throwable error) {
                ended(sample, error);
                throw error;
            }
            if (value instanceof CompletionStage<?> stage) {
                stage.whenComplete((result, error) -> ended(sample, error));
            } else {
                ended(sample, null);
            }
            return value;
        }

        private void ended(Timer.Sample sample, Throwable error) {
            active.decrementAndGet();
            sample.stop(error == null ? successes : timer(reason(error)));
        }

        private static String reason(Throwable error) {
            boolean wrapped = error instanceof CompletionException && error.getCause() != null;
            Throwable cause = wrapped ? error.getCause() : error;
            return cause instanceof AmxException known ? known.reason() : "HANDLER_FAILED";
        }

        @Override
        public String name() {
            return handler.name();
        }

        @Override
        public boolean streaming() {
            return handler.streaming();
        }

        @Override
        public boolean concurrent() {
            return handler.concurrent();
        }

        @Override
        public Object decode(Message message) {
            return handler.decode(message);
        }

        @Override
        public Payload encode(Object value) {
            return handler.encode(value);
        }

        @Override
        public Payload encodeChunk(Object value) {
            return handler.encodeChunk(value);
        }
    }
}
