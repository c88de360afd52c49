package com.aimatrix.engine;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.json.ForeignType;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Payloads;
import com.aimatrix.engine.spec.AgentInstance;
import com.aimatrix.engine.spec.HandlerRun;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.v1.Payload;
import com.fasterxml.jackson.databind.JavaType;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.MissingNode;
import java.lang.invoke.MethodHandle;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.BiFunction;
import java.util.function.Function;

/** One method that handles messages, compiled. */
final class CompiledHandler implements HandlerSpec {
    /** What a parameter is given. */
    enum Source {
        CONTEXT,
        MESSAGE,
        /** The whole content. */
        CONTENT,
        /** A member of the content. */
        MEMBER,
        /** What `special` made of the content, by class. */
        SPECIAL
    }

    /** A parameter of the method. */
    record Parameter(String name, Source source, JavaType type) {}

    /** What is handed from `decode` to `call`: shared by the targets of one event. values: at the places they go to. */
    private record Received(Message message, Object[] values) {}

    private final String name;
    private final boolean streaming;
    private final boolean concurrent;
    private final Json json;
    private final MethodHandle method; // (Object[]) -> Object; the first is the object
    private final List<Parameter> parameters;
    private final JavaType output;
    private final Function<Object, Payload> encoder; // in place of the usual; may be null
    private final BiFunction<Message, Class<?>, Object> special; // of SPECIAL parameters; may be null

    CompiledHandler(
            String name,
            boolean streaming,
            boolean concurrent,
            Json json,
            MethodHandle method,
            List<Parameter> parameters,
            JavaType output,
            Function<Object, Payload> encoder,
            BiFunction<Message, Class<?>, Object> special) {
        this.name = name;
        this.streaming = streaming;
        this.concurrent = concurrent;
        this.json = json;
        this.method = method;
        this.parameters = parameters;
        this.output = output;
        this.encoder = encoder;
        this.special = special;
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public boolean streaming() {
        return streaming;
    }

    @Override
    public boolean concurrent() {
        return concurrent;
    }

    @Override
    public Object decode(com.aimatrix.engine.v1.Message wire) {
        Message message = Message.received(json, wire);
        Object[] values = new Object[parameters.size() + 1];
        try {
            JsonNode object = null;
            for (int index = 0; index < parameters.size(); index++) {
                Parameter parameter = parameters.get(index);
                switch (parameter.source()) {
                    case MESSAGE -> values[index + 1] = message;
                    case CONTENT -> values[index + 1] = whole(wire.getPayload(), parameter.type());
                    case SPECIAL -> values[index + 1] = special.apply(message, parameter.type().getRawClass());
                    case MEMBER -> {
                        if (object == null) {
                            object = object(wire.getPayload());
                        }
                        values[index + 1] = member(object.path(parameter.name()), parameter);
                    }
                    default -> {}
                }
            }
        } catch (InvalidInputException error) {
            throw invalid(error.reason(), "input", error);
        }
        return new Received(message, values);
    }

    private Object whole(Payload payload, JavaType type) {
        Class<?> raw = type.getRawClass();
        if (raw == Payload.class) {
            return payload;
        }
        if (Payloads.isNothing(payload)) {
            return absent(type, "");
        }
        if (raw == ProcessingResult.class) {
            return ProcessingResult.fromPayload(json, payload);
        }
        return raw == Object.class ? Payloads.decode(json, payload) : Payloads.decode(json, payload, type);
    }

    private JsonNode object(Payload payload) {
        if (Payloads.isNothing(payload)) {
            return MissingNode.getInstance();
        }
        JsonNode tree = (JsonNode) Payloads.decode(json, payload, json.type(JsonNode.class));
        if (!tree.isObject()) {
            throw new InvalidInputException("value: expected an object with the members " + names(), "");
        }
        return tree;
    }

    private String names() {
        return String.join(
                ", ",
                parameters.stream().filter(one -> one.source() == Source.MEMBER).map(Parameter::name).toList());
    }

    private Object member(JsonNode value, Parameter parameter) {
        return value.isMissingNode()
                ? absent(parameter.type(), parameter.name())
                : json.convert(value, parameter.type(), parameter.name());
    }

    private static Object absent(JavaType type, String place) {
        if (type instanceof ForeignType foreign) {
            return foreign.absent(place);
        }
        if (type.isPrimitive()) {
            throw new InvalidInputException(
                    (place.isEmpty() ? "value" : place) + ": is missing; expected " + type.getRawClass().getName(), place);
        }
        return type.getRawClass() == Optional.class ? Optional.empty() : null;
    }

    @Override
    public Object call(AgentInstance instance, Object input, HandlerRun run) throws Throwable {
        CompiledAgent.Instance own = (CompiledAgent.Instance) instance;
        Received received = (Received) input;
        Object[] arguments = received.values().clone();
        arguments[0] = own.self();
        if (own.memory() != null) {
            own.memory().begin();
        }
        Context context = new Context(run, json, received.message(), own.memory());
        for (int index = 0; index < parameters.size(); index++) {
            if (parameters.get(index).source() == Source.CONTEXT) {
                arguments[index + 1] = context;
            }
        }
        Context before = Context.enter(context);
        try {
            return method.invokeExact(arguments);
        } finally {
            Context.leave(before);
        }
    }

    @Override
    public Payload encode(Object value) {
        return streaming ? Payload.getDefaultInstance() : encoded(value);
    }

    @Override
    public Payload encodeChunk(Object value) {
        return encoded(value);
    }

    private Payload encoded(Object value) {
        try {
            return encoder != null ? encoder.apply(value) : Payloads.encode(json, value, output);
        } catch (InvalidInputException error) {
            throw invalid("INVALID_OUTPUT", "result", error);
        }
    }

    private AmxException invalid(String reason, String what, InvalidInputException error) {
        Map<String, String> facts = new LinkedHashMap<>();
        facts.put("handler", name);
        facts.putAll(error.metadata());
        return new AmxException.Facts(
                        Code.INVALID_ARGUMENT, reason, what + " of handler '" + name + "': " + error.getMessage())
                .metadata(facts)
                .cause(error.getCause())
                .exception();
    }
}
