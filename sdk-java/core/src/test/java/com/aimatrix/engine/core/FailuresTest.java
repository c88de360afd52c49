package com.aimatrix.engine.core;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.v1.Failure;
import com.aimatrix.engine.v1.Payload;
import com.google.protobuf.ByteString;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class FailuresTest {
    private final Failures failures =
            new Failures(
                    value -> {
                        if (!(value instanceof String)) {
                            throw new IllegalArgumentException("no form");
                        }
                        return Payload.newBuilder().setData(ByteString.copyFromUtf8((String) value)).build();
                    },
                    payload -> payload.getData().toStringUtf8());

    @Test
    void ownExceptionKeepsEverythingBothWays() {
        AmxException thrown =
                new AmxException.Facts(Code.NOT_FOUND, "NO_SEAT", "seat 4A is taken")
                        .retryable(true)
                        .retryAfter(Duration.ofMillis(250))
                        .metadata(Map.of("seat", "4A"))
                        .details(List.of("try 4B", new Object()))
                        .cause(new IllegalStateException("why"))
                        .exception();
        AmxException back = failures.exception(failures.of(thrown, "Booking/7#book"));
        assertEquals(Code.NOT_FOUND, back.code());
        assertEquals("NO_SEAT", back.reason());
        assertEquals("seat 4A is taken", back.getMessage());
        assertTrue(back.retryable());
        assertEquals(Duration.ofMillis(250), back.retryDelay());
        assertEquals(Map.of("seat", "4A"), back.metadata());
        assertEquals(List.of("try 4B"), back.details());
        assertEquals("Booking/7#book", back.source());
        assertTrue(back.remoteStack().contains("FailuresTest"));
        AmxException cause = assertInstanceOf(AmxException.class, back.getCause());
        assertEquals("HANDLER_FAILED", cause.reason());
        assertEquals("IllegalStateException", cause.metadata().get("exception"));
    }

    @Test
    void unclassifiedExceptionIsRetryableAndNamesItsType() {
        Failure failure = failures.of(new NullPointerException(), "a/b#c");
        assertEquals("HANDLER_FAILED", failure.getReason());
        assertTrue(failure.getRetryable());
        assertEquals("NullPointerException", failure.getMessage());
    }

    @Test
    void causesThatRepeatOrNeverEndAreCut() {
        Exception first = new Exception("first");
        Exception second = new Exception("second", first);
        first.initCause(second);
        int depth = 0;
        for (Failure at = failures.of(second, ""); ; at = at.getCause()) {
            depth++;
            if (!at.hasCause()) {
                break;
            }
        }
        assertEquals(2, depth);
        Exception deep = new Exception("0");
        for (int index = 1; index < 100; index++) {
            deep = new Exception(String.valueOf(index), deep);
        }
        depth = 0;
        for (Failure at = failures.of(deep, ""); ; at = at.getCause()) {
            depth++;
            if (!at.hasCause()) {
                break;
            }
        }
        assertEquals(8, depth);
    }

    @Test
    void longTextsAreCutBetweenCharacters() {
        Failure failure = failures.of(new IllegalStateException("ä".repeat(5000)), "s");
        assertTrue(failure.getMessage().getBytes(StandardCharsets.UTF_8).length <= 4096);
        assertTrue(failure.getMessage().endsWith("ä [cut]"));
        assertTrue(failure.getStackTrace().getBytes(StandardCharsets.UTF_8).length <= 16384);
    }

    @Test
    void exceptionWhoseMessageThrowsIsStillAFailure() {
        RuntimeException broken =
                new RuntimeException() {
                    private static final long serialVersionUID = 1L;

                    @Override
                    public String getMessage() {
                        throw new IllegalStateException("no message");
                    }
                };
        assertEquals("HANDLER_FAILED", failures.of(broken, "s").getReason());
    }

    @Test
    void plainFailureHasNoStack() {
        Failure failure = Failures.plain(new AmxException(Code.NOT_FOUND, "AGENT_UNKNOWN", "no such agent"));
        assertTrue(failure.getStackTrace().isEmpty());
        assertFalse(failure.getRetryable());
    }
}
