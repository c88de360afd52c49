package com.aimatrix.engine.spring;

import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.spec.AgentSpec;
import org.springframework.beans.factory.NoSuchBeanDefinitionException;
import org.springframework.beans.factory.NoUniqueBeanDefinitionException;
import org.springframework.context.ConfigurableApplicationContext;

/** Beans that are agents, compiled: for hosts other than the application's AmxEngine, such as the testing kit's. */
public final class SpringAgents {
    private SpringAgents() {}

    /**
     * An agent whose objects the container makes, injects and wraps, one for each instance key.
     *
     * @param context that has it
     * @param type of the bean
     * @return compiled
     * @throws NoSuchBeanDefinitionException if there is none, or there are several
     * @throws com.aimatrix.engine.errors.DefinitionException naming the culprit and the cure
     */
    public static AgentSpec of(ConfigurableApplicationContext context, Class<?> type) {
        String[] names = context.getBeanFactory().getBeanNamesForType(type, true, false);
        if (names.length == 0) {
            throw new NoSuchBeanDefinitionException(type);
        }
        if (names.length > 1) {
            throw new NoUniqueBeanDefinitionException(type, names);
        }
        Json json = context.getBeanProvider(Json.class).getIfUnique(Json::standard);
        return AgentBeans.compile(context.getBeanFactory(), names[0], json);
    }
}
