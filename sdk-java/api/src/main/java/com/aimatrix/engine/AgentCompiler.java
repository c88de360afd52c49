package com.aimatrix.engine;

import com.aimatrix.engine.CompiledHandler.Parameter;
import com.aimatrix.engine.CompiledHandler.Source;
import com.aimatrix.engine.authoring.Dialect;
import com.aimatrix.engine.authoring.Durations;
import com.aimatrix.engine.errors.DefinitionException;
import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.json.Schemas;
import com.aimatrix.engine.memory.MemorySpec;
import com.aimatrix.engine.memory.MemoryValue;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.v1.AgentDefinition;
import com.aimatrix.engine.v1.AgentKind;
import com.aimatrix.engine.v1.CircuitBreakerPolicy;
import com.aimatrix.engine.v1.HandlerDefinition;
import com.aimatrix.engine.v1.HandlerExecution;
import com.aimatrix.engine.v1.MemoryDefinition;
import com.aimatrix.engine.v1.MemoryKind;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.RestartStrategy;
import com.aimatrix.engine.v1.RestartType;
import com.aimatrix.engine.v1.RetryPolicy;
import com.aimatrix.engine.v1.SupervisedChild;
import com.aimatrix.engine.v1.SupervisorPolicy;
import com.fasterxml.jackson.databind.JavaType;
import java.lang.annotation.Annotation;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.reflect.Field;
import java.lang.reflect.InaccessibleObjectException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.Flow;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;
import java.util.stream.BaseStream;
import java.util.stream.Stream;

/** Compiles an annotated class into what the engine is told and what the host runs. Names the culprit and the cure. */
final class AgentCompiler {
    private static final Pattern NAME = Pattern.compile("[A-Za-z0-9._-]{1,128}");
    private static final Pattern VERSION =
            Pattern.compile("\\d+\\.\\d+\\.\\d+(?:-[0-9A-Za-z.-]+)?(?:\\+[0-9A-Za-z.-]+)?");
    private static final Pattern PERMISSION = Pattern.compile("[A-Za-z0-9_.*-]+(?::[A-Za-z0-9_.*-]+)*");

    /** What a handler may return that is no value yet, or many; the first type parameter is theirs. */
    private static final List<Class<?>> LATER =
            List.of(Flow.Publisher.class, BaseStream.class, Iterator.class, CompletionStage.class);

    private static final MethodHandle BEHIND;

    static {
        try {
            BEHIND =
                    MethodHandles.lookup()
                            .findVirtual(
                                    UnaryOperator.class, "apply", MethodType.methodType(Object.class, Object.class));
        } catch (ReflectiveOperationException error) {
            throw new ExceptionInInitializerError(error);
        }
    }

    private final Json json;
    private final Class<?> type;
    private final String prefix;
    private final String where;
    private final Declared types;
    private final AgentDefinition.Builder definition = AgentDefinition.newBuilder();
    private final Map<String, HandlerSpec> handlers = new LinkedHashMap<>();
    private final List<String> defaults = new ArrayList<>();
    private final List<String> asked = new ArrayList<>();
    private final Dialect dialect; // null: it is Java
    private UnaryOperator<Object> behind; // from what is made to the object of the class; null: it is that

    /** A method, as it is described and called. handle: (Object[]) -> Object, the first is the object. */
    private record Shape(
            String name, List<Dialect.Parameter> parameters, JavaType returns, boolean streaming, MethodHandle handle) {
        List<? extends Class<?>> classes() {
            return parameters.stream().map(one -> one.type().getRawClass()).toList();
        }
    }

    AgentCompiler(Json json, Class<?> type, String prefix) {
        this.json = json;
        this.type = Declared.written(type);
        this.prefix = prefix;
        this.where = this.type.getSimpleName();
        this.types = new Declared(json, this.type);
        this.dialect = Dialects.of(this.type);
    }

    /** What is made is, or may be, another object that stands before the one of the class. */
    AgentCompiler behind(UnaryOperator<Object> proxied) {
        behind = proxied;
        return this;
    }

    AgentSpec compile(Supplier<?> maker) {
        try {
            return compiled(maker);
        } catch (InvalidInputException error) {
            throw new DefinitionException(where + ": " + error.getMessage());
        } catch (InaccessibleObjectException error) {
            throw Makers.notOpen(type);
        }
    }

    private AgentSpec compiled(Supplier<?> objects) {
        describe();
        Supplier<?> maker = objects;
        Object sample = null;
        List<CompiledAgent.MemoryField> memories = new ArrayList<>();
        List<Field> capabilities = new ArrayList<>();
        for (Field field : fields()) {
            Memory memory = field.getAnnotation(Memory.class);
            Capability capability = field.getAnnotation(Capability.class);
            if ((memory != null || capability != null) && Modifier.isStatic(field.getModifiers())) {
                throw new DefinitionException(where + "." + field.getName() + " is static; each instance has its own");
            }
            if (memory != null) {
                field.setAccessible(true);
                memories.add(memory(field, memory));
            } else if (dialect != null && dialect.delegates(field)) {
                field.setAccessible(true);
                if (sample == null) {
                    sample = objects.get();
                    maker = firstOf(sample, objects);
                }
                memories.add(delegate(field, behind == null ? sample : behind.apply(sample)));
            }
            if (capability != null) {
                field.setAccessible(true);
                capabilities.add(field);
                definition.addCapabilities(capability.name().isEmpty() ? field.getName() : capability.name());
            }
        }
        switch (definition.getKind()) {
            case AGENT_KIND_ROUTER -> router();
            case AGENT_KIND_MONITOR -> monitor();
            case AGENT_KIND_PIPELINE -> pipeline();
            default -> {
                for (Method method : methods()) {
                    handler(method);
                }
            }
        }
        if (handlers.isEmpty()) {
            throw new DefinitionException(where + " has no handlers; annotate a method with @Handler");
        }
        definition.setDefaultHandler(defaultHandler());
        return new CompiledAgent(definition.build(), Map.copyOf(handlers), memories, capabilities, maker, behind);
    }

    // --- the class ---------------------------------------------------------------------------------------------------

    private void describe() {
        Agent agent = type.getAnnotation(Agent.class);
        MessageRouter router = type.getAnnotation(MessageRouter.class);
        PerformanceMonitor monitor = type.getAnnotation(PerformanceMonitor.class);
        Pipeline pipeline = type.getAnnotation(Pipeline.class);
        long said = Stream.of(agent, router, monitor, pipeline).filter(Objects::nonNull).count();
        if (said != 1) {
            throw new DefinitionException(
                    "NOT_AN_AGENT",
                    where + (said == 0
                            ? " is no agent; annotate its class with @Agent, @MessageRouter, @PerformanceMonitor or @Pipeline"
                            : " is several things at once; keep one of @Agent, @MessageRouter, @PerformanceMonitor and"
                                    + " @Pipeline"));
        }
        if (agent != null) {
            names(AgentKind.AGENT_KIND_AGENT, agent.name(), agent.version(), agent.description());
            definition
                    .addAllGroups(Arrays.asList(agent.groups()))
                    .setIdleTimeoutMs(Durations.orZero(agent.idleTimeout(), "idleTimeout"))
                    .setMailboxCapacity(agent.mailboxCapacity());
            for (String label : agent.labels()) {
                int equals = label.indexOf('=');
                if (equals <= 0) {
                    throw new DefinitionException(where + ": the label \"" + label + "\" will not do; write name=value");
                }
                definition.putLabels(label.substring(0, equals).trim(), label.substring(equals + 1).trim());
            }
        } else if (router != null) {
            names(AgentKind.AGENT_KIND_ROUTER, router.name(), router.version(), router.description());
            definition.setOrder(router.order());
        } else if (pipeline != null) {
            names(AgentKind.AGENT_KIND_PIPELINE, pipeline.name(), pipeline.version(), pipeline.description());
        } else {
            names(AgentKind.AGENT_KIND_MONITOR, monitor.name(), monitor.version(), monitor.description());
            definition.setOrder(monitor.order());
        }
        Supervisor supervisor = type.getAnnotation(Supervisor.class);
        if (supervisor != null) {
            definition.setSupervisor(supervisor(supervisor));
        }
    }

    private void names(AgentKind kind, String name, String version, String description) {
        String its = prefix + (name.isEmpty() ? type.getSimpleName() : name);
        check(NAME, its, where + ": the name", "1 to 128 letters, digits, dots, underscores and hyphens");
        check(VERSION, version, where + ": the version", "a semantic version such as 1.0.0");
        definition.setKind(kind).setName(its).setVersion(version).setDescription(description);
    }

    private SupervisorPolicy supervisor(Supervisor said) {
        if (said.children().length == 0) {
            throw new DefinitionException(where + ": the supervisor needs children, e.g. @Supervisor.Child(agent = \"Cart\")");
        }
        SupervisorPolicy.Builder policy =
                SupervisorPolicy.newBuilder()
                        .setStrategy(RestartStrategy.forNumber(said.strategy().ordinal() + 1))
                        .setMaxRestarts(said.maxRestarts())
                        .setWithinMs(Durations.orZero(said.within(), "supervisor.within"))
                        .setMaxBackoffMs(Durations.orZero(said.maxBackoff(), "supervisor.maxBackoff"));
        for (Supervisor.Child child : said.children()) {
            if (child.agent().isEmpty()) {
                throw new DefinitionException(where + ": a child of the supervisor names no agent");
            }
            policy.addChildren(
                    SupervisedChild.newBuilder()
                            .setAgent(child.agent())
                            .setKey(child.key())
                            .setRestart(RestartType.forNumber(child.restart().ordinal() + 1))
                            .setOnRestart(child.onRestart()));
        }
        return policy.build();
    }

    /** Of the class and those it extends, its own last. */
    private List<Class<?>> hierarchy() {
        List<Class<?>> classes = new ArrayList<>();
        for (Class<?> at = type; at != null && at != Object.class; at = at.getSuperclass()) {
            classes.add(0, at);
        }
        return classes;
    }

    private List<Field> fields() {
        List<Field> fields = new ArrayList<>();
        hierarchy().forEach(one -> fields.addAll(Arrays.asList(one.getDeclaredFields())));
        return fields;
    }

    /** The methods that are handlers, in order of their names. A method that overrides a handler is that handler. */
    private Collection<Method> methods() {
        Map<String, Method> found = new TreeMap<>();
        for (Class<?> one : hierarchy()) {
            Method[] declared = one.getDeclaredMethods();
            Arrays.sort(declared, Comparator.comparing(Method::getName));
            for (Method method : declared) {
                if (method.isSynthetic()) {
                    continue;
                }
                boolean said =
                        method.isAnnotationPresent(Handler.class)
                                || method.getAnnotationsByType(Scheduled.class).length > 0
                                || method.getAnnotationsByType(Subscribe.class).length > 0;
                if (said) {
                    found.put(types.signature(method), method);
                } else if (method.isAnnotationPresent(RequiresPermission.class)) {
                    throw new DefinitionException(
                            where + "." + method.getName() + " has @RequiresPermission, but is no handler; add @Handler");
                }
            }
        }
        return found.values();
    }

    // --- memories ----------------------------------------------------------------------------------------------------

    /** What was made to look at it is the first instance's. */
    private static Supplier<?> firstOf(Object sample, Supplier<?> objects) {
        AtomicReference<Object> first = new AtomicReference<>(sample);
        return () -> {
            Object made = first.getAndSet(null);
            return made == null ? objects.get() : made;
        };
    }

    private CompiledAgent.MemoryField delegate(Field field, Object sample) {
        Dialect.Delegate said = dialect.delegate(field, CompiledAgent.get(field, sample), json);
        MemorySpec spec = said.spec();
        check(NAME, spec.name(), where + ": the memory's name", "letters, digits, dots, _ and -");
        definition.addMemories(
                MemoryDefinition.newBuilder()
                        .setName(spec.name())
                        .setKind(spec.kind())
                        .setPersistent(spec.persistent())
                        .setTtlMs(spec.ttlMs())
                        .setMaxEntries(spec.maxEntries())
                        .setDescription(said.description()));
        return new CompiledAgent.MemoryField(field, spec, false, said.initial(), said.bound());
    }

    private CompiledAgent.MemoryField memory(Field field, Memory said) {
        String name = said.name().isEmpty() ? field.getName() : said.name();
        String place = where + "." + field.getName();
        JavaType its = dialect == null ? types.type(field.getGenericType(), field.getDeclaringClass()) : dialect.type(field, json);
        Class<?> raw = field.getType();
        MemoryKind kind = MemoryKind.MEMORY_KIND_VALUE;
        JavaType value = its;
        JavaType key = null;
        boolean plain = false;
        if (raw == Map.class || raw == ConcurrentMap.class) {
            kind = MemoryKind.MEMORY_KIND_MAP;
            value = its.getContentType();
            key = its.getKeyType();
        } else if (raw == Set.class) {
            kind = MemoryKind.MEMORY_KIND_SET;
            value = its.getContentType();
            key = value;
        } else if (raw == List.class || raw == Collection.class) {
            kind = MemoryKind.MEMORY_KIND_LIST;
            value = its.getContentType();
        } else if (raw == MemoryValue.class) {
            value = its.containedTypeOrUnknown(0);
        } else if (Map.class.isAssignableFrom(raw) || Collection.class.isAssignableFrom(raw)) {
            throw new DefinitionException(
                    place + " is declared as " + raw.getSimpleName()
                            + "; declare it as Map, Set or List, so that its changes can be noticed");
        } else if (Modifier.isFinal(field.getModifiers())) {
            throw new DefinitionException(
                    place + " is final, and a single value; leave final out, or declare it as MemoryValue<"
                            + raw.getSimpleName() + ">");
        } else {
            plain = true;
        }
        if (said.maxEntries() < 0 || (said.maxEntries() > 0 && kind == MemoryKind.MEMORY_KIND_VALUE)) {
            throw new DefinitionException(
                    place + ": maxEntries is " + said.maxEntries() + "; it is a positive number, of Maps, Sets and Lists");
        }
        check(NAME, name, place + ": the memory's name", "letters, digits, dots, _ and -");
        long ttl = said.ttl().isEmpty() ? 0 : Durations.positive(said.ttl(), "ttl of " + field.getName());
        definition.addMemories(
                MemoryDefinition.newBuilder()
                        .setName(name)
                        .setKind(kind)
                        .setPersistent(said.persistent())
                        .setTtlMs(ttl)
                        .setMaxEntries(said.maxEntries())
                        .setDescription(said.description()));
        MemorySpec spec = new MemorySpec(name, kind, value, key, said.persistent(), ttl, said.maxEntries(), json);
        return new CompiledAgent.MemoryField(field, spec, plain);
    }

    // --- handlers ----------------------------------------------------------------------------------------------------

    private void handler(Method method) {
        Handler said = method.getAnnotation(Handler.class);
        String place = where + "." + method.getName();
        Shape shape = shape(method, place);
        String name = said == null || said.name().isEmpty() ? shape.name() : said.name();
        List<Parameter> parameters = parameters(shape);
        boolean streaming = shape.streaming();
        JavaType output = shape.returns();
        boolean concurrent = said != null && said.concurrent();
        HandlerDefinition.Builder described =
                HandlerDefinition.newBuilder()
                        .setName(name)
                        .setStreaming(streaming)
                        .setConcurrent(concurrent)
                        .setInputSchema(inputSchema(parameters))
                        .setOutputSchema(outputSchema(output));
        boolean asksItself = events(method, name, described, said);
        Scheduled[] schedules = method.getAnnotationsByType(Scheduled.class);
        for (Scheduled schedule : schedules) {
            definition.addSchedules(Timing.of(schedule, name));
        }
        permissions(method, said, described, place);
        if (said != null) {
            options(said, described, place);
            if (said.byDefault()) {
                defaults.add(name);
            }
        }
        if (!asksItself && schedules.length == 0) {
            asked.add(name);
        }
        add(described, new CompiledHandler(
                name, streaming, concurrent, json, shape.handle(), parameters, output, null, null), place);
    }

    private void add(HandlerDefinition.Builder described, HandlerSpec handler, String place) {
        check(NAME, handler.name(), place + ": the handler's name", "letters, digits, dots, _ and -");
        if (handlers.put(handler.name(), handler) != null) {
            throw new DefinitionException(
                    where + ": there are two handlers '" + handler.name() + "'; give one of them another name");
        }
        definition.addHandlers(described);
    }

    private static boolean isContent(Class<?> type) {
        return type != Context.class && type != Message.class;
    }

    private Shape shape(Method method, String place) {
        if (Modifier.isStatic(method.getModifiers())) {
            throw new DefinitionException(place + " is static; a handler is of an instance");
        }
        Dialect.Function function = dialect == null ? null : dialect.function(type, method, json);
        if (function != null) {
            return new Shape(
                    function.name(), function.parameters(), function.returns(), function.streaming(),
                    open(function, method));
        }
        long contents = Arrays.stream(method.getParameterTypes()).filter(AgentCompiler::isContent).count();
        List<Dialect.Parameter> parameters = new ArrayList<>();
        for (java.lang.reflect.Parameter one : method.getParameters()) {
            if (contents > 1 && isContent(one.getType()) && !one.isNamePresent()) {
                throw new DefinitionException(
                        place + " takes several values, and their names are not in its class; compile it with"
                                + " -parameters, or take one record");
            }
            JavaType its = types.type(one.getParameterizedType(), method.getDeclaringClass());
            parameters.add(new Dialect.Parameter(one.getName(), its));
        }
        JavaType returned = types.type(method.getGenericReturnType(), method.getDeclaringClass());
        boolean streaming = false;
        for (Class<?> later : LATER) {
            if (later.isAssignableFrom(returned.getRawClass())) {
                JavaType[] arguments = returned.findTypeParameters(later);
                returned = arguments.length == 0 ? json.type(Object.class) : arguments[0];
                streaming = later != CompletionStage.class;
                break;
            }
        }
        return new Shape(method.getName(), parameters, returned, streaming, open(method));
    }

    private static List<Parameter> parameters(Shape shape) {
        long contents = shape.classes().stream().filter(AgentCompiler::isContent).count();
        List<Parameter> found = new ArrayList<>();
        for (Dialect.Parameter one : shape.parameters()) {
            Class<?> raw = one.type().getRawClass();
            Source source = contents == 1 ? Source.CONTENT : Source.MEMBER;
            if (raw == Context.class) {
                source = Source.CONTEXT;
            } else if (raw == Message.class) {
                source = Source.MESSAGE;
            }
            found.add(new Parameter(one.name(), source, one.type()));
        }
        return found;
    }

    private String inputSchema(List<Parameter> parameters) {
        Map<String, JavaType> members = new LinkedHashMap<>();
        for (Parameter one : parameters) {
            if (one.source() == Source.CONTENT) {
                return Schemas.text(json, one.type());
            }
            if (one.source() == Source.MEMBER) {
                members.put(one.name(), one.type());
            }
        }
        return members.isEmpty() ? "" : Schemas.text(json, members);
    }

    private String outputSchema(JavaType output) {
        Class<?> raw = output.getRawClass();
        if (raw == ProcessingResult.class) {
            return "{\"type\":\"object\",\"properties\":{\"status\":{\"enum\":[\"success\",\"warning\",\"error\"]},"
                    + "\"data\":{},\"message\":{\"type\":\"string\"},\"metadata\":{\"type\":\"object\"}},"
                    + "\"required\":[\"status\"]}";
        }
        boolean nothing = raw == void.class || raw == Void.class || raw == Message.class || raw == Payload.class;
        return nothing ? "" : Schemas.text(json, output);
    }

    private boolean events(Method method, String name, HandlerDefinition.Builder described, Handler said) {
        if (said != null) {
            for (String topic : said.topics()) {
                described.addSubscriptionsBuilder().setPattern(topic).setFilter(said.filter()).setHandler(name);
            }
        }
        for (Subscribe subscribe : method.getAnnotationsByType(Subscribe.class)) {
            for (String pattern : subscribe.value()) {
                described
                        .addSubscriptionsBuilder()
                        .setPattern(pattern)
                        .setFilter(subscribe.filter())
                        .setHandler(name);
            }
        }
        return described.getSubscriptionsCount() > 0;
    }

    private void permissions(Method method, Handler said, HandlerDefinition.Builder described, String place) {
        Set<String> all = new LinkedHashSet<>();
        for (Annotation annotation : new Annotation[] {
            type.getAnnotation(RequiresPermission.class), method.getAnnotation(RequiresPermission.class)
        }) {
            if (annotation instanceof RequiresPermission required) {
                all.addAll(Arrays.asList(required.value()));
            }
        }
        if (said != null) {
            all.addAll(Arrays.asList(said.permissions()));
        }
        for (String permission : all) {
            check(PERMISSION, permission, place + ": the permission", "the form area:action");
            described.addPermissions(permission);
        }
    }

    private static void options(Handler said, HandlerDefinition.Builder described, String place) {
        described
                .setDescription(said.description())
                .setTimeoutMs(Durations.orZero(said.timeout(), place + " timeout"))
                .setDurability(Wire.durability(said.durability()))
                .addAllMessageTypes(Arrays.asList(said.messageTypes()));
        switch (said.execution()) {
            case THREAD -> described.setExecution(HandlerExecution.HANDLER_EXECUTION_THREAD);
            case PROCESS -> described.setExecution(HandlerExecution.HANDLER_EXECUTION_PROCESS);
            default -> {}
        }
        Retry retry = said.retry();
        if (retry.attempts() < 0) {
            throw new DefinitionException(
                    place + ": retry of " + retry.attempts() + " attempts; at least 1 is made, which means no repeats");
        }
        if (retry.multiplier() != 0 && !(retry.multiplier() >= 1)) {
            throw new DefinitionException(
                    place + ": retry multiplier " + retry.multiplier() + ": waits cannot shrink; use 1 or more");
        }
        RetryPolicy policy =
                RetryPolicy.newBuilder()
                        .setMaxAttempts(retry.attempts())
                        .setInitialBackoffMs(Durations.orZero(retry.initial(), "retry.initial"))
                        .setMultiplier(retry.multiplier())
                        .setMaxBackoffMs(Durations.orZero(retry.maximum(), "retry.maximum"))
                        .addAllRetryableReasons(Arrays.asList(retry.only()))
                        .addAllNonRetryableReasons(Arrays.asList(retry.never()))
                        .build();
        if (!policy.equals(RetryPolicy.getDefaultInstance())) {
            described.setRetry(policy);
        }
        CircuitBreaker breaker = said.circuitBreaker();
        CircuitBreakerPolicy rest =
                CircuitBreakerPolicy.newBuilder()
                        .setFailureThreshold(breaker.failures())
                        .setOpenMs(Durations.orZero(breaker.rest(), "circuitBreaker.rest"))
                        .setDisabled(breaker.disabled())
                        .build();
        if (!rest.equals(CircuitBreakerPolicy.getDefaultInstance())) {
            described.setCircuitBreaker(rest);
        }
    }

    private MethodHandle open(Method method) {
        method.setAccessible(true);
        try {
            MethodHandle handle = MethodHandles.lookup().unreflect(method);
            int count = handle.type().parameterCount();
            if (behind != null && (method.getModifiers() & (Modifier.PRIVATE | Modifier.FINAL)) != 0) {
                // No proxy overrides it: called on one, it would find the fields of the proxy.
                handle = MethodHandles.filterArguments(handle, 0, BEHIND.bindTo(behind).asType(
                        MethodType.methodType(handle.type().parameterType(0), Object.class)));
            }
            return handle.asType(handle.type().generic()).asSpreader(Object[].class, count);
        } catch (IllegalAccessException error) {
            throw Makers.notOpen(type);
        }
    }

    /** As CompiledHandler calls it. */
    private interface Calling {
        Object call(Object[] arguments) throws Throwable;
    }

    private MethodHandle open(Dialect.Function function, Method method) {
        Calling calling = function::call;
        if (behind != null && (method.getModifiers() & (Modifier.PRIVATE | Modifier.FINAL)) != 0) {
            calling =
                    arguments -> {
                        Object[] own = arguments.clone();
                        own[0] = behind.apply(own[0]);
                        return function.call(own);
                    };
        }
        try {
            return MethodHandles.lookup()
                    .findVirtual(Calling.class, "call", MethodType.methodType(Object.class, Object[].class))
                    .bindTo(calling);
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
    }

    private String defaultHandler() {
        if (defaults.size() > 1) {
            throw new DefinitionException(
                    where + ": '" + String.join("' and '", defaults) + "' are both byDefault; choose one");
        }
        if (defaults.size() == 1) {
            return defaults.get(0);
        }
        // What runs by schedule or on events is rarely what a message without a handler's name is for.
        return asked.size() == 1 ? asked.get(0) : "";
    }

    // --- routers and monitors ----------------------------------------------------------------------------------------

    private void router() {
        Method method = only("route", "AgentReference route(Message message)");
        Shape shape = shape(method, where + ".route");
        List<Parameter> parameters = new ArrayList<>();
        for (Class<?> one : shape.classes()) {
            if (one != Context.class && one != Message.class) {
                throw new DefinitionException(where + ".route takes a Message, and a Context if it wants one");
            }
            Source source = one == Context.class ? Source.CONTEXT : Source.SPECIAL;
            parameters.add(new Parameter(one.getSimpleName(), source, json.type(one)));
        }
        special("route", method, parameters, new CompiledHandler(
                "route", false, false, json, shape.handle(), parameters, json.type(Object.class),
                answer -> Routing.answer(json, answer),
                (message, wanted) -> Routing.seen(json, message.content(), "")));
    }

    private void monitor() {
        Method method =
                only(
                        "onMessageProcessed",
                        "void onMessageProcessed(String agentName, Message message, ProcessingResult result, Duration"
                                + " duration)");
        Shape shape = shape(method, where + ".onMessageProcessed");
        List<Parameter> parameters = new ArrayList<>();
        for (Class<?> one : shape.classes()) {
            if (!Set.of(String.class, Message.class, ProcessingResult.class, Duration.class, Context.class).contains(one)) {
                throw new DefinitionException(
                        where + ".onMessageProcessed takes a String, a Message, a ProcessingResult and a Duration");
            }
            Source source = one == Context.class ? Source.CONTEXT : Source.SPECIAL;
            parameters.add(new Parameter(one.getSimpleName(), source, json.type(one)));
        }
        String name = "on_message_processed";
        special(name, method, parameters, new CompiledHandler(
                name, false, false, json, shape.handle(), parameters, json.type(Object.class), null,
                (message, wanted) -> {
                    Routing.Report report = Routing.report(json, message.content());
                    if (wanted == String.class) {
                        return report.agentName();
                    }
                    if (wanted == Message.class) {
                        return report.message();
                    }
                    return wanted == Duration.class ? report.duration() : report.result();
                }));
    }

    private void special(String name, Method method, List<Parameter> parameters, CompiledHandler handler) {
        HandlerDefinition.Builder described = HandlerDefinition.newBuilder().setName(name);
        permissions(method, null, described, where + "." + method.getName());
        asked.add(name);
        add(described, handler, where + "." + name);
    }

    // --- pipelines ---------------------------------------------------------------------------------------------------

    private void pipeline() {
        List<PipelineRun.Step> steps = new ArrayList<>();
        PipelineRun.Step onError = null;
        for (Class<?> one : hierarchy()) {
            for (Method method : one.getDeclaredMethods()) {
                Stage stage = method.getAnnotation(Stage.class);
                if (stage != null && !method.isSynthetic()) {
                    long timeout = Durations.orZero(stage.timeout(), "timeout of stage '" + method.getName() + "'");
                    steps.add(step(method, stage.order(), timeout));
                }
                if (method.isAnnotationPresent(ErrorHandler.class) && !method.isSynthetic()) {
                    if (onError != null) {
                        throw new DefinitionException("pipeline " + where + " has two error handlers; keep one");
                    }
                    onError = step(method, 0, 0);
                }
            }
        }
        if (steps.isEmpty()) {
            throw new DefinitionException(
                    "pipeline " + where + " has no stages; annotate methods with @Stage(order = 1), …");
        }
        steps.sort(Comparator.comparingInt(PipelineRun.Step::order));
        for (int index = 1; index < steps.size(); index++) {
            PipelineRun.Step one = steps.get(index - 1);
            PipelineRun.Step other = steps.get(index);
            if (one.order() == other.order()) {
                throw new DefinitionException(
                        where + ": the stages '" + one.name() + "' and '" + other.name() + "' have the same order "
                                + one.order() + "; number them differently");
            }
        }
        PipelineRun run = new PipelineRun(definition.getName(), json, List.copyOf(steps), onError);
        List<Parameter> parameters =
                List.of(
                        new Parameter("context", Source.CONTEXT, json.type(Context.class)),
                        new Parameter("input", Source.CONTENT, json.type(Object.class)));
        String names = String.join(", ", steps.stream().map(PipelineRun.Step::name).toList());
        HandlerDefinition.Builder described =
                HandlerDefinition.newBuilder()
                        .setName("run")
                        .setDescription("Carries a value through the stages " + names + ".");
        RequiresPermission required = type.getAnnotation(RequiresPermission.class);
        if (required != null) {
            described.addAllPermissions(Arrays.asList(required.value()));
        }
        asked.add("run");
        add(described, new CompiledHandler(
                "run", false, false, json, open(run), parameters, json.type(Object.class), null, null), where);
    }

    private PipelineRun.Step step(Method method, int order, long timeout) {
        Shape shape = shape(method, where + "." + method.getName());
        List<JavaType> parameters = shape.parameters().stream().map(Dialect.Parameter::type).toList();
        return new PipelineRun.Step(shape.name(), order, timeout, shape.handle(), parameters);
    }

    /** `run` as the handles of methods are: given the object, the context and the content. */
    private static MethodHandle open(PipelineRun run) {
        try {
            return MethodHandles.lookup()
                    .findVirtual(
                            PipelineRun.class,
                            "run",
                            MethodType.methodType(Object.class, Object.class, Context.class, Object.class))
                    .bindTo(run)
                    .asType(MethodType.genericMethodType(3))
                    .asSpreader(Object[].class, 3);
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
    }

    /** The most specific method of that name. */
    private Method only(String name, String signature) {
        Method found = null;
        for (Class<?> one : hierarchy()) {
            for (Method method : one.getDeclaredMethods()) {
                if (method.getName().equals(name)
                        && !method.isSynthetic()
                        && !Modifier.isAbstract(method.getModifiers())) {
                    found = method;
                }
            }
        }
        if (found == null) {
            throw new DefinitionException(where + " needs a method: " + signature);
        }
        return found;
    }

    private static void check(Pattern pattern, String value, String what, String rule) {
        if (!pattern.matcher(value).matches()) {
            throw new DefinitionException(what + " \"" + value + "\" will not do; use " + rule);
        }
    }
}
