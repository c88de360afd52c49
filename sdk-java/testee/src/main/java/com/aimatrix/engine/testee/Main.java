package com.aimatrix.engine.testee;

import com.aimatrix.engine.core.Failures;
import com.aimatrix.engine.host.Link;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.transport.GrpcConnector;
import com.aimatrix.engine.transport.LinkThread;
import com.aimatrix.engine.v1.SoftwareInfo;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** The testee of the Java SDK: hosts the fixtures at an engine, or for a runner at standard input and output. */
public final class Main {
    static final SoftwareInfo SOFTWARE =
            SoftwareInfo.newBuilder()
                    .setName("amx-engine-java")
                    .setVersion("0.1.0")
                    .setLanguage("java " + System.getProperty("java.version"))
                    .build();
    /** The link of this process. */
    static volatile Link link;

    private static final double PATIENCE_MS = 30_000;
    private static final double DRAIN_MS = 30_000;

    private Main() {}

    /**
     * Runs until it is stopped.
     *
     * @param arguments see conformance/README.md, "Testees"
     * @throws Exception what cannot be helped
     */
    public static void main(String[] arguments) throws Exception {
        String connect = "";
        String prefix = "";
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
                default -> {
                    System.err.println("unknown argument " + arguments[index]);
                    System.exit(2);
                }
            }
        }
        if (stdio != connect.isEmpty()) {
            System.err.println("start it with --stdio or with --connect host:port");
            System.exit(2);
        }
        Failures failures = new Failures(Values::encode, Values::decode);
        List<AgentSpec> agents = new ArrayList<>();
        List<String> names = only.isEmpty() ? List.of() : Arrays.asList(only.split(","));
        for (AgentSpec agent : Fixtures.all(prefix)) {
            if (names.isEmpty() || names.contains(agent.definition().getName().substring(prefix.length()))) {
                agents.add(agent);
            }
        }
        if (stdio) {
            new Lines(agents, failures, credit).serve();
        } else {
            serve(connect, agents, failures, credit);
        }
    }

    private static void serve(String address, List<AgentSpec> agents, Failures failures, int credit) {
        LinkThread thread = new LinkThread();
        ExecutorService handlers =
                Executors.newCachedThreadPool(
                        task -> {
                            Thread one = new Thread(task, "handler");
                            one.setDaemon(true);
                            return one;
                        });
        GrpcConnector connector = new GrpcConnector(address, "", null, thread);
        Link opened = new Link(connector, thread, SOFTWARE, agents, handlers, failures, credit, Map.of());
        link = opened;
        Runtime.getRuntime()
                .addShutdownHook(
                        new Thread(
                                () -> {
                                    opened.close(DRAIN_MS).join();
                                    Runtime.getRuntime().halt(0);
                                }));
        opened.open(PATIENCE_MS).join();
        opened.ended().join();
    }
}
