package com.aimatrix.engine.spring;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.Agents;
import com.aimatrix.engine.MessageRouter;
import com.aimatrix.engine.PerformanceMonitor;
import com.aimatrix.engine.Pipeline;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.spec.AgentSpec;
import java.lang.annotation.Annotation;
import java.util.ArrayList;
import java.util.List;
import org.springframework.aop.TargetClassAware;
import org.springframework.aop.framework.Advised;
import org.springframework.aop.scope.ScopedProxyUtils;
import org.springframework.aop.target.SingletonTargetSource;
import org.springframework.beans.factory.config.BeanDefinition;
import org.springframework.beans.factory.config.BeanFactoryPostProcessor;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.core.annotation.AnnotatedElementUtils;
import org.springframework.util.ClassUtils;

/**
 * The beans that are agents. They become prototypes: each instance key gets an object of its own, made, injected and
 * wrapped by the container like any other bean.
 */
final class AgentBeans implements BeanFactoryPostProcessor {
    private static final List<Class<? extends Annotation>> KINDS =
            List.of(Agent.class, MessageRouter.class, PerformanceMonitor.class, Pipeline.class);

    private final List<String> names = new ArrayList<>();

    @Override
    public void postProcessBeanFactory(ConfigurableListableBeanFactory factory) {
        for (String name : factory.getBeanDefinitionNames()) {
            BeanDefinition definition = factory.getBeanDefinition(name);
            if (definition.isAbstract() || ScopedProxyUtils.isScopedTarget(name)) {
                continue;
            }
            Class<?> type = factory.getType(name, false);
            if (type != null && KINDS.stream().anyMatch(kind -> AnnotatedElementUtils.hasAnnotation(type, kind))) {
                names.add(name);
                if (definition.isSingleton()) {
                    definition.setScope(BeanDefinition.SCOPE_PROTOTYPE);
                }
            }
        }
    }

    /** Whether there are any. */
    boolean any() {
        return !names.isEmpty();
    }

    /** Compiled, in the order of the beans. Throws DefinitionException naming the culprit and the cure. */
    List<AgentSpec> compile(ConfigurableListableBeanFactory factory, Json json) {
        List<AgentSpec> agents = new ArrayList<>();
        for (String name : names) {
            agents.add(compile(factory, name, json));
        }
        return agents;
    }

    static AgentSpec compile(ConfigurableListableBeanFactory factory, String name, Json json) {
        return compile(factory, name, ClassUtils.getUserClass(factory.getType(name, false)), json);
    }

    private static <T> AgentSpec compile(
            ConfigurableListableBeanFactory factory, String name, Class<T> type, Json json) {
        return Agents.proxied(type, () -> made(factory, name, type), AgentBeans::target, json);
    }

    private static <T> T made(ConfigurableListableBeanFactory factory, String name, Class<T> type) {
        Object bean = factory.getBean(name);
        if (!type.isInstance(bean)) {
            throw new IllegalStateException(
                    "the agent '" + name + "' is wrapped into a proxy of its interfaces, which has no handlers; let"
                            + " it extend the class: spring.aop.proxy-target-class=true, or proxyTargetClass = true");
        }
        return type.cast(bean);
    }

    /** The object behind proxies of the container. */
    private static Object target(Object bean) {
        Object at = bean;
        while (at instanceof TargetClassAware
                && at instanceof Advised advised
                && advised.getTargetSource() instanceof SingletonTargetSource source) {
            at = source.getTarget();
        }
        return at;
    }
}
