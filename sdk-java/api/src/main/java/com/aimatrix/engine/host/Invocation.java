package com.aimatrix.engine.host;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.v1.Invoke;

/** An Invoke at work. */
final class Invocation extends Run {
    final Invoke invoke;
    /** Nanoseconds at which its turn came. */
    long started;
    /** Chunks that its reader takes. */
    int window;
    /** Goes on with the handler's stream when the window opens, or it is stopped. */
    Runnable reader;

    Invocation(AgentHost host, long id, Activation activation, Invoke invoke) {
        super(host, id, activation, invoke.getMessage());
        this.invoke = invoke;
        if (invoke.getTimeoutMs() > 0) {
            deadline = host.now() + invoke.getTimeoutMs();
        }
    }

    @Override
    public int attempt() {
        return invoke.getAttempt();
    }

    @Override
    public boolean streaming() {
        return invoke.getStreaming();
    }

    @Override
    void stop(AmxException why) {
        super.stop(why);
        if (reader != null) {
            reader.run();
        }
    }
}
