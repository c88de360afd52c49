package com.aimatrix.engine.spring;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.AmxEngineBuilder;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.spec.AgentSpec;
import com.aimatrix.engine.transport.GrpcConnector;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnProperty;
import org.springframework.boot.context.properties.EnableConfigurationProperties;
import org.springframework.context.annotation.Bean;

/**
 * An AmxEngine that hosts the agents among the beans, and lives as long as the application. With an AmxEngine bean of
 * the application's own, only that one's life is looked after.
 */
@AutoConfiguration
@ConditionalOnProperty(prefix = "amx", name = "enabled", matchIfMissing = true)
@EnableConfigurationProperties(AmxProperties.class)
public class AmxAutoConfiguration {
    /** For the container. */
    public AmxAutoConfiguration() {}

    @Bean
    static AgentBeans amxAgentBeans() {
        return new AgentBeans();
    }

    @Bean(destroyMethod = "close")
    @ConditionalOnMissingBean
    AmxEngine amxEngine(
            AmxProperties properties,
            AgentBeans beans,
            ConfigurableListableBeanFactory factory,
            ObjectProvider<Json> json,
            ObjectProvider<AgentDecorator> decorators,
            ObjectProvider<AmxEngineCustomizer> customizers) {
        Json values = json.getIfUnique(Json::standard);
        AmxEngineBuilder builder =
                AmxEngine.builder()
                        .withJson(values)
                        .withAddress(properties.address())
                        .withToken(properties.token())
                        .withConfig(properties.config());
        if (properties.concurrency() != 0) {
            builder.withConcurrency(properties.concurrency());
        }
        AmxProperties.Tls tls = properties.tls();
        if (tls.wanted()) {
            builder.withTls(
                    new GrpcConnector.Tls(tls.ca(), tls.certificate(), tls.privateKey(), tls.serverName()));
        }
        for (AgentSpec agent : beans.compile(factory, values)) {
            AgentSpec hosted = agent;
            for (AgentDecorator decorator : decorators.orderedStream().toList()) {
                hosted = decorator.apply(hosted);
            }
            builder.withAgent(hosted);
        }
        customizers.orderedStream().forEach(one -> one.customize(builder));
        return builder.build();
    }

    @Bean
    @ConditionalOnMissingBean
    AmxEngineLifecycle amxEngineLifecycle(AmxEngine engine, AmxProperties properties, AgentBeans beans) {
        return new AmxEngineLifecycle(engine, properties, beans.any());
    }
}
