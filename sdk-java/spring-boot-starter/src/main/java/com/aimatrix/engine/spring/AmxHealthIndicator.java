package com.aimatrix.engine.spring;

import com.aimatrix.engine.AmxEngine;
import org.springframework.boot.actuate.health.AbstractHealthIndicator;
import org.springframework.boot.actuate.health.Health;

/** UP while the link to the engine is open, DOWN while it is lost, OUT_OF_SERVICE before it is started and after. */
public final class AmxHealthIndicator extends AbstractHealthIndicator {
    private final AmxEngine engine;

    /**
     * The health of one link.
     *
     * @param engine whose link it is
     */
    public AmxHealthIndicator(AmxEngine engine) {
        super("the state of the link to the AMX engine cannot be told");
        this.engine = engine;
    }

    @Override
    protected void doHealthCheck(Health.Builder health) {
        health.withDetail("address", engine.address());
        if (engine.connected()) {
            health.up();
        } else if (engine.started()) {
            health.down().withDetail("reason", "the link is lost; it is being opened again");
        } else {
            health.outOfService().withDetail("reason", "the AmxEngine is not started");
        }
    }
}
