package com.aimatrix.engine;

import com.aimatrix.engine.core.Environment;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.host.EngineLink;
import com.aimatrix.engine.host.EngineLinks;
import com.aimatrix.engine.host.Link;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.transport.Connector;
import com.aimatrix.engine.transport.GrpcConnector;
import com.aimatrix.engine.transport.LinkThread;
import com.aimatrix.engine.v1.SoftwareInfo;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;

/** An AmxEngine between its start and its stop: the link, and what was made for it. Safe for several threads. */
final class Running {
    private static final String VERSION = "0.1.0";
    private static final long WELCOME_MS = 1000;

    private final AmxEngineBuilder.Parts parts;
    private final List<AgentSpec> agents;
    private final List<LinkThread> threads = new ArrayList<>(); // guarded by this
    private final ExecutorService handlers; // null: the application gave others
    private final Environment environment;
    private final Connector connector;
    private final Link first;
    private volatile EngineLink link;
    private boolean closed; // guarded by this

    /** Connects to nothing yet. */
    Running(AmxEngineBuilder.Parts parts, List<AgentSpec> agents) {
        this.parts = parts;
        this.agents = agents;
        this.handlers = parts.executor() == null ? HandlerThreads.create(parts.concurrency()) : null;
        this.environment = environment();
        this.connector =
                parts.connector() == null
                        ? new GrpcConnector(parts.address(), parts.token(), parts.tls(), environment)
                        : parts.connector();
        this.first = linkTo(connector, environment, parts.concurrency(), false);
        this.link = first;
    }

    /** The link; another one as soon as several engines were found. */
    EngineLink link() {
        return link;
    }

    /** Connects; to all engines, if several share the address. Throws as `AmxEngine.start`; it is to be closed then. */
    void open(long patienceMs) {
        Calls.await(first.open(patienceMs));
        List<String> engines = first.engines();
        if (engines.isEmpty()) {
            return;
        }
        String namespace = first.namespace().join();
        first.close(0).join();
        EngineLinks all = linksTo(engines, namespace);
        synchronized (this) {
            if (closed) {
                throw new AmxException(Code.UNAVAILABLE, "SHUTTING_DOWN", "this AmxEngine was stopped while it started");
            }
            link = all;
        }
        Calls.await(all.open(Math.max(patienceMs, WELCOME_MS)));
    }

    /** Leaves: what runs may finish within that time. */
    void close(long deadlineMs) {
        EngineLink last;
        synchronized (this) {
            closed = true;
            last = link;
        }
        last.close(deadlineMs).join();
        if (handlers != null) {
            handlers.shutdown();
        }
        synchronized (this) {
            threads.forEach(LinkThread::close);
        }
    }

    /** Links to the engines that share the address. Each may run its part of `concurrency`. */
    private EngineLinks linksTo(List<String> engines, String namespace) {
        int concurrency = (parts.concurrency() + engines.size() - 1) / engines.size();
        List<Link> links = new ArrayList<>();
        for (String engine : engines) {
            Environment its = links.isEmpty() ? environment : environment();
            Connector way = connector.at(engine, its);
            if (way == null) {
                throw new AmxException(
                        Code.FAILED_PRECONDITION,
                        "ENGINES_CHANGED",
                        engines.size() + " engines share " + connector.address()
                                + ", and its connector leads to one only; give it at()");
            }
            links.add(linkTo(way, its, concurrency, true));
        }
        return new EngineLinks(links, namespace, environment);
    }

    private synchronized Environment environment() {
        if (parts.environment() != null) {
            return parts.environment();
        }
        LinkThread thread = new LinkThread();
        threads.add(thread);
        return thread;
    }

    private Link linkTo(Connector way, Environment its, int concurrency, boolean enginesKnown) {
        String language = parts.language().isEmpty() ? its.language() : parts.language() + ", " + its.language();
        SoftwareInfo software =
                SoftwareInfo.newBuilder()
                        .setName(parts.sdk())
                        .setVersion(VERSION)
                        .setLanguage(language)
                        .build();
        return new Link(
                way,
                its,
                software,
                agents,
                handlers == null ? parts.executor() : handlers,
                Calls.failures(parts.json()),
                concurrency,
                parts.config(),
                enginesKnown);
    }
}
