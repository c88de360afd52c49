package com.aimatrix.engine.spring;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.errors.AmxException;
import java.util.concurrent.CountDownLatch;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.context.SmartLifecycle;

/**
 * Starts the AmxEngine with the application, before its web server takes requests, and stops it after that has
 * finished: what handlers do may be asked for over HTTP.
 */
public final class AmxEngineLifecycle implements SmartLifecycle {
    /** Before web servers start (2,048 less than the default), after they have stopped. */
    static final int PHASE = SmartLifecycle.DEFAULT_PHASE - 4096;

    private static final Logger LOG = LoggerFactory.getLogger(AmxEngineLifecycle.class);

    private final AmxEngine engine;
    private final AmxProperties properties;
    private final boolean hosting;
    private CountDownLatch stopped; // guarded by this; null: nothing keeps the process alive

    AmxEngineLifecycle(AmxEngine engine, AmxProperties properties, boolean hosting) {
        this.engine = engine;
        this.properties = properties;
        this.hosting = hosting;
    }

    @Override
    public void start() {
        if (engine.started()) {
            return;
        }
        engine.start(properties.patience());
        engine.closed().whenComplete((done, error) -> {
            if (error instanceof AmxException refused) {
                String reason = refused.reason();
                LOG.error("the engine at {} refuses this link for good [{}]", engine.address(), reason, refused);
            }
        });
        if (hosting && properties.keepAlive()) {
            keepAlive();
        }
    }

    /** Threads of the SDK end with the process; an application of nothing but agents shall stay. */
    private synchronized void keepAlive() {
        CountDownLatch until = new CountDownLatch(1);
        Thread thread =
                new Thread(
                        () -> {
                            try {
                                until.await();
                            } catch (InterruptedException ended) {
                                Thread.currentThread().interrupt();
                            }
                        },
                        "amx-keep-alive");
        thread.setDaemon(false);
        thread.start();
        stopped = until;
    }

    @Override
    public void stop() {
        try {
            engine.stop(properties.shutdownTimeout());
        } finally {
            synchronized (this) {
                if (stopped != null) {
                    stopped.countDown();
                    stopped = null;
                }
            }
        }
    }

    @Override
    public void stop(Runnable callback) {
        // On a thread of its own: what else stops in this phase need not wait for handlers.
        Thread thread =
                new Thread(
                        () -> {
                            try {
                                stop();
                            } finally {
                                callback.run();
                            }
                        },
                        "amx-stop");
        thread.start();
    }

    @Override
    public boolean isRunning() {
        return engine.started();
    }

    @Override
    public boolean isAutoStartup() {
        return properties.autoStart();
    }

    @Override
    public int getPhase() {
        return PHASE;
    }
}
