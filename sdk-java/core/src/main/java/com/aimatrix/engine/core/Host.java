package com.aimatrix.engine.core;

import com.aimatrix.engine.v1.Activate;
import com.aimatrix.engine.v1.Deliver;
import com.aimatrix.engine.v1.Invoke;
import java.util.List;

/** Runs what the engine asks for. Called in the order things arrived; must not throw. */
public interface Host {
    /**
     * Run a handler; answer with a Complete.
     *
     * @param id of the invocation
     * @param invoke what
     */
    void invoke(long id, Invoke invoke);

    /**
     * Hand one event to many activations; answer with a Delivered.
     *
     * @param id of the delivery
     * @param deliver what
     */
    void deliver(long id, Deliver deliver);

    /**
     * Prepare an activation for deliveries.
     *
     * @param activate which
     */
    void activate(Activate activate);

    /**
     * Forget activations.
     *
     * @param epochs their numbers
     */
    void deactivate(List<Long> epochs);

    /**
     * Stop an invocation or delivery.
     *
     * @param id of it
     * @param reason for people
     */
    void cancel(long id, String reason);

    /**
     * The reader of an invocation's stream takes more chunks.
     *
     * @param id of the invocation
     * @param chunks how many more
     */
    void grantChunks(long id, int chunks);

    /** The session is gone: stop everything, answer nothing. */
    void abandon();
}
