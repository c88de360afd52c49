package com.aimatrix.engine.spring.docs;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import java.util.HashMap;
import java.util.Map;
import org.springframework.stereotype.Component;

@Agent(name = "Support")
@Component
class Support {
    private final Tickets tickets; // any bean

    @Memory(persistent = true)
    private final Map<String, String> open = new HashMap<>();

    Support(Tickets tickets) {
        this.tickets = tickets;
    }

    @Handler
    String ask(String question) {
        String ticket = tickets.create(question);
        open.put(ticket, question);
        return ticket;
    }
}
