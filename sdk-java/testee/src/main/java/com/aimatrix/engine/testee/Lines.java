package com.aimatrix.engine.testee;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.core.Environment;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.transport.Connection;
import com.aimatrix.engine.transport.Connector;
import com.aimatrix.engine.v1.LinkFrame;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** `--stdio`: the SDK's link, with JSON lines for a transport and a clock that only the other side moves. */
final class Lines implements Connector {
    private static final Duration PATIENCE = Duration.ofDays(10_000);
    private static final Duration DRAIN = Duration.ofSeconds(30);
    private static final String END = "";
    private static final String NEWS = "news"; // no line, but something happened
    private static final ObjectMapper MAPPER = new ObjectMapper();
    private static final JsonFormat.Printer PRINTER =
            JsonFormat.printer().preservingProtoFieldNames().omittingInsignificantWhitespace();

    private final PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    private final StandingEnvironment environment;
    private final BlockingQueue<String> lines = new LinkedBlockingQueue<>();
    private LineConnection connection;

    Lines(StandingEnvironment environment) {
        this.environment = environment;
        // A handler that blocks its thread goes on in real time: what it does then is looked after, too.
        environment.onNews(() -> lines.add(NEWS));
    }

    /** Serves the lines of conformance/README.md until `stop`, or the end of input. */
    void serve(AmxEngine engine) throws IOException, InterruptedException {
        environment.handlers().execute(() -> start(engine));
        Thread reader = new Thread(this::read, "lines");
        reader.setDaemon(true);
        reader.start();
        while (true) {
            environment.settle();
            String line = lines.take();
            if (line.equals(END)) {
                Runtime.getRuntime().halt(0); // at once: whoever wrote the lines is gone
            } else if (!line.equals(NEWS)) {
                take(MAPPER.readTree(line), engine);
            }
        }
    }

    private void take(JsonNode said, AmxEngine engine) throws IOException {
        String kind = said.fieldNames().next();
        JsonNode what = said.get(kind);
        switch (kind) {
            case "open" -> connection.grant();
            case "frame" -> connection.arrive(frame(what));
            case "raw" -> connection.arrive(Base64.getDecoder().decode(what.textValue()));
            case "closed" -> connection.lose(what.asText());
            case "advance_ms" -> {
                environment.advance(what.doubleValue());
                say("advanced", what.toString());
            }
            case "stop" ->
                    environment
                            .handlers()
                            .execute(
                                    () -> {
                                        engine.stop(DRAIN);
                                        say("stopped", "{}");
                                        Runtime.getRuntime().halt(0);
                                    });
            default -> throw new IOException("{\"" + kind + "\"} is not a line that this testee knows");
        }
    }

    private void start(AmxEngine engine) {
        try {
            engine.start(PATIENCE);
        } catch (RuntimeException error) {
            environment.log(Environment.Level.WARN, "the link is over", error);
        }
    }

    private void read() {
        try (BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            input.lines().forEach(lines::add);
        } catch (IOException | UncheckedIOException broken) {
            System.err.println("standard input: " + broken.getMessage());
        }
        lines.add(END);
    }

    private static byte[] frame(JsonNode json) throws IOException {
        LinkFrame.Builder frame = LinkFrame.newBuilder();
        JsonFormat.parser().merge(json.toString(), frame);
        return frame.build().toByteArray();
    }

    private synchronized void say(String kind, String json) {
        out.print("{\"" + kind + "\": " + json + "}\n");
        out.flush();
    }

    @Override
    public String address() {
        return "the other end of standard input and output";
    }

    @Override
    public Connection connect(Events events) {
        connection = new LineConnection(events);
        return connection;
    }

    /** A pipe of frames; asked for with `{"connect": {}}`, there when `{"open": {}}` has come. */
    private final class LineConnection implements Connection {
        private final Events events;
        private boolean open;
        private boolean over;

        LineConnection(Events events) {
            this.events = events;
            say("connect", "{}");
        }

        void grant() {
            open = true;
            events.opened();
        }

        void arrive(byte[] frame) {
            if (!over) {
                events.received(frame);
            }
        }

        void lose(String why) {
            if (!over) {
                over = true;
                events.lost(why.isEmpty() ? "the connection was lost" : why, (AmxException) null);
            }
        }

        @Override
        public void send(byte[] frame, Runnable taken) {
            if (over) {
                return;
            }
            try {
                say("frame", PRINTER.print(LinkFrame.parseFrom(frame)));
            } catch (InvalidProtocolBufferException error) {
                throw new IllegalStateException(error);
            }
            environment.execute(taken);
        }

        @Override
        public void close() {
            if (!over) {
                over = true;
                if (open) {
                    say("close", "\"closed\"");
                }
            }
        }
    }
}
