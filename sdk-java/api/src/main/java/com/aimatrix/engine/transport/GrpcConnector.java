package com.aimatrix.engine.transport;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import io.grpc.CallOptions;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;
import java.util.concurrent.Executor;

/** Reaches an engine over gRPC: TCP, TLS or a Unix socket. */
public final class GrpcConnector implements Connector {
    // gRPC must know before Welcome says what the engine's limits are: no engine takes or sends items of more than 1 GiB.
    private static final int MAX_MESSAGE_BYTES = (1 << 30) + (1 << 20);
    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    private static final MethodDescriptor<byte[], byte[]> OPEN =
            MethodDescriptor.<byte[], byte[]>newBuilder()
                    .setType(MethodDescriptor.MethodType.BIDI_STREAMING)
                    .setFullMethodName("amx.v1.LinkService/Open")
                    .setRequestMarshaller(new Bytes())
                    .setResponseMarshaller(new Bytes())
                    .build();

    private final String address;
    private final String token;
    private final Tls tls;
    private final Executor loop;

    /**
     * How to recognise the engine, and how to be recognised by it.
     *
     * @param ca PEM file of who vouches for the engine; null: the system's authorities
     * @param certificate PEM file of this process; null: it shows none
     * @param key PEM file of its private key; null with certificate null
     * @param serverName name that the engine's certificate must have; empty: its address
     */
    public record Tls(Path ca, Path certificate, Path key, String serverName) {}

    /**
     * A way to an engine.
     *
     * @param address `host:port` or `unix:/path`
     * @param token sent as `authorization: Bearer`; empty: none
     * @param tls null: plain text
     * @param loop runs callbacks: the link's thread
     */
    public GrpcConnector(String address, String token, Tls tls, Executor loop) {
        this.address = address;
        this.token = token;
        this.tls = tls;
        this.loop = loop;
    }

    @Override
    public String address() {
        return address;
    }

    @Override
    public Connector at(String engine, Executor otherLoop) {
        String host = address.substring(0, Math.max(0, address.lastIndexOf(':')));
        return new GrpcConnector(engine.startsWith(":") ? host + engine : engine, token, tls, otherLoop);
    }

    @Override
    public Connection connect(Events events) {
        ChannelCredentials credentials;
        try {
            credentials = tls == null ? InsecureChannelCredentials.create() : tlsCredentials();
        } catch (IOException error) {
            throw new AmxException.Facts(
                            Code.INVALID_ARGUMENT,
                            "TLS_FILES",
                            "a certificate or key cannot be read: " + error.getMessage())
                    .cause(error)
                    .exception();
        }
        ManagedChannelBuilder<?> builder =
                Grpc.newChannelBuilder(address, credentials)
                        .maxInboundMessageSize(MAX_MESSAGE_BYTES)
                        .disableRetry()
                        .directExecutor();
        if (tls != null && !tls.serverName().isEmpty()) {
            builder.overrideAuthority(tls.serverName());
        }
        return new GrpcConnection(builder.build(), events);
    }

    private ChannelCredentials tlsCredentials() throws IOException {
        TlsChannelCredentials.Builder builder = TlsChannelCredentials.newBuilder();
        if (tls.ca() != null) {
            builder.trustManager(tls.ca().toFile());
        }
        if (tls.certificate() != null) {
            builder.keyManager(tls.certificate().toFile(), tls.key().toFile());
        }
        return builder.build();
    }

    private static final class Bytes implements MethodDescriptor.Marshaller<byte[]> {
        @Override
        public InputStream stream(byte[] value) {
            return new ByteArrayInputStream(value);
        }

        @Override
        public byte[] parse(InputStream stream) {
            try (stream) {
                return stream.readAllBytes();
            } catch (IOException error) {
                throw Status.INTERNAL.withCause(error).asRuntimeException();
            }
        }
    }

    private final class GrpcConnection extends ClientCall.Listener<byte[]> implements Connection {
        private final ManagedChannel channel;
        private final ClientCall<byte[], byte[]> call;
        private final Events events;
        private boolean over; // on the loop
        private Runnable taken; // on the loop: waits until the transport is ready again

        GrpcConnection(ManagedChannel channel, Events events) {
            this.channel = channel;
            this.events = events;
            this.call = channel.newCall(OPEN, CallOptions.DEFAULT);
            Metadata metadata = new Metadata();
            if (!token.isEmpty()) {
                metadata.put(AUTHORIZATION, "Bearer " + token);
            }
            call.start(this, metadata);
            call.request(2);
            loop.execute(
                    () -> {
                        if (!over) {
                            events.opened();
                        }
                    });
        }

        @Override
        public void send(byte[] frame, Runnable whenTaken) {
            if (over) {
                return;
            }
            call.sendMessage(frame);
            if (call.isReady()) {
                loop.execute(
                        () -> {
                            if (!over) {
                                whenTaken.run();
                            }
                        });
            } else {
                taken = whenTaken;
            }
        }

        @Override
        public void close() {
            if (!over) {
                over = true;
                call.cancel("the link has closed this connection", null);
                channel.shutdownNow();
            }
        }

        @Override
        public void onReady() {
            loop.execute(
                    () -> {
                        Runnable next = taken;
                        if (!over && next != null && call.isReady()) {
                            taken = null;
                            next.run();
                        }
                    });
        }

        @Override
        public void onMessage(byte[] frame) {
            loop.execute(
                    () -> {
                        if (!over) {
                            events.received(frame);
                            call.request(1);
                        }
                    });
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            loop.execute(
                    () -> {
                        if (!over) {
                            over = true;
                            channel.shutdownNow();
                            String details = details(status);
                            events.lost(
                                    "the connection to " + address + " ended with " + status.getCode() + details,
                                    refusal(status.getCode(), details));
                        }
                    });
        }

        /** What gRPC says, and the cause that it keeps to itself: "io exception" alone helps nobody. */
        private String details(Status status) {
            String said = status.getDescription() == null ? "" : ": " + status.getDescription();
            Throwable cause = status.getCause();
            return cause == null || cause.getMessage() == null ? said : said + " (" + cause.getMessage() + ")";
        }

        private AmxException refusal(Status.Code code, String details) {
            return switch (code) {
                case UNAUTHENTICATED ->
                        new AmxException(
                                Code.UNAUTHENTICATED,
                                "UNAUTHENTICATED",
                                "the engine at " + address + " does not know this token" + details
                                        + "; set AMX_TOKEN, withToken(), or engine.token in the configuration");
                case PERMISSION_DENIED ->
                        new AmxException(
                                Code.PERMISSION_DENIED, "PERMISSION_DENIED", "the engine refused the link" + details);
                case UNIMPLEMENTED ->
                        new AmxException(
                                Code.FAILED_PRECONDITION,
                                "NOT_AN_ENGINE",
                                "what listens at " + address + " is not an AMX engine; check the address");
                default -> null;
            };
        }
    }
}
