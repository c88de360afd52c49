package com.aimatrix.engine.it;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;

/** `Worker` as a process. */
final class WorkerProcess implements AutoCloseable {
    final List<String> lines = new CopyOnWriteArrayList<>();
    private final Process process;
    private final Thread reader;

    /** On the JVM that the tests run on. */
    WorkerProcess(String address, String... options) throws IOException {
        this(Path.of(System.getProperty("java.home")), address, options);
    }

    /** On the JVM that is installed there. */
    WorkerProcess(Path home, String address, String... options) throws IOException {
        List<String> command = new ArrayList<>(List.of(home.resolve("bin").resolve("java").toString()));
        command.addAll(List.of(options));
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), Worker.class.getName()));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().put("AMX_ADDRESS", address);
        process = builder.start();
        reader = new Thread(this::read, "worker-output");
        reader.setDaemon(true);
        reader.start();
    }

    private void read() {
        try (BufferedReader output = process.inputReader(StandardCharsets.UTF_8)) {
            for (String line = output.readLine(); line != null; line = output.readLine()) {
                lines.add(line);
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    boolean said(String text) {
        return lines.stream().anyMatch(line -> line.contains(text));
    }

    /** Returns when it has said that; fails with what it said instead if it does not, or ends. */
    void says(String text) throws InterruptedException {
        Waiting.until(() -> said(text) || !process.isAlive(), "a worker says '" + text + "'");
        if (!said(text)) {
            ended();
            throw new AssertionError("the worker ended without '" + text + "':\n" + String.join("\n", lines));
        }
    }

    void kill() {
        process.toHandle().destroyForcibly();
    }

    /** SIGTERM; returns at once. */
    void terminate() {
        process.toHandle().destroy(); // Process.destroy would close its output, too
    }

    /** Its exit code, when it has ended. */
    int ended() throws InterruptedException {
        if (!process.waitFor(Waiting.PATIENCE_S, TimeUnit.SECONDS)) {
            throw new AssertionError("the worker did not end:\n" + String.join("\n", lines));
        }
        reader.join();
        return process.exitValue();
    }

    @Override
    public void close() {
        process.toHandle().destroyForcibly();
    }
}
