package com.aimatrix.engine.host;

import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.EngineCalls;
import java.util.Collection;
import java.util.concurrent.CompletableFuture;

/** What an application has of the engine, be it one or several: it is opened once, and lives until it is closed. */
public sealed interface EngineLink permits Link, EngineLinks {
    /**
     * The engine.
     *
     * @return by any thread
     */
    EngineCalls calls();

    /**
     * The end of the link.
     *
     * @return done when it was closed; fails if the engine refused to have it back
     */
    CompletableFuture<Void> ended();

    /**
     * Whether there is a connection now. Calls may be made either way.
     *
     * @return to every engine, if there are several
     */
    boolean connected();

    /**
     * Connects.
     *
     * @param patienceMs how long an engine that cannot be reached is tried again, once at least; 0: one attempt
     * @return done when the engine has said Welcome; fails with AmxException ENGINE_UNREACHABLE, or the reason for
     *     which the engine refused the link
     */
    CompletableFuture<Void> open(double patienceMs);

    /**
     * Ends the link: no new invocations, what runs may finish within `deadlineMs`, then it is cancelled. Calls that are
     * still in flight fail with SHUTTING_DOWN.
     *
     * @param deadlineMs milliseconds
     * @return done when it has ended
     */
    CompletableFuture<Void> close(double deadlineMs);

    /**
     * Hosts more agents, or newer versions, and no longer those removed.
     *
     * @param agents that join
     * @param removed names of those that leave
     * @return done when the engine has agreed; fails if it refuses them
     */
    CompletableFuture<Void> register(Collection<AgentSpec> agents, Collection<String> removed);
}
