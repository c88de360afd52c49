package com.aimatrix.engine.testing;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.Agents;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.json.Json;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class ProxiedAgentTest {
    @Agent(name = "Counter")
    static class Counter {
        @Memory
        private int count;

        @Memory
        private final List<String> names;

        Counter(List<String> names) {
            this.names = names;
        }

        @Handler
        int add(String name) {
            names.add(name);
            return ++count;
        }

        @Handler
        private List<String> hidden() {
            return names;
        }

        @Handler
        final int fixed() {
            return count;
        }
    }

    /** As containers write them: nothing of the class is constructed, and what can be overridden is passed on. */
    static class Proxy extends Counter {
        private final Counter target = new Counter(new ArrayList<>());
        private final List<String> intercepted;

        Proxy(List<String> intercepted) {
            super(null);
            this.intercepted = intercepted;
        }

        @Override
        int add(String name) {
            intercepted.add(name);
            return target.add(name);
        }
    }

    @Test
    void handlers_are_called_on_the_proxy_and_memories_are_fields_of_the_object_behind_it() {
        List<String> intercepted = new ArrayList<>();
        var spec =
                Agents.proxied(
                        Counter.class,
                        () -> new Proxy(intercepted),
                        made -> made instanceof Proxy proxy ? proxy.target : made,
                        Json.standard());
        try (AgentHarness agent = AgentHarness.start(spec)) {
            MessageOptions add = new MessageOptions().handler("add");
            assertEquals(1, agent.request("Ada", int.class, add));
            assertEquals(2, agent.request("Grace", int.class, add));
            assertEquals(List.of("Ada", "Grace"), intercepted);
            assertEquals(
                    List.of("Ada", "Grace"),
                    agent.request(null, Object.class, new MessageOptions().handler("hidden")));
            assertEquals(2, agent.request(null, int.class, new MessageOptions().handler("fixed")));
            assertEquals(2, agent.memory().get("count"));
            agent.hibernate("default");
            assertEquals(3, agent.request("Edsger", int.class, add));
            assertEquals(Map.of(), agent.timers());
        }
    }
}
