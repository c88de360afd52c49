package com.aimatrix.engine.testing;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** One run of an engine's program: its output, and its end. Killed when this process ends in an orderly way. */
final class EngineProcess {
    private static final Pattern LISTENING =
            Pattern.compile("amx engine: gRPC on (\\S+:\\d+)(?:, HTTP on (\\S+:\\d+))?");
    private static final int KEPT_LINES = 200;
    private static final Set<Process> LIVING = ConcurrentHashMap.newKeySet();

    static {
        Runtime.getRuntime().addShutdownHook(
                new Thread(() -> LIVING.forEach(Process::destroyForcibly), "amx-embedded-engines"));
    }

    /** Where it listens. http: may be empty. */
    record Listening(String grpc, String http) {}

    private final Process process;
    private final Thread reader;
    private final Deque<String> lines = new ArrayDeque<>(); // guarded by itself
    private final CompletableFuture<Listening> listening = new CompletableFuture<>();

    EngineProcess(List<String> command, Path folder, Consumer<String> listener) {
        ProcessBuilder builder = new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true);
        builder.environment().keySet().removeIf(name -> name.startsWith("AMX_"));
        builder.environment().put("PYTHONUNBUFFERED", "1");
        try {
            process = builder.start();
        } catch (IOException error) {
            throw new IllegalStateException(
                    "no engine can be started: " + error.getMessage()
                            + "; install it (pip install amx-engine), or let AMX_COMMAND name its program",
                    error);
        }
        LIVING.add(process);
        process.onExit().thenRun(() -> LIVING.remove(process));
        reader = new Thread(() -> read(listener), "amx-embedded-engine-" + process.pid());
        reader.setDaemon(true);
        reader.start();
    }

    private void read(Consumer<String> listener) {
        try (BufferedReader output = process.inputReader(StandardCharsets.UTF_8)) {
            process.getOutputStream().close();
            for (String line = output.readLine(); line != null; line = output.readLine()) {
                synchronized (lines) {
                    lines.add(line);
                    if (lines.size() > KEPT_LINES) {
                        lines.remove();
                    }
                }
                Matcher found = LISTENING.matcher(line);
                if (found.find()) {
                    listening.complete(new Listening(found.group(1), found.group(2) == null ? "" : found.group(2)));
                }
                listener.accept(line);
            }
        } catch (IOException gone) {
            // Its output ends with it.
        } finally {
            listening.completeExceptionally(new IllegalStateException("its output ended"));
        }
    }

    Listening ready(Duration patience) {
        try {
            return listening.get(patience.toMillis(), TimeUnit.MILLISECONDS);
        } catch (ExecutionException ended) {
            kill();
            throw new IllegalStateException(
                    "the engine did not start: it ended with " + process.exitValue() + "\n" + output());
        } catch (TimeoutException late) {
            kill();
            throw new IllegalStateException(
                    "the engine did not start within " + patience.toSeconds() + " s\n" + output());
        } catch (InterruptedException interrupted) {
            kill();
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted while an engine was starting");
        }
    }

    String output() {
        synchronized (lines) {
            return String.join("\n", lines);
        }
    }

    long pid() {
        return process.pid();
    }

    boolean alive() {
        return process.isAlive();
    }

    /** Returns when it is gone, whoever interrupts. */
    void kill() {
        process.toHandle().destroyForcibly();
        process.onExit().join();
        awaitOutput();
    }

    int stop(Duration patience) {
        process.toHandle().destroy(); // Process.destroy closes its output, too: what it says last would end it with 1
        try {
            if (!process.waitFor(patience.toMillis(), TimeUnit.MILLISECONDS)) {
                kill();
                throw new IllegalStateException(
                        "the engine did not stop within " + patience.toSeconds() + " s\n" + output());
            }
        } catch (InterruptedException interrupted) {
            kill();
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted while an engine was stopping");
        }
        awaitOutput();
        return process.exitValue();
    }

    /** What it said last is in `output`. Something it started may hold the pipe open: that is not waited for. */
    private void awaitOutput() {
        try {
            reader.join(1_000);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
