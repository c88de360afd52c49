package com.aimatrix.engine.it;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.AmxEngineBuilder;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.testing.EmbeddedEngine;
import com.aimatrix.engine.transport.GrpcConnector.Tls;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Ways to an engine besides plain TCP: a Unix socket, TLS; and who is there. */
@Timeout(600)
class TransportsTest {
    private final Session session = new Session();

    @TempDir
    Path folder;

    @Agent(name = "Echo")
    static class Echo {
        @Handler
        Object echo(Object content) {
            return content;
        }
    }

    @AfterEach
    void close() throws Exception {
        session.close();
    }

    private static Object asks(AmxEngineBuilder builder) {
        try (AmxEngine engine = builder.withAgent(Echo.class).build().start(Duration.ofSeconds(Waiting.PATIENCE_S))) {
            return engine.request("Echo", "over the wire");
        }
    }

    private static AmxException refused(AmxEngineBuilder builder) {
        AmxEngine engine = builder.withAgent(Echo.class).build();
        return assertThrows(AmxException.class, () -> engine.start(Duration.ZERO));
    }

    @Test
    void a_unix_socket_carries_a_link() {
        Path socket = folder.resolve("amx.sock");
        session.engine(EmbeddedEngine.builder().config("grpc", Map.of("unix_socket", socket.toString())));
        assertEquals("over the wire", asks(AmxEngine.builder().withAddress("unix:" + socket)));
        assertEquals("over the wire", asks(AmxEngine.builder().withAddress("unix://" + socket)));
    }

    @Test
    void several_engines_are_found_through_a_unix_socket() {
        Path socket = folder.resolve("amx.sock");
        session.engine(EmbeddedEngine.builder().workers(2).config("grpc", Map.of("unix_socket", socket.toString())));
        assertEquals("over the wire", asks(AmxEngine.builder().withAddress("unix:" + socket)));
    }

    @Test
    void a_unix_socket_that_nobody_listens_at_is_an_engine_that_cannot_be_reached() {
        AmxException error = refused(AmxEngine.builder().withAddress("unix:" + folder.resolve("none.sock")));
        assertEquals("ENGINE_UNREACHABLE", error.reason());
    }

    @Test
    void a_wrong_token_is_refused_at_once_and_the_right_one_taken() {
        Map<String, Object> security =
                Map.of(
                        "require_token", true,
                        "tokens", List.of(
                                Map.of("token", "right", "subject", "test", "roles", List.of("worker", "client"))));
        EmbeddedEngine engine = session.engine(EmbeddedEngine.builder().config("security", security));
        AmxEngineBuilder wrong = AmxEngine.builder().withAddress(engine.address()).withToken("wrong");
        assertEquals("UNAUTHENTICATED", refused(wrong).reason());
        Map<String, Object> config = Map.of("engine", Map.of("address", engine.address(), "token", "right"));
        assertEquals("over the wire", asks(AmxEngine.builder().withConfig(config)));
    }

    @Test
    void what_is_no_engine_says_so() throws Exception {
        EmbeddedEngine engine = session.engine(EmbeddedEngine.builder().config("http", Map.of("enabled", true)));
        AmxException error = refused(AmxEngine.builder().withAddress(engine.httpAddress()));
        assertEquals("ENGINE_UNREACHABLE", error.reason());
    }

    // --- TLS ---------------------------------------------------------------------------------------------------------

    private Path at(String name) {
        return folder.resolve(name);
    }

    private void openssl(String... parts) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of("openssl"));
        command.addAll(List.of(parts));
        Process process;
        try {
            process = new ProcessBuilder(command).redirectErrorStream(true).directory(folder.toFile()).start();
        } catch (IOException error) {
            assumeTrue(false, "no openssl here");
            throw error;
        }
        String said = new String(process.getInputStream().readAllBytes());
        assertEquals(0, process.waitFor(), said);
    }

    private void certificates() throws Exception {
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "2", "-keyout", "ca.key",
                "-out", "ca.pem");
        for (String name : List.of("engine.test", "worker.test")) {
            openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", "r");
            Files.writeString(at("ext"), "subjectAltName=DNS:" + name + "\n");
            openssl("x509", "-req", "-in", "r", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext",
                    "-days", "2", "-out", name + ".pem");
        }
    }

    private EmbeddedEngine secured() {
        Map<String, Object> tls = Map.of("cert", at("engine.test.pem").toString(), "key", at("engine.test.key").toString());
        return session.engine(EmbeddedEngine.builder().config("grpc", Map.of("tls", tls)));
    }

    @Test
    void an_engine_whose_certificate_is_vouched_for_is_taken_and_others_are_not() throws Exception {
        certificates();
        EmbeddedEngine engine = secured();
        AmxEngineBuilder trusted = AmxEngine.builder().withAddress(engine.address());
        assertEquals("over the wire", asks(trusted.withTls(new Tls(at("ca.pem"), null, null, "engine.test"))));
        Map<String, Object> tls = Map.of("ca", at("ca.pem").toString(), "server_name", "engine.test");
        assertEquals(
                "over the wire",
                asks(AmxEngine.builder().withConfig(
                        Map.of("engine", Map.of("address", engine.address(), "tls", tls)))));
        AmxEngineBuilder unknown = AmxEngine.builder().withAddress(engine.address());
        assertEquals("ENGINE_UNREACHABLE", refused(unknown.withTls(new Tls(null, null, null, "engine.test"))).reason());
        AmxEngineBuilder other = AmxEngine.builder().withAddress(engine.address());
        assertEquals(
                "ENGINE_UNREACHABLE", refused(other.withTls(new Tls(at("ca.pem"), null, null, "other.test"))).reason());
        AmxEngineBuilder plain = AmxEngine.builder().withAddress(engine.address());
        assertEquals("ENGINE_UNREACHABLE", refused(plain).reason());
    }

    @Test
    void certificates_that_cannot_be_read_are_named() {
        AmxException error =
                refused(
                        AmxEngine.builder()
                                .withAddress("localhost:1")
                                .withTls(new Tls(at("none.pem"), null, null, "")));
        assertEquals("TLS_FILES", error.reason());
        assertEquals(true, error.getMessage().contains("none.pem"), error.getMessage());
    }
}
