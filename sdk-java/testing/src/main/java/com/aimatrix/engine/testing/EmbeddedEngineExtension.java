package com.aimatrix.engine.testing;

import org.junit.jupiter.api.extension.AfterAllCallback;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ExtensionContext.Namespace;
import org.junit.jupiter.api.extension.ParameterContext;
import org.junit.jupiter.api.extension.ParameterResolver;

/**
 * Gives a test class an engine: one for all its tests and those nested in it, started before the first and closed after
 * the last. Tests take it as a parameter. Needs JUnit 5.
 *
 * <pre>{@code
 * @RegisterExtension
 * static final EmbeddedEngineExtension ENGINE = new EmbeddedEngineExtension(EmbeddedEngine.builder().workers(2));
 * }</pre>
 *
 * With nothing to say of the engine, {@link WithEmbeddedEngine} is shorter.
 */
public final class EmbeddedEngineExtension implements BeforeAllCallback, AfterAllCallback, ParameterResolver {
    private static final Namespace NAMESPACE = Namespace.create(EmbeddedEngineExtension.class);

    private final EmbeddedEngine.Builder settings;

    /** With an engine of which nothing is said. */
    public EmbeddedEngineExtension() {
        this(EmbeddedEngine.builder());
    }

    /**
     * With an engine.
     *
     * @param settings how it is started
     */
    public EmbeddedEngineExtension(EmbeddedEngine.Builder settings) {
        this.settings = settings;
    }

    @Override
    public void beforeAll(ExtensionContext context) {
        if (find(context) == null) {
            context.getStore(NAMESPACE).put(EmbeddedEngine.class, settings.start());
        }
    }

    @Override
    public void afterAll(ExtensionContext context) {
        // Of an enclosing class's engine nothing is found here: a store removes what is its own only.
        EmbeddedEngine own = context.getStore(NAMESPACE).remove(EmbeddedEngine.class, EmbeddedEngine.class);
        if (own != null) {
            own.close();
        }
    }

    @Override
    public boolean supportsParameter(ParameterContext parameter, ExtensionContext context) {
        return parameter.getParameter().getType() == EmbeddedEngine.class;
    }

    @Override
    public Object resolveParameter(ParameterContext parameter, ExtensionContext context) {
        return find(context);
    }

    private static EmbeddedEngine find(ExtensionContext context) {
        return context.getStore(NAMESPACE).get(EmbeddedEngine.class, EmbeddedEngine.class);
    }
}
