package com.aimatrix.engine.spring.docs;

import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.spring.AmxEngineCustomizer;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;

@SpringBootApplication
class Application {
    @Configuration(proxyBeanMethods = false)
    static class AmxConfiguration {
        @Bean
        Json amxJson() {
            return new Json(jackson -> jackson.findAndAddModules());
        }

        @Bean
        ExecutorService handlerThreads() {
            return Executors.newFixedThreadPool(8);
        }

        @Bean
        AmxEngineCustomizer fewThreads(ExecutorService handlerThreads) {
            return builder -> builder.withExecutor(handlerThreads);
        }
    }
}
