package com.aimatrix.engine.spring.docs;

import static org.assertj.core.api.Assertions.assertThat;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.spring.SpringAgents;
import com.aimatrix.engine.testing.AgentHarness;
import com.aimatrix.engine.testing.EmbeddedEngine;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIf;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.test.context.SpringBootTest;
import org.springframework.boot.test.context.TestConfiguration;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.test.context.DynamicPropertyRegistrar;

@EnabledIf(value = "com.aimatrix.engine.testing.EmbeddedEngine#available", disabledReason = "no engine: AMX_COMMAND")
@SpringBootTest
class SupportTest {
    @TestConfiguration(proxyBeanMethods = false)
    static class Engine {
        @Bean
        EmbeddedEngine embeddedEngine() {
            return EmbeddedEngine.start(); // runs `amx`, or what AMX_COMMAND says
        }

        @Bean
        DynamicPropertyRegistrar amxAddress(EmbeddedEngine process) {
            return registry -> registry.add("amx.address", process::address);
        }
    }

    @Test
    void a_question_opens_a_ticket(@Autowired Desk desk, @Autowired AmxEngine engine) {
        String ticket = desk.ask("ada", "Where is my tent?");
        assertThat(engine.memory("Support/ada").get("open")).isEqualTo(Map.of(ticket, "Where is my tent?"));
    }

    @Test
    void a_question_alone(@Autowired ConfigurableApplicationContext context) {
        try (AgentHarness agent = AgentHarness.start(SpringAgents.of(context, Support.class))) {
            Object ticket = agent.request("Where is my tent?");
            assertThat(agent.memory().get("open")).isEqualTo(Map.of(ticket, "Where is my tent?"));
        }
    }
}
