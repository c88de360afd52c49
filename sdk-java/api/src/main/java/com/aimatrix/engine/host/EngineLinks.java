package com.aimatrix.engine.host;

import com.aimatrix.engine.core.Environment;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.spec.EngineCalls;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/**
 * Links to several engines that share one address: agents are hosted on all, each call goes to the owner of its
 * instance. Each of them lives, is lost and is resumed by itself.
 */
public final class EngineLinks implements EngineLink {
    private final List<Link> links;
    private final OwnedCalls calls;
    private final CompletableFuture<Void> ended = new CompletableFuture<>();

    /**
     * Links that are not open.
     *
     * @param links one to each engine, in order of their numbers
     * @param namespace they act in; empty: the default one
     * @param environment for waits, by any thread
     */
    public EngineLinks(List<Link> links, String namespace, Environment environment) {
        this.links = List.copyOf(links);
        this.calls = new OwnedCalls(links.stream().map(Link::calls).toList(), namespace, environment);
        for (Link link : links) {
            // One that is refused for good is the end of all.
            link.ended().whenComplete((done, error) -> {
                if (error != null) {
                    ended.completeExceptionally(error);
                }
            });
        }
        all(links.stream().map(Link::ended).toList()).thenRun(() -> ended.complete(null));
    }

    @Override
    public EngineCalls calls() {
        return calls;
    }

    @Override
    public CompletableFuture<Void> ended() {
        return ended;
    }

    @Override
    public boolean connected() {
        return links.stream().allMatch(Link::connected);
    }

    @Override
    public CompletableFuture<Void> open(double patienceMs) {
        CompletableFuture<Void> opened = new CompletableFuture<>();
        List<CompletableFuture<Void>> openings = links.stream().map(link -> link.open(patienceMs)).toList();
        for (CompletableFuture<Void> one : openings) {
            one.whenComplete((done, error) -> {
                if (error != null) {
                    opened.completeExceptionally(error); // the first one says why
                }
            });
        }
        all(openings).thenRun(() -> opened.complete(null));
        return opened;
    }

    @Override
    public CompletableFuture<Void> close(double deadlineMs) {
        calls.closing();
        return all(links.stream().map(link -> link.close(deadlineMs)).toList());
    }

    @Override
    public CompletableFuture<Void> register(Collection<AgentSpec> agents, Collection<String> removed) {
        // If one refuses, those before it have taken them.
        CompletableFuture<Void> registered = CompletableFuture.completedFuture(null);
        for (Link link : links) {
            registered = registered.thenCompose(done -> link.register(agents, removed));
        }
        return registered;
    }

    private static CompletableFuture<Void> all(List<CompletableFuture<Void>> some) {
        return CompletableFuture.allOf(some.toArray(CompletableFuture[]::new));
    }
}
