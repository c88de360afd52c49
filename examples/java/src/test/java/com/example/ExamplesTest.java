package com.example;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.aimatrix.engine.testing.EmbeddedEngine;
import java.util.List;
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

    @Test
    void the_crawler_finds_every_page_once_and_what_is_broken_although_a_server_was_in_trouble() {
        assertEquals(
                List.of(
                        "5 pages",
                        "broken: /nowhere (HTTP 404)",
                        "\"an engine\" is on /agents, Agents",
                        "\"an engine\" is on /guide/start, Start",
                        "\"an engine\" is on /, Home",
                        "\"an engine\" is on /memory, Memory"),
                Programs.run(engine, "com.example.crawler.Crawler").lines().toList());
    }
}
