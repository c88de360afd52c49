package com.aimatrix.engine.spring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.errors.HandlerException;
import com.aimatrix.engine.testing.EmbeddedEngine;
import com.aimatrix.engine.testing.WithEmbeddedEngine;
import io.micrometer.core.instrument.MeterRegistry;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIf;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.actuate.health.HealthEndpoint;
import org.springframework.boot.actuate.health.Status;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;

/** With a real engine. */
@WithEmbeddedEngine
@EnabledIf(value = "com.aimatrix.engine.testing.EmbeddedEngine#available", disabledReason = "no engine: AMX_COMMAND")
class LifeOfApplicationsTest {
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    record Gates(CountDownLatch begun, CountDownLatch open) {}

    @Agent(name = "Waiter")
    static class Waiter {
        private final Gates gates;

        Waiter(Gates gates) {
            this.gates = gates;
        }

        @Handler(byDefault = true)
        String await() throws InterruptedException {
            gates.begun().countDown();
            gates.open().await();
            return "done";
        }

        @Handler
        CompletableFuture<String> refuse() {
            return CompletableFuture.failedFuture(new HandlerException("NOT_TODAY", "come back tomorrow"));
        }
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    @Import(Waiter.class)
    static class Application {
        @Bean
        Gates gates() {
            return new Gates(new CountDownLatch(1), new CountDownLatch(1));
        }
    }

    private static ConfigurableApplicationContext start(EmbeddedEngine process) {
        return new SpringApplicationBuilder(Application.class)
                .web(WebApplicationType.NONE)
                .properties("amx.address=" + process.address(), "spring.main.banner-mode=off")
                .run();
    }

    /** The threads that keep the process alive: the applications of other tests may have some, too. */
    private static Set<Thread> keepers() {
        return Thread.getAllStackTraces().keySet().stream()
                .filter(one -> one.getName().equals("amx-keep-alive"))
                .collect(Collectors.toSet());
    }

    @Test
    void an_application_that_stops_lets_its_handlers_finish(EmbeddedEngine process) throws Exception {
        Set<Thread> before = keepers();
        ConfigurableApplicationContext context = start(process);
        Set<Thread> mine = keepers();
        mine.removeAll(before);
        assertThat(mine).hasSize(1);
        Gates gates = context.getBean(Gates.class);
        try (AmxEngine client = process.client().build().start(PATIENCE)) {
            CompletableFuture<String> reply =
                    client.requestAsync("Waiter", null, String.class, new MessageOptions().timeout(PATIENCE));
            assertThat(gates.begun().await(PATIENCE.toSeconds(), TimeUnit.SECONDS)).isTrue();
            CompletableFuture<Void> closing = CompletableFuture.runAsync(context::close);
            await().atMost(PATIENCE).until(() -> context.isClosed());
            assertThat(reply).isNotDone();
            gates.open().countDown();
            assertThat(reply).succeedsWithin(PATIENCE).isEqualTo("done");
            assertThat(closing).succeedsWithin(PATIENCE);
        }
        await().atMost(PATIENCE).until(() -> mine.stream().noneMatch(Thread::isAlive));
    }

    @Test
    void an_application_stops_though_its_engine_is_gone(EmbeddedEngine process) {
        ConfigurableApplicationContext context = start(process);
        process.kill();
        try {
            assertThat(CompletableFuture.runAsync(context::close)).succeedsWithin(PATIENCE);
            assertThat(context.isRunning()).isFalse();
        } finally {
            process.restart();
        }
    }

    @Test
    void health_follows_the_link_and_handlers_are_counted_by_what_became_of_them(EmbeddedEngine process) {
        try (ConfigurableApplicationContext context = start(process)) {
            AmxEngine engine = context.getBean(AmxEngine.class);
            MeterRegistry meters = context.getBean(MeterRegistry.class);
            HealthEndpoint health = context.getBean(HealthEndpoint.class);
            assertThat(health.healthForPath("amx").getStatus()).isEqualTo(Status.UP);
            assertThat(meters.get("amx.link.connected").gauge().value()).isEqualTo(1);

            context.getBean(Gates.class).open().countDown();
            assertThat(engine.request("Waiter", null, String.class)).isEqualTo("done");
            assertThatThrownBy(
                            () ->
                                    engine.request(
                                            "Waiter", null, Object.class, new MessageOptions().handler("refuse")))
                    .hasMessageContaining("tomorrow");
            assertThat(meters.get("amx.handler").tag("handler", "await").tag("outcome", "success").timer().count())
                    .isEqualTo(1);
            assertThat(meters.get("amx.handler").tag("handler", "refuse").tag("outcome", "NOT_TODAY").timer().count())
                    .isPositive();
            assertThat(meters.get("amx.handler.active").tag("handler", "await").gauge().value()).isZero();

            process.kill();
            await().atMost(PATIENCE)
                    .until(() -> health.healthForPath("amx").getStatus().equals(Status.DOWN));
            assertThat(health.health().getStatus()).isEqualTo(Status.DOWN);
            process.restart();
            await().atMost(PATIENCE).until(() -> health.healthForPath("amx").getStatus().equals(Status.UP));
            assertThat(engine.request("Waiter", null, String.class)).isEqualTo("done");
        }
    }
}
