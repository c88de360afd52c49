package com.aimatrix.engine.spring.docs;

import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.stereotype.Service;

@Service
class Tickets {
    private final AtomicInteger last = new AtomicInteger();

    String create(String question) {
        return "T-" + last.incrementAndGet();
    }
}
