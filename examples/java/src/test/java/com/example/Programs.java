package com.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.testing.EmbeddedEngine;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** Runs programs as people do: a JVM of their own, beside a real engine. */
final class Programs {
    static final Path ROOT = Path.of("").toAbsolutePath().getParent().getParent();

    private Programs() {}

    /** What a program says on standard output. It must end by itself, and well. program: what comes after the class path. */
    static String run(EmbeddedEngine engine, String... program) {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(List.of("-cp", System.getProperty("java.class.path")));
        command.addAll(List.of(program));
        try {
            Path said = Files.createTempFile("amx-example-", ".out");
            Path errors = Files.createTempFile("amx-example-", ".err");
            try {
                ProcessBuilder builder =
                        new ProcessBuilder(command).redirectOutput(said.toFile()).redirectError(errors.toFile());
                builder.environment().put("AMX_ADDRESS", engine.address());
                Process process = builder.start();
                try {
                    assertTrue(process.waitFor(180, TimeUnit.SECONDS), () -> "it does not end: " + text(said) + text(errors));
                } finally {
                    process.destroyForcibly();
                }
                assertEquals(0, process.exitValue(), () -> text(said) + text(errors));
                return text(said);
            } finally {
                Files.delete(said);
                Files.delete(errors);
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(error);
        }
    }

    private static String text(Path file) {
        try {
            return Files.readString(file);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
