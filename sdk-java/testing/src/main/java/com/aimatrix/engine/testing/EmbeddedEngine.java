package com.aimatrix.engine.testing;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.AmxEngineBuilder;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.Stream;

/**
 * A real engine for a test, as a process of its own that ends with the test's.
 *
 * <pre>{@code
 * try (EmbeddedEngine process = EmbeddedEngine.start();
 *         AmxEngine engine = process.client().withAgent(Greeter.class).build().start()) {
 *     assertEquals("Hello, Ada", engine.request("Greeter", "Ada"));
 * }
 * }</pre>
 *
 * What runs is the program that AMX_COMMAND names (split at spaces), else `amx` of PATH; `pip install amx-engine`
 * brings it. The engine listens on a free port of this machine, takes no settings from the environment, and stores in a
 * temporary folder unless told otherwise. It can be killed, stopped and started again: address and data stay the same
 * until `close`. Safe for use by several threads.
 */
public final class EmbeddedEngine implements AutoCloseable {
    /** Far more than an engine needs, so that only what never happens fails. */
    private static final Duration PATIENCE = Duration.ofMinutes(2);

    private final Builder settings;
    private final Path folder;
    private final Map<String, Object> addresses = new LinkedHashMap<>();
    private EngineProcess process; // guarded by this; null: closed
    private String address;
    private String httpAddress;

    private EmbeddedEngine(Builder settings) {
        this.settings = settings;
        try {
            folder = Files.createTempDirectory("amx-");
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /**
     * Starts an engine with nothing said.
     *
     * @return it takes links
     * @throws IllegalStateException with its last lines if it does not start
     */
    public static EmbeddedEngine start() {
        return builder().start();
    }

    /**
     * An engine to be started.
     *
     * @return says nothing yet
     */
    public static Builder builder() {
        return new Builder();
    }

    /**
     * Whether there is a program to start: AMX_COMMAND is set, or `amx` is in PATH. For conditions of tests.
     *
     * @return whether there is
     */
    public static boolean available() {
        String command = System.getenv("AMX_COMMAND");
        String path = System.getenv("PATH");
        return (command != null && !command.isBlank())
                || (path != null
                        && Stream.of(path.split(File.pathSeparator))
                                .anyMatch(one -> Files.isExecutable(Path.of(one).resolve("amx"))));
    }

    /** How an engine is started. */
    public static final class Builder {
        private List<String> command;
        private Path dataDir;
        private int workers;
        private final Map<String, Object> config = new LinkedHashMap<>();
        private Consumer<String> lines = line -> {};

        private Builder() {}

        /**
         * The program, with its first arguments.
         *
         * @param programAndArguments what comes before `serve`
         * @return this
         */
        public Builder command(String... programAndArguments) {
            command = List.of(programAndArguments);
            return this;
        }

        /**
         * Where it stores. It stays when the engine is closed.
         *
         * @param directory a folder
         * @return this
         */
        public Builder dataDir(Path directory) {
            dataDir = directory;
            return this;
        }

        /**
         * How many engines share the address; one that is the process itself unless said.
         *
         * @param processes at least 1
         * @return this
         */
        public Builder workers(int processes) {
            workers = processes;
            return this;
        }

        /**
         * A section of its configuration besides addresses and storage. See docs/operations.md.
         *
         * @param section its name, such as `agents`
         * @param values its fields
         * @return this
         */
        public Builder config(String section, Map<String, ?> values) {
            config.put(section, Map.copyOf(values));
            return this;
        }

        /**
         * A setting beside the sections, such as `shutdown_deadline`.
         *
         * @param setting its name
         * @param value anything with a JSON form
         * @return this
         */
        public Builder config(String setting, Object value) {
            config.put(setting, value);
            return this;
        }

        /**
         * Hears its output.
         *
         * @param listener given each line, on a thread of its own; must not throw
         * @return this
         */
        public Builder onLine(Consumer<String> listener) {
            lines = listener;
            return this;
        }

        /**
         * Starts it.
         *
         * @return it takes links
         * @throws IllegalStateException with its last lines if it does not start within 2 minutes; nothing is left then
         */
        public EmbeddedEngine start() {
            EmbeddedEngine engine = new EmbeddedEngine(this);
            try {
                engine.launch();
            } catch (RuntimeException error) {
                engine.close();
                throw error;
            }
            return engine;
        }

        private List<String> program() {
            if (command != null) {
                return command;
            }
            String said = System.getenv("AMX_COMMAND");
            return said == null || said.isBlank() ? List.of("amx") : List.of(said.trim().split("\\s+"));
        }
    }

    private void launch() {
        Path file = folder.resolve("engine.json");
        try {
            Files.write(file, new ObjectMapper().writeValueAsBytes(configuration()));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        List<String> command = new ArrayList<>(settings.program());
        command.addAll(List.of("serve", "--config", file.toString()));
        if (settings.workers > 0) {
            command.addAll(List.of("--workers", String.valueOf(settings.workers)));
        }
        process = new EngineProcess(command, folder, settings.lines);
        EngineProcess.Listening listening = process.ready(PATIENCE);
        address = listening.grpc();
        httpAddress = listening.http();
        addresses.put("grpc", portOf(address));
        if (!httpAddress.isEmpty()) {
            addresses.put("http", portOf(httpAddress));
        }
    }

    private Map<String, Object> configuration() {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("logging", Map.of("level", "warning"));
        all.putAll(settings.config);
        all.put("grpc", section("grpc"));
        all.put("http", section("http"));
        Path data = settings.dataDir == null ? folder : settings.dataDir.toAbsolutePath();
        Map<String, Object> storage = section("storage");
        storage.remove("port");
        storage.put("path", data.resolve("amx.db").toString());
        all.put("storage", storage);
        return all;
    }

    /** What was said of a section, with the port that it has, or any. */
    private Map<String, Object> section(String name) {
        Map<String, Object> section = new LinkedHashMap<>();
        if (settings.config.get(name) instanceof Map<?, ?> said) {
            said.forEach((key, value) -> section.put(String.valueOf(key), value));
        }
        Object known = addresses.get(name);
        // Several engines share a port that their parent must know beforehand.
        section.put("port", known != null ? known : settings.workers > 0 ? freePort() : 0);
        if (name.equals("grpc") && settings.workers > 0) {
            section.putIfAbsent("engine_ports", 0);
        }
        return section;
    }

    private static int freePort() {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return socket.getLocalPort();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static int portOf(String place) {
        return Integer.parseInt(place.substring(place.lastIndexOf(':') + 1));
    }

    /**
     * Where it takes links.
     *
     * @return `host:port`, for `withAddress`
     */
    public synchronized String address() {
        return address;
    }

    /**
     * Where it answers HTTP: health, metrics, messages.
     *
     * @return `host:port`; empty: it does not
     */
    public synchronized String httpAddress() {
        return httpAddress;
    }

    /**
     * The beginning of an AmxEngine that goes there.
     *
     * @return with the address
     */
    public AmxEngineBuilder client() {
        return AmxEngine.builder().withAddress(address());
    }

    /**
     * Its process; of the latest start.
     *
     * @return a process id
     */
    public synchronized long pid() {
        return open().pid();
    }

    /**
     * Whether its process lives.
     *
     * @return whether it does
     */
    public synchronized boolean running() {
        return process != null && process.alive();
    }

    /**
     * Its last lines, since it was last started.
     *
     * @return up to 200 of them
     */
    public synchronized String output() {
        return process == null ? "" : process.output();
    }

    /** Ends it without a word, as a crash would (SIGKILL); returns when it is gone. What it has stored stays. */
    public synchronized void kill() {
        open().kill();
    }

    /**
     * Stops it politely (SIGTERM): running handlers may finish until its `shutdown_deadline`. What it has stored stays.
     *
     * @return its exit code; 0: it ended as it should
     * @throws IllegalStateException if it does not end within 2 minutes; it is killed then
     */
    public synchronized int stop() {
        return open().stop(PATIENCE);
    }

    /**
     * Starts it again, at the same address and with what it has stored; kills it first if it runs.
     *
     * @throws IllegalStateException with its last lines if it does not start within 2 minutes
     */
    public synchronized void restart() {
        open().kill();
        launch();
    }

    private EngineProcess open() {
        if (process == null) {
            throw new IllegalStateException("this EmbeddedEngine is closed");
        }
        return process;
    }

    /** Kills it, and removes what it has stored unless it was told where. */
    @Override
    public synchronized void close() {
        if (process != null) {
            process.kill();
            process = null;
        }
        try (Stream<Path> files = Files.exists(folder) ? Files.walk(folder) : Stream.empty()) {
            for (Path one : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.deleteIfExists(one);
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
