package com.aimatrix.engine;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.json.Json;
import com.fasterxml.jackson.databind.JavaType;
import com.fasterxml.jackson.databind.JsonNode;
import java.lang.invoke.MethodHandle;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

/** Runs the stages of a pipeline one after the other, on the thread of its handler. */
final class PipelineRun {
    private static final ScheduledExecutorService ALARMS =
            Executors.newSingleThreadScheduledExecutor(
                    task -> {
                        Thread thread = new Thread(task, "amx-stages");
                        thread.setDaemon(true);
                        return thread;
                    });

    private final String name;
    private final Json json;
    private final List<Step> steps;
    private final Step onError; // null: none

    /** A method. parameters: their types; of PipelineContext and Throwable what runs, of another the value. */
    record Step(String name, int order, long timeoutMs, MethodHandle method, List<JavaType> parameters) {}

    PipelineRun(String name, Json json, List<Step> steps, Step onError) {
        this.name = name;
        this.json = json;
        this.steps = steps;
        this.onError = onError;
    }

    /** What the last stage returned, or the error handler. Throws PIPELINE_STAGE_FAILED, or the stage's reason. */
    Object run(Object self, Context invocation, Object input) throws Throwable {
        PipelineContext context = new PipelineContext(name, invocation, input);
        for (Step step : steps) {
            context.begin(step.name());
            try {
                context.ended(timed(step, self, context));
            } catch (Throwable error) {
                if (onError == null || invocation.stopped().isPresent()) {
                    throw failed(step, error);
                }
                return awaited(call(onError, self, context, error));
            }
        }
        return context.previousResult();
    }

    private Object timed(Step step, Object self, PipelineContext context) throws Throwable {
        if (step.timeoutMs() == 0) {
            return awaited(call(step, self, context, null));
        }
        Thread thread = Thread.currentThread();
        AtomicBoolean over = new AtomicBoolean();
        AtomicBoolean ended = new AtomicBoolean();
        ScheduledFuture<?> alarm =
                ALARMS.schedule(
                        () -> {
                            synchronized (ended) {
                                if (!ended.get()) {
                                    over.set(true);
                                    thread.interrupt();
                                }
                            }
                        },
                        step.timeoutMs(),
                        TimeUnit.MILLISECONDS);
        try {
            Object value = awaited(call(step, self, context, null));
            if (over.get()) {
                throw late(step, null);
            }
            return value;
        } catch (AmxException error) {
            throw over.get() && !error.reason().equals("DEADLINE_EXCEEDED") ? late(step, error) : error;
        } catch (Throwable error) {
            throw over.get() ? late(step, error) : error;
        } finally {
            alarm.cancel(false);
            synchronized (ended) {
                ended.set(true);
                if (over.get()) {
                    Thread.interrupted();
                }
            }
        }
    }

    private static AmxException late(Step step, Throwable cause) {
        return new AmxException.Facts(
                        Code.DEADLINE_EXCEEDED,
                        "DEADLINE_EXCEEDED",
                        "stage '" + step.name() + "' did not end within its timeout of " + step.timeoutMs() + " ms")
                .retryable(true)
                .cause(cause)
                .exception();
    }

    private static Object awaited(Object value) {
        return value instanceof CompletionStage<?> stage ? Calls.await(stage.toCompletableFuture()) : value;
    }

    private Object call(Step step, Object self, PipelineContext context, Throwable error) throws Throwable {
        Object[] arguments = new Object[step.parameters().size() + 1];
        arguments[0] = self;
        for (int index = 0; index < step.parameters().size(); index++) {
            JavaType type = step.parameters().get(index);
            Class<?> raw = type.getRawClass();
            if (raw == PipelineContext.class) {
                arguments[index + 1] = context;
            } else if (raw == Context.class) {
                arguments[index + 1] = context.invocation();
            } else if (error != null && raw.isInstance(error)) {
                arguments[index + 1] = error;
            } else {
                arguments[index + 1] = value(context.previousResult(), type);
            }
        }
        return step.method().invokeExact(arguments);
    }

    private Object value(Object previous, JavaType type) {
        boolean own = previous != null && type.getRawClass().isInstance(previous);
        boolean content = previous instanceof Map || previous instanceof List;
        if (own && !(content && type.hasGenericTypes())) {
            return previous;
        }
        if (previous == null && !type.isPrimitive()) {
            return null;
        }
        JsonNode tree = (JsonNode) json.read(json.write(previous), json.type(JsonNode.class));
        return json.convert(tree, type, "");
    }

    private AmxException failed(Step step, Throwable error) {
        boolean known = error instanceof AmxException amx && !amx.reason().equals("HANDLER_FAILED");
        AmxException its = error instanceof AmxException amx ? amx : null;
        return new AmxException.Facts(
                        known ? its.code() : Code.UNKNOWN,
                        known ? its.reason() : "PIPELINE_STAGE_FAILED",
                        "pipeline '" + name + "' failed at stage '" + step.name() + "': " + error.getMessage())
                .retryable(its == null || its.retryable())
                .metadata(Map.of("pipeline", name, "stage", step.name()))
                .cause(error)
                .exception();
    }
}
