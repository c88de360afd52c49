package com.aimatrix.engine.testee;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.AmxEngineBuilder;
import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.spec.AgentSpec;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.Executor;
import java.util.function.Function;

/**
 * A testee of the conformance suite: hosts fixtures at an engine, or for a runner at standard input and output. What
 * languages on this JVM share; the fixtures are their own.
 */
public final class Testee {
    private static volatile AmxEngine engine;
    private static volatile Map<String, AgentSpec> fixtures;
    private static volatile String prefix = "";
    private static volatile Executor threads;

    private Testee() {}

    /**
     * Runs until it is stopped.
     *
     * @param arguments see conformance/README.md, "Testees"
     * @param make the fixtures by their names without the prefix that it is given; their agents have it in their names
     * @throws Exception what cannot be helped
     */
    public static void run(String[] arguments, Function<String, Map<String, AgentSpec>> make) throws Exception {
        String connect = "";
        String only = "";
        int credit = 64;
        boolean stdio = false;
        for (int index = 0; index < arguments.length; index++) {
            switch (arguments[index]) {
                case "--stdio" -> stdio = true;
                case "--connect" -> connect = arguments[++index];
                case "--prefix" -> prefix = arguments[++index];
                case "--agents" -> only = arguments[++index];
                case "--credit" -> credit = Integer.parseInt(arguments[++index]);
                default -> refuse("unknown argument " + arguments[index]);
            }
        }
        if (stdio != connect.isEmpty()) {
            refuse("start it with --stdio or with --connect host:port");
        }
        fixtures = make.apply(prefix);
        AmxEngineBuilder builder = AmxEngine.builder().withConcurrency(credit);
        try {
            of(only.isEmpty() ? fixtures.keySet() : Arrays.asList(only.split(","))).forEach(builder::withAgent);
        } catch (InvalidInputException unknown) {
            refuse(unknown.getMessage());
        }
        if (stdio) {
            StandingEnvironment environment = new StandingEnvironment();
            Lines lines = new Lines(environment);
            threads = environment.handlers();
            engine = builder.withConnector(lines, environment).withExecutor(threads).build();
            lines.serve(engine);
        } else {
            threads = InOrder.threads();
            engine = builder.withAddress(connect).withExecutor(threads).build();
            engine.runForever();
        }
    }

    /**
     * What this process hosts with.
     *
     * @return never null once fixtures run
     */
    public static AmxEngine engine() {
        return engine;
    }

    /**
     * Hosts these fixtures, too, and no longer those.
     *
     * @param agents names of fixtures
     * @param removed names of fixtures
     * @throws com.aimatrix.engine.errors.AmxException with the engine's reason
     */
    public static void host(Collection<String> agents, Collection<String> removed) {
        engine.host(of(agents), removed.stream().map(name -> prefix + name).toList());
    }

    /**
     * Runs something as the program around the agents would, whether or not the handler that says so has ended.
     *
     * @param task may block
     */
    public static void beside(Runnable task) {
        threads.execute(task);
    }

    private static List<AgentSpec> of(Collection<String> names) {
        return names.stream().map(Testee::fixture).toList();
    }

    private static AgentSpec fixture(String name) {
        AgentSpec found = fixtures.get(name);
        if (found == null) {
            throw new InvalidInputException(
                    "no fixture is called " + name + "; there are: "
                            + String.join(", ", new TreeSet<>(fixtures.keySet())),
                    "agents");
        }
        return found;
    }

    private static void refuse(String why) {
        System.err.println(why);
        System.exit(2);
    }
}
