package com.aimatrix.engine.spring;

import com.aimatrix.engine.AmxEngine;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.binder.MeterBinder;
import org.springframework.boot.actuate.autoconfigure.metrics.CompositeMeterRegistryAutoConfiguration;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.context.annotation.Bean;

/** Durations of handlers and the state of the link as meters, where there are Micrometer and the Actuator. */
@AutoConfiguration(after = {AmxAutoConfiguration.class, CompositeMeterRegistryAutoConfiguration.class})
@ConditionalOnClass({MeterRegistry.class, CompositeMeterRegistryAutoConfiguration.class})
@ConditionalOnBean({AmxEngine.class, MeterRegistry.class})
public class AmxMetricsAutoConfiguration {
    /** For the container. */
    public AmxMetricsAutoConfiguration() {}

    @Bean
    AgentDecorator amxAgentMetrics(MeterRegistry registry) {
        return agent -> new MeasuredAgent(agent, registry);
    }

    @Bean
    MeterBinder amxLinkMetrics(AmxEngine engine) {
        return registry ->
                Gauge.builder("amx.link.connected", engine, one -> one.connected() ? 1 : 0)
                        .description("1 while the link to the engine is open")
                        .register(registry);
    }
}
