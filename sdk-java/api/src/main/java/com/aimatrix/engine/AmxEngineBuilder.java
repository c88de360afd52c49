package com.aimatrix.engine;

import com.aimatrix.engine.core.Environment;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.transport.Connector;
import com.aimatrix.engine.transport.GrpcConnector;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.function.Supplier;

/** Says what an AmxEngine hosts and where its engine is. Every method changes this and returns it. */
public final class AmxEngineBuilder {
    static final String DEFAULT_ADDRESS = "localhost:9090";
    private static final int DEFAULT_CONCURRENCY = 1024;
    private static final double DEFAULT_PATIENCE_MS = 10_000;

    private final List<AgentSpec> agents = new ArrayList<>();
    private final Map<String, Object> settings = new LinkedHashMap<>();
    private String address = "";
    private String token = "";
    private GrpcConnector.Tls tls;
    private int concurrency;
    private Executor executor;
    private Json json = Json.standard();
    private String sdk = "amx-engine-java";
    private String language = "";
    private Connector connector;
    private Environment environment;

    AmxEngineBuilder() {}

    /** What an engine is made of. connector, environment: null unless given. */
    record Parts(
            List<AgentSpec> agents,
            String address,
            String token,
            GrpcConnector.Tls tls,
            int concurrency,
            Executor executor,
            Json json,
            Map<String, Object> config,
            double patienceMs,
            String sdk,
            String language,
            Connector connector,
            Environment environment) {}

    /**
     * Hosts an agent, a router or a monitor.
     *
     * @param type an annotated class: each instance key gets an object of its own, by the constructor without
     *     parameters
     * @return this
     * @throws com.aimatrix.engine.errors.DefinitionException naming the culprit and the cure
     */
    public AmxEngineBuilder withAgent(Class<?> type) {
        return withAgent(Agents.of(type, null, "", json));
    }

    /**
     * Hosts an agent, a router or a monitor.
     *
     * @param object of an annotated class: each instance key gets a shallow copy; or an AgentSpec
     * @return this
     * @throws com.aimatrix.engine.errors.DefinitionException naming the culprit and the cure
     */
    public AmxEngineBuilder withAgent(Object object) {
        if (object instanceof Class<?> type) {
            return withAgent(type);
        }
        return withAgent(object instanceof AgentSpec spec ? spec : Agents.copies(object, json));
    }

    /**
     * Hosts an agent, a router or a monitor whose objects somebody else makes.
     *
     * @param <T> the class
     * @param type annotated
     * @param maker called once for each instance key; each object is another one
     * @return this
     * @throws com.aimatrix.engine.errors.DefinitionException naming the culprit and the cure
     */
    public <T> AmxEngineBuilder withAgent(Class<T> type, Supplier<? extends T> maker) {
        return withAgent(Agents.of(type, maker, "", json));
    }

    private AmxEngineBuilder withAgent(AgentSpec spec) {
        String name = spec.definition().getName();
        for (AgentSpec other : agents) {
            if (other.definition().getName().equals(name)) {
                throw new AmxException(
                        Code.INVALID_ARGUMENT,
                        "AGENT_TWICE",
                        "two agents are named '" + name + "'; give one of them another name");
            }
        }
        agents.add(spec);
        return this;
    }

    /**
     * Where the engine is. Else the configuration, AMX_ADDRESS, localhost:9090.
     *
     * @param where `host:port` or `unix:/path`
     * @return this
     */
    public AmxEngineBuilder withAddress(String where) {
        address = where;
        return this;
    }

    /**
     * Who this process is, to the engine. Else the configuration, AMX_TOKEN.
     *
     * @param bearer the token
     * @return this
     */
    public AmxEngineBuilder withToken(String bearer) {
        token = bearer;
        return this;
    }

    /**
     * Encrypts the link, by the system's authorities.
     *
     * @return this
     */
    public AmxEngineBuilder withTls() {
        return withTls(new GrpcConnector.Tls(null, null, null, ""));
    }

    /**
     * Encrypts the link.
     *
     * @param files how to recognise the engine, and how to be recognised by it
     * @return this
     */
    public AmxEngineBuilder withTls(GrpcConnector.Tls files) {
        tls = files;
        return this;
    }

    /**
     * How many messages are handled at a time: 1,024 unless said.
     *
     * @param invocations at least 1
     * @return this
     */
    public AmxEngineBuilder withConcurrency(int invocations) {
        concurrency = whole(invocations, "withConcurrency()");
        return this;
    }

    /**
     * Where handlers run, and may block. Else virtual threads where the JVM has them, or a bounded pool.
     *
     * @param handlers is not shut down by the engine
     * @return this
     */
    public AmxEngineBuilder withExecutor(Executor handlers) {
        executor = handlers;
        return this;
    }

    /**
     * How values travel; for agents that are added after it.
     *
     * @param values with modules of the application's own
     * @return this
     */
    public AmxEngineBuilder withJson(Json values) {
        json = values;
        return this;
    }

    /**
     * Settings; later ones win over earlier ones, section by section. The section `engine` is the SDK's: address,
     * token, tls (ca, cert, key, server_name) and concurrency. All are handed to contexts as `config`.
     *
     * @param config by section
     * @return this
     */
    public AmxEngineBuilder withConfig(Map<String, ?> config) {
        settings.putAll(config);
        return this;
    }

    /**
     * Settings of a file of YAML or JSON.
     *
     * @param file its path
     * @return this
     * @throws AmxException INVALID_CONFIG naming the file and what is wrong with it
     */
    public AmxEngineBuilder withConfig(Path file) {
        settings.putAll(ConfigFile.read(file));
        return this;
    }

    /**
     * Settings of a file, such as {@code amx-config.yaml}.
     *
     * @param file its path; YAML or JSON
     * @return this
     * @throws AmxException INVALID_CONFIG naming the file and what is wrong with it
     */
    public AmxEngineBuilder withConfig(String file) {
        return withConfig(Path.of(file));
    }

    /**
     * What the engine is told of the SDK, where another one stands on this.
     *
     * @param name as `amx-engine-java`
     * @param language and its version; Java's follows
     * @return this
     */
    public AmxEngineBuilder withSdk(String name, String language) {
        sdk = name;
        this.language = language;
        return this;
    }

    /**
     * Reaches the engine in a way of one's own. For tests.
     *
     * @param way to the engine
     * @param clock its thread, timers and log
     * @return this
     */
    public AmxEngineBuilder withConnector(Connector way, Environment clock) {
        connector = way;
        environment = clock;
        return this;
    }

    /**
     * The AmxEngine, not started.
     *
     * @return to be started
     * @throws AmxException INVALID_CONFIG
     */
    public AmxEngine build() {
        Map<?, ?> section = section(settings.get("engine"), "engine");
        String where = first(address, text(section, "address"), System.getenv("AMX_ADDRESS"));
        String who = first(token, text(section, "token"), System.getenv("AMX_TOKEN"));
        int most = concurrency;
        if (most == 0) {
            Object said = section.get("concurrency");
            most = said == null ? DEFAULT_CONCURRENCY : whole(said, "engine.concurrency");
        }
        return new AmxEngine(
                new Parts(
                        List.copyOf(agents),
                        where.isEmpty() ? DEFAULT_ADDRESS : where,
                        who,
                        tls == null ? tlsOf(section.get("tls")) : tls,
                        most,
                        executor,
                        json,
                        new LinkedHashMap<>(settings),
                        where.isEmpty() && connector == null ? 0 : DEFAULT_PATIENCE_MS,
                        sdk,
                        language,
                        connector,
                        environment));
    }

    private static Map<?, ?> section(Object said, String name) {
        if (said == null) {
            return Map.of();
        }
        if (said instanceof Map<?, ?> section) {
            return section;
        }
        throw invalidConfig("the section '" + name + "' is " + said + "; it must hold settings", null);
    }

    private static GrpcConnector.Tls tlsOf(Object said) {
        if (said == null || Boolean.FALSE.equals(said)) {
            return null;
        }
        Map<?, ?> files = Boolean.TRUE.equals(said) ? Map.of() : section(said, "engine.tls");
        return new GrpcConnector.Tls(
                path(files, "ca"), path(files, "cert"), path(files, "key"), text(files, "server_name"));
    }

    private static Path path(Map<?, ?> files, String name) {
        String text = text(files, name);
        return text.isEmpty() ? null : Path.of(text);
    }

    private static String text(Map<?, ?> section, String name) {
        Object value = section.get(name);
        if (value == null) {
            return "";
        }
        if (value instanceof String text) {
            return text;
        }
        throw invalidConfig("engine." + name + " is " + value + "; it must be text", null);
    }

    private static String first(String... texts) {
        for (String text : texts) {
            if (text != null && !text.isEmpty()) {
                return text;
            }
        }
        return "";
    }

    private static int whole(Object value, String what) {
        if (value instanceof Integer number && number >= 1) {
            return number;
        }
        throw invalidConfig(what + " is " + value + "; it must be a whole number of at least 1", null);
    }

    private static AmxException invalidConfig(String message, Throwable cause) {
        return ConfigFile.invalid(message, cause);
    }
}
