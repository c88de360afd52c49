package com.aimatrix.engine.spring;

import com.aimatrix.engine.AmxEngine;
import org.springframework.boot.actuate.autoconfigure.health.ConditionalOnEnabledHealthIndicator;
import org.springframework.boot.actuate.health.AbstractHealthIndicator;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.context.annotation.Bean;

/** The link to the engine as part of the application's health, where there is the Actuator. */
@AutoConfiguration(after = AmxAutoConfiguration.class)
@ConditionalOnClass({AbstractHealthIndicator.class, ConditionalOnEnabledHealthIndicator.class})
@ConditionalOnBean(AmxEngine.class)
public class AmxHealthAutoConfiguration {
    /** For the container. */
    public AmxHealthAutoConfiguration() {}

    @Bean
    @ConditionalOnEnabledHealthIndicator("amx")
    @ConditionalOnMissingBean(name = "amxHealthIndicator")
    AmxHealthIndicator amxHealthIndicator(AmxEngine engine) {
        return new AmxHealthIndicator(engine);
    }
}
