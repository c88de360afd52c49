package com.aimatrix.engine.benchmarks;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Handler;
import java.io.IOException;
import java.io.OutputStream;
import java.time.Duration;

/** The worker of the benchmark `java_rr_256`: an agent, hosted until standard input ends. */
public final class Worker {
    private Worker() {}

    /** Takes parsed JSON, and returns it. */
    @Agent(name = "EchoJava", version = "1.0.0")
    static final class Echo {
        @Handler
        Object echo(Object content) {
            return content;
        }
    }

    /**
     * Serves.
     *
     * @param arguments none
     * @throws IOException standard input or output is broken
     */
    public static void main(String[] arguments) throws IOException {
        AmxEngine engine = AmxEngine.builder().withAgent(Echo.class).build().start(Duration.ofSeconds(10));
        System.out.println("{\"id\": 0, \"result\": \"ready\"}");
        System.in.transferTo(OutputStream.nullOutputStream());
        engine.stop();
    }
}
