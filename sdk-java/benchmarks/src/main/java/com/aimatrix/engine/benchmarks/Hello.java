package com.aimatrix.engine.benchmarks;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import java.util.HashMap;
import java.util.Map;

/** The program of the benchmark `java_start`: hosts an agent with memory, asks it once, says what it said, ends. */
public final class Hello {
    private Hello() {}

    /** The first agent of the README. */
    @Agent(name = "HelloJava", version = "1.0.0")
    static final class Greeter {
        @Memory(persistent = true)
        private Map<String, Integer> counts = new HashMap<>();

        @Handler
        String greet(String name) {
            return "Hello, " + name + "! This is time " + counts.merge(name, 1, Integer::sum) + ".";
        }
    }

    /**
     * Runs once.
     *
     * @param arguments none
     */
    public static void main(String[] arguments) {
        try (AmxEngine engine = AmxEngine.builder().withAgent(Greeter.class).build().start()) {
            System.out.println(engine.request("HelloJava", "Ada", String.class));
        }
    }
}
