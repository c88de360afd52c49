package com.example;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import java.util.HashMap;
import java.util.Map;

/**
 * The smallest agent that remembers: {@code java -cp examples/java/target/examples.jar com.example.Hello}, with an engine
 * at localhost:9090 (`amx dev`).
 */
@Agent(name = "Greeter")
public class Hello {
    @Memory(persistent = true)
    private Map<String, Integer> counts = new HashMap<>();

    /**
     * Greets.
     *
     * @param name whom
     * @return how often it has
     */
    @Handler
    public String greet(String name) {
        int count = counts.merge(name, 1, Integer::sum);
        return "Hello, " + name + "! This is time " + count + ".";
    }

    /**
     * Hosts it, and asks it once.
     *
     * @param arguments none
     */
    public static void main(String[] arguments) {
        try (AmxEngine engine = AmxEngine.builder().withAgent(Hello.class).build().start()) {
            System.out.println(engine.request("Greeter", "Ada"));
        }
    }
}
