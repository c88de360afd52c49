package com.example;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.aimatrix.engine.testing.EmbeddedEngine;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The examples run, against a real engine, and say what they promise. */
class ExamplesTest {
    private static EmbeddedEngine engine;

    @BeforeAll
    static void start() {
        Assumptions.assumeTrue(EmbeddedEngine.available(), "no amx here; AMX_COMMAND names one");
        engine = EmbeddedEngine.start();
    }

    @AfterAll
    static void stop() {
        if (engine != null) {
            engine.close();
        }
    }

    @Test
    void hello_remembers_from_one_run_to_the_next() {
        assertEquals("Hello, Ada! This is time 1.", Programs.run(engine, "com.example.Hello").strip());
        assertEquals("Hello, Ada! This is time 2.", Programs.run(engine, "com.example.Hello").strip());
    }
}
