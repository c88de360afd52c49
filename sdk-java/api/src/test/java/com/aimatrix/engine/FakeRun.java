package com.aimatrix.engine;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.spec.EngineCalls;
import com.aimatrix.engine.spec.HandlerRun;
import com.aimatrix.engine.v1.Effects;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.function.Consumer;

/** A run without a host: what was staged can be looked at. */
final class FakeRun implements HandlerRun {
    final Effects.Builder effects = Effects.newBuilder();
    final com.aimatrix.engine.v1.Message message;
    final EngineCalls calls;
    boolean ended;

    FakeRun(com.aimatrix.engine.v1.Message message, EngineCalls calls) {
        this.message = message;
        this.calls = calls;
    }

    @Override
    public String agent() {
        return "Tested";
    }

    @Override
    public String key() {
        return "k";
    }

    @Override
    public String handler() {
        return message.getHandler();
    }

    @Override
    public com.aimatrix.engine.v1.Message message() {
        return message;
    }

    @Override
    public String topic() {
        return message.getTopic();
    }

    @Override
    public long invocationId() {
        return 7;
    }

    @Override
    public int attempt() {
        return 1;
    }

    @Override
    public OptionalDouble remainingMs() {
        return OptionalDouble.of(1500);
    }

    @Override
    public boolean streaming() {
        return false;
    }

    @Override
    public AmxException stopped() {
        return null;
    }

    @Override
    public void onStop(Consumer<AmxException> callback) {}

    @Override
    public boolean ended() {
        return ended;
    }

    @Override
    public void stage(Consumer<Effects.Builder> change) {
        if (ended) {
            throw new AmxException(Code.FAILED_PRECONDITION, "NO_CONTEXT", "it has ended");
        }
        change.accept(effects);
    }

    @Override
    public EngineCalls calls() {
        return calls;
    }

    @Override
    public Map<String, Object> config() {
        return Map.of("a", 1);
    }
}
