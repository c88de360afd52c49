package com.aimatrix.engine.it;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.AmxEngineBuilder;
import com.aimatrix.engine.testing.EmbeddedEngine;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Map;

/** The engines, links and cables of one test; closed in the reverse order. */
final class Session implements AutoCloseable {
    /** Short times, so that silence is noticed within seconds. */
    static final Map<String, Object> BRISK = Map.of("heartbeat_interval", "500ms", "resume_window", "30s");

    private final ArrayDeque<AutoCloseable> open = new ArrayDeque<>();

    /** Closes it at the end, too. */
    <T extends AutoCloseable> T add(T one) {
        open.push(one);
        return one;
    }

    /** A running engine; the test is skipped where there is none. */
    EmbeddedEngine engine(EmbeddedEngine.Builder settings) {
        assumeTrue(EmbeddedEngine.available(), "no engine to test with; AMX_COMMAND names its program");
        return add(settings.start());
    }

    EmbeddedEngine engine() {
        return engine(EmbeddedEngine.builder());
    }

    /** A link to that address, which hosts those agents. */
    AmxEngine connected(String address, Object... agents) {
        AmxEngineBuilder builder = AmxEngine.builder().withAddress(address);
        for (Object agent : agents) {
            builder.withAgent(agent);
        }
        return started(builder);
    }

    AmxEngine started(AmxEngineBuilder builder) {
        // The first connection of a JVM loads a great many classes: on a busy machine that takes long.
        AmxEngine engine = builder.build().start(Duration.ofSeconds(Waiting.PATIENCE_S));
        add(() -> engine.stop(Duration.ZERO));
        return engine;
    }

    @Override
    public void close() throws IOException {
        Exception failure = null;
        while (!open.isEmpty()) {
            try {
                open.pop().close();
            } catch (Exception error) {
                failure = error;
            }
        }
        if (failure != null) {
            throw new IOException(failure);
        }
    }
}
