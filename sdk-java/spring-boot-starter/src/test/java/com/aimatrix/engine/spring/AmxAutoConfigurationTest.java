package com.aimatrix.engine.spring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.testing.AgentHarness;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.aopalliance.intercept.MethodInterceptor;
import org.junit.jupiter.api.Test;
import org.springframework.aop.framework.ProxyFactory;
import org.springframework.beans.factory.BeanCreationException;
import org.springframework.beans.factory.config.BeanPostProcessor;
import org.springframework.boot.actuate.autoconfigure.health.HealthEndpointAutoConfiguration;
import org.springframework.boot.actuate.autoconfigure.metrics.CompositeMeterRegistryAutoConfiguration;
import org.springframework.boot.actuate.autoconfigure.metrics.MetricsAutoConfiguration;
import org.springframework.boot.actuate.autoconfigure.metrics.export.simple.SimpleMetricsExportAutoConfiguration;
import org.springframework.boot.actuate.health.Status;
import org.springframework.boot.autoconfigure.AutoConfigurations;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;

/** Without an engine. */
class AmxAutoConfigurationTest {
    private final ApplicationContextRunner runner =
            new ApplicationContextRunner()
                    .withConfiguration(
                            AutoConfigurations.of(
                                    AmxAutoConfiguration.class,
                                    AmxHealthAutoConfiguration.class,
                                    AmxMetricsAutoConfiguration.class,
                                    HealthEndpointAutoConfiguration.class,
                                    MetricsAutoConfiguration.class,
                                    CompositeMeterRegistryAutoConfiguration.class,
                                    SimpleMetricsExportAutoConfiguration.class))
                    .withPropertyValues("amx.auto-start=false");

    interface Greetings {
        String greeting(String name);
    }

    @Agent(name = "Greeter")
    static class Greeter {
        static final AtomicInteger MADE = new AtomicInteger();

        private final Greetings greetings;

        @Memory
        private final List<String> greeted = new ArrayList<>();

        Greeter(Greetings greetings) {
            this.greetings = greetings;
            MADE.incrementAndGet();
        }

        @Handler
        String greet(String name, Context context) {
            greeted.add(name);
            return greetings.greeting(name) + context.config().getOrDefault("tail", "");
        }
    }

    @Configuration(proxyBeanMethods = false)
    @Import(Greeter.class)
    static class Application {
        @Bean
        Greetings greetings() {
            return name -> "Hello, " + name;
        }
    }

    @Test
    void properties_say_where_the_engine_is_and_what_contexts_show() {
        runner.withUserConfiguration(Application.class)
                .withPropertyValues("amx.address=there:1", "amx.config.shop.name=Ada's", "amx.concurrency=7")
                .run(
                        context -> {
                            AmxEngine engine = context.getBean(AmxEngine.class);
                            assertThat(engine.address()).isEqualTo("there:1");
                            assertThat(engine.config()).containsEntry("shop", Map.of("name", "Ada's"));
                            assertThat(engine.started()).isFalse();
                            assertThat(context.getBean(AmxProperties.class).concurrency()).isEqualTo(7);
                        });
        runner.withPropertyValues("amx.concurrency=-1")
                .run(context -> assertThat(context).getFailure().hasRootCauseInstanceOf(AmxException.class));
    }

    @Test
    void each_instance_gets_an_object_of_its_own_with_what_it_needs() {
        runner.withUserConfiguration(Application.class)
                .run(
                        context -> {
                            int before = Greeter.MADE.get();
                            assertThat(context.isPrototype(context.getBeanNamesForType(Greeter.class)[0])).isTrue();
                            try (AgentHarness agent =
                                    AgentHarness.start(
                                            SpringAgents.of(context.getSourceApplicationContext(), Greeter.class))) {
                                assertThat(agent.request("Ada")).isEqualTo("Hello, Ada");
                                agent.request("Kim", Object.class, new MessageOptions().key("other"));
                                assertThat(agent.memory().get("greeted")).isEqualTo(List.of("Ada"));
                                assertThat(agent.memory("other").get("greeted")).isEqualTo(List.of("Kim"));
                            }
                            assertThat(Greeter.MADE.get() - before).isEqualTo(2);
                        });
    }

    @Test
    void without_agents_it_is_a_client_and_switched_off_it_is_not_there() {
        runner.run(context -> assertThat(context).hasSingleBean(AmxEngine.class));
        runner.withPropertyValues("amx.enabled=false")
                .run(
                        context ->
                                assertThat(context)
                                        .doesNotHaveBean(AmxEngine.class)
                                        .doesNotHaveBean(AmxHealthIndicator.class)
                                        .hasNotFailed());
    }

    @Test
    void an_engine_of_the_application_s_own_is_the_one() {
        AmxEngine own = AmxEngine.builder().withAddress("mine:1").build();
        runner.withBean("own", AmxEngine.class, () -> own)
                .run(context -> assertThat(context.getBean(AmxEngine.class)).isSameAs(own));
    }

    @Test
    void customizers_have_the_last_word() {
        runner.withBean(AmxEngineCustomizer.class, () -> builder -> builder.withAddress("elsewhere:1"))
                .withPropertyValues("amx.address=there:1")
                .run(context -> assertThat(context.getBean(AmxEngine.class).address()).isEqualTo("elsewhere:1"));
    }

    @Test
    void an_application_whose_engine_is_not_there_does_not_start() {
        runner.withPropertyValues("amx.auto-start=true", "amx.patience=0", "amx.address=127.0.0.1:1")
                .run(
                        context ->
                                assertThat(context)
                                        .getFailure()
                                        .rootCause()
                                        .isInstanceOfSatisfying(
                                                AmxException.class,
                                                error -> assertThat(error.reason()).isEqualTo("ENGINE_UNREACHABLE")));
    }

    @Test
    void before_it_is_started_its_health_is_out_of_service_and_its_link_is_not_connected() {
        runner.withPropertyValues("amx.address=there:1")
                .run(
                        context -> {
                            var health = context.getBean(AmxHealthIndicator.class).health();
                            assertThat(health.getStatus()).isEqualTo(Status.OUT_OF_SERVICE);
                            assertThat(health.getDetails()).containsEntry("address", "there:1");
                            var meters = context.getBean(MeterRegistry.class);
                            assertThat(meters.get("amx.link.connected").gauge().value()).isZero();
                        });
        runner.withPropertyValues("management.health.amx.enabled=false")
                .run(context -> assertThat(context).doesNotHaveBean(AmxHealthIndicator.class));
    }

    @Test
    void an_agent_that_is_proxied_by_its_interfaces_is_refused_with_the_cure() {
        BeanPostProcessor wrapping =
                new BeanPostProcessor() {
                    @Override
                    public Object postProcessAfterInitialization(Object bean, String name) {
                        if (!(bean instanceof Greeter)) {
                            return bean;
                        }
                        ProxyFactory factory = new ProxyFactory(Greetings.class, (MethodInterceptor) call -> "no");
                        return factory.getProxy(getClass().getClassLoader());
                    }
                };
        runner.withUserConfiguration(Application.class)
                .withBean("wrapping", BeanPostProcessor.class, () -> wrapping)
                .run(
                        context -> {
                            var spec = SpringAgents.of(context.getSourceApplicationContext(), Greeter.class);
                            try (AgentHarness agent = AgentHarness.start(spec, Json.standard(), Map.of())) {
                                assertThatThrownBy(() -> agent.request("Ada"))
                                        .hasMessageContaining("spring.aop.proxy-target-class=true");
                            }
                        });
    }

    @Configuration(proxyBeanMethods = false)
    static class Second {
        @Bean
        Greeter second(Greetings greetings) {
            return new Greeter(greetings);
        }
    }

    @Test
    void two_agents_of_one_name_are_refused() {
        runner.withUserConfiguration(Application.class, Second.class)
                .run(
                        context ->
                                assertThat(context)
                                        .getFailure()
                                        .isInstanceOf(BeanCreationException.class)
                                        .rootCause()
                                        .hasMessageContaining("two agents are named 'Greeter'"));
    }
}
