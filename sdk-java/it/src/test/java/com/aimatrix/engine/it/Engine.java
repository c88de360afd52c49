package com.aimatrix.engine.it;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;

/** A real engine, as `amx serve` runs it, with a port and a store of its own, that can be killed and run again. */
final class Engine implements AutoCloseable {
    private static final long STARTUP_MS = 60_000;

    final String address;
    private final Path folder;
    private final int port;
    private final List<String> command;
    private Process process;

    private Engine(String settings, List<String> options) throws IOException {
        folder = Files.createTempDirectory("amx-java-");
        try (ServerSocket free = new ServerSocket(0)) {
            port = free.getLocalPort();
        }
        address = "127.0.0.1:" + port;
        Path config = folder.resolve("amx-config.yaml");
        Files.writeString(
                config,
                "storage: {path: " + folder.resolve("amx.db") + "}\nhttp: {enabled: false}\nlogging: {level: warning}\n"
                        + (settings.contains("grpc:") ? "" : "grpc: {port: " + port + "}\n")
                        + settings.replace("PORT", String.valueOf(port)));
        command = new ArrayList<>(List.of(amx(), "serve", "--config", config.toString()));
        command.addAll(options);
    }

    /** A running engine. settings: YAML, more sections of its configuration. options: more of its command line. */
    static Engine started(String settings, String... options) throws Exception {
        Engine engine = new Engine(settings, List.of(options));
        try {
            engine.run();
        } catch (Exception | Error error) {
            engine.close();
            throw error;
        }
        return engine;
    }

    /** The engine's command; skips the test where there is none. */
    private static String amx() {
        String said = System.getenv("AMX_COMMAND");
        if (said != null) {
            return said;
        }
        for (Path at = Path.of("").toAbsolutePath(); at != null; at = at.getParent()) {
            Path installed = at.resolve(".venv/bin/amx");
            if (Files.isExecutable(installed)) {
                return installed.toString();
            }
        }
        return Assumptions.abort("no engine to test with: `make setup` installs one, AMX_COMMAND names another");
    }

    /** Runs it, on the store it had. */
    void run() throws Exception {
        Path log = folder.resolve("log");
        process =
                new ProcessBuilder(command)
                        .directory(folder.toFile())
                        .redirectErrorStream(true)
                        .redirectOutput(ProcessBuilder.Redirect.appendTo(log.toFile()))
                        .start();
        long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(STARTUP_MS);
        while (!reachable()) {
            if (!process.isAlive() || System.nanoTime() > until) {
                throw new IllegalStateException("the engine did not start:\n" + Files.readString(log));
            }
            process.waitFor(20, TimeUnit.MILLISECONDS);
        }
    }

    private boolean reachable() {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress("127.0.0.1", port), 1000);
            return true;
        } catch (IOException error) {
            return false;
        }
    }

    /** Ends it without a word. */
    void kill() throws InterruptedException {
        process.toHandle().descendants().forEach(ProcessHandle::destroyForcibly);
        process.destroyForcibly().waitFor();
    }

    /** Asks it to leave; returns at once. */
    void terminate() {
        process.destroy();
    }

    /** Waits until it has left. */
    void await() throws InterruptedException {
        process.waitFor();
    }

    /** Stops it for ever. */
    @Override
    public void close() throws IOException {
        if (process != null) {
            process.destroy();
            try {
                if (!process.waitFor(15, TimeUnit.SECONDS)) {
                    kill();
                }
            } catch (InterruptedException hurry) {
                process.destroyForcibly();
                Thread.currentThread().interrupt();
            }
        }
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.deleteIfExists(file);
            }
        }
    }
}
