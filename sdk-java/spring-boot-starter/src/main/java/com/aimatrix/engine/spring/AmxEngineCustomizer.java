package com.aimatrix.engine.spring;

import com.aimatrix.engine.AmxEngineBuilder;

/** A bean that says more of the application's AmxEngine than properties can. Several are asked in their order. */
@FunctionalInterface
public interface AmxEngineCustomizer {
    /**
     * Says it.
     *
     * @param builder knows the properties and the agents already
     */
    void customize(AmxEngineBuilder builder);
}
