package com.aimatrix.engine.spring.docs;

import com.aimatrix.engine.AmxEngine;
import org.springframework.stereotype.Service;

@Service
class Desk {
    private final AmxEngine engine;

    Desk(AmxEngine engine) {
        this.engine = engine;
    }

    String ask(String customer, String question) {
        return engine.request("Support/" + customer, question, String.class);
    }
}
