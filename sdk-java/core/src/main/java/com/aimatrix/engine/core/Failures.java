package com.aimatrix.engine.core;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.v1.Failure;
import com.aimatrix.engine.v1.Payload;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;

/** Exceptions as failures and back: what one process throws, another throws with the same reason, message and causes. */
public final class Failures {
    // Bounds on what one exception may put on the wire, in bytes of UTF-8.
    private static final int MAX_MESSAGE = 4096;
    private static final int MAX_STACK = 16384;
    private static final int MAX_CAUSES = 8;
    private static final int MAX_METADATA = 32;
    private static final int MAX_DETAILS = 65536; // of all
    private static final int MAX_SOURCE = 1024;

    private final Function<Object, Payload> encode;
    private final Function<Payload, Object> decode;

    /**
     * Failures whose details have a form.
     *
     * @param encode a detail as it travels; throws if it has no JSON form
     * @param decode the other way
     */
    public Failures(Function<Object, Payload> encode, Function<Payload, Object> decode) {
        this.encode = encode;
        this.decode = decode;
    }

    /**
     * The failure that tells another process of a throwable.
     *
     * <p>AmxExceptions keep their reason; others get HANDLER_FAILED, are retryable, and name their type in
     * `metadata.exception`. Causes travel up to 8 deep; message and stack are cut to 4 KiB and 16 KiB; of the details
     * those travel that have a JSON form and fit into 64 KiB together. Never throws.
     *
     * @param error whatever was thrown
     * @param source where: `agent/key#handler`
     * @return as it travels
     */
    public Failure of(Throwable error, String source) {
        List<Throwable> chain = new ArrayList<>();
        Set<Throwable> seen = Collections.newSetFromMap(new IdentityHashMap<>());
        for (Throwable at = error; at != null && chain.size() < MAX_CAUSES && seen.add(at); at = at.getCause()) {
            chain.add(at);
        }
        Failure failure = null;
        for (int index = chain.size() - 1; index >= 0; index--) {
            Failure.Builder described = describe(chain.get(index), source);
            if (failure != null) {
                described.setCause(failure);
            }
            failure = described.build();
        }
        return failure;
    }

    /**
     * The exception that a failure describes, with its causes. Never throws.
     *
     * @param failure as it travelled
     * @return to be thrown
     */
    public AmxException exception(Failure failure) {
        List<Failure> chain = new ArrayList<>();
        Failure at = failure;
        while (true) {
            chain.add(at);
            if (!at.hasCause() || chain.size() >= MAX_CAUSES) {
                break;
            }
            at = at.getCause();
        }
        AmxException error = null;
        for (int index = chain.size() - 1; index >= 0; index--) {
            Failure link = chain.get(index);
            List<Object> details = new ArrayList<>();
            for (Payload payload : link.getDetailsList()) {
                details.add(detail(payload));
            }
            details.removeIf(value -> value == null);
            error =
                    new AmxException.Facts(
                                    Code.of(link.getCode()),
                                    link.getReason().isEmpty() ? "UNKNOWN" : link.getReason(),
                                    link.getMessage())
                            .retryable(link.getRetryable())
                            .retryAfter(Duration.ofMillis(link.getRetryDelayMs()))
                            .metadata(link.getMetadataMap())
                            .details(details)
                            .cause(error)
                            .from(link.getSource(), link.getStackTrace())
                            .exception();
        }
        return error;
    }

    /**
     * A failure without a stack: of something that happened before any handler ran.
     *
     * @param error why
     * @return as it travels
     */
    public static Failure plain(AmxException error) {
        return facts(error).setMessage(error.getMessage()).setSource(error.source()).build();
    }

    private Failure.Builder describe(Throwable error, String source) {
        try {
            return described(error, source);
        } catch (RuntimeException undescribable) {
            // A getter of the exception threw.
            return Failure.newBuilder()
                    .setCode(Code.UNKNOWN.number())
                    .setReason("HANDLER_FAILED")
                    .setMessage("an exception that cannot be described was thrown")
                    .setRetryable(true)
                    .setSource(text(source, MAX_SOURCE));
        }
    }

    private Failure.Builder described(Throwable error, String source) {
        String message = error.getMessage();
        if (message == null || message.isEmpty()) {
            message = error.getClass().getSimpleName();
        }
        if (error instanceof AmxException own) {
            Failure.Builder failure = facts(own);
            String stack = own.remoteStack().isEmpty() ? stackOf(error) : own.remoteStack();
            addDetails(own.details(), failure);
            return failure.setMessage(text(message, MAX_MESSAGE))
                    .setStackTrace(text(stack, MAX_STACK))
                    .setSource(text(own.source().isEmpty() ? source : own.source(), MAX_SOURCE));
        }
        // An exception nobody classified may be a passing trouble: whether it is repeated is the retry policy's decision.
        return Failure.newBuilder()
                .setCode(Code.UNKNOWN.number())
                .setReason("HANDLER_FAILED")
                .setMessage(text(message, MAX_MESSAGE))
                .setRetryable(true)
                .putMetadata("exception", text(error.getClass().getSimpleName(), 256))
                .setStackTrace(text(stackOf(error), MAX_STACK))
                .setSource(text(source, MAX_SOURCE));
    }

    private static Failure.Builder facts(AmxException error) {
        Failure.Builder failure =
                Failure.newBuilder()
                        .setCode(error.code().number())
                        .setReason(error.reason())
                        .setRetryable(error.retryable())
                        .setRetryDelayMs(Math.max(0, error.retryDelay().toMillis()));
        int count = 0;
        for (Map.Entry<String, String> fact : error.metadata().entrySet()) {
            if (count++ >= MAX_METADATA) {
                break;
            }
            failure.putMetadata(text(fact.getKey(), 256), text(fact.getValue(), 1024));
        }
        return failure;
    }

    private void addDetails(List<Object> values, Failure.Builder failure) {
        int room = MAX_DETAILS;
        for (Object value : values) {
            Payload payload;
            try {
                payload = encode.apply(value);
            } catch (RuntimeException noForm) {
                continue; // what has no JSON form stays here
            }
            room -= payload.getData().size() + 16;
            if (room < 0) {
                return;
            }
            failure.addDetails(payload);
        }
    }

    private Object detail(Payload payload) {
        try {
            return decode.apply(payload);
        } catch (RuntimeException notJson) {
            return payload.getData().toByteArray();
        }
    }

    private static String stackOf(Throwable error) {
        StringWriter text = new StringWriter();
        error.printStackTrace(new PrintWriter(text));
        return text.toString();
    }

    /** At most `limit` bytes of well-formed text, marked where something was cut. */
    private static String text(String value, int limit) {
        // Encoding replaces lone surrogates, which have no form in UTF-8.
        byte[] data = value.getBytes(StandardCharsets.UTF_8);
        if (data.length <= limit) {
            return new String(data, StandardCharsets.UTF_8);
        }
        int end = limit - 8;
        while (end > 0 && (data[end] & 0xC0) == 0x80) {
            end--; // not in the middle of a character
        }
        return new String(data, 0, end, StandardCharsets.UTF_8) + " [cut]";
    }
}
