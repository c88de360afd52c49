package com.aimatrix.engine;

import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;

/**
 * SIGTERM and SIGINT as callbacks, so that a process that is told to end can leave politely and exit with 0. The JVM by
 * itself would run its shutdown hooks and exit with 143. They are caught by `sun.misc.Signal`, which is in every JDK but
 * has no public name; where it is not (a runtime image without jdk.unsupported, `-Xrs`) nothing is caught.
 */
final class Signals implements AutoCloseable {
    private static final List<String> NAMES = List.of("TERM", "INT");

    private final List<Runnable> restores = new ArrayList<>();

    private Signals() {}

    /** Calls back, on a thread of the JVM's, when the first of them arrives. Another one is treated as it was before. */
    static Signals caught(Runnable callback) {
        Signals caught = new Signals();
        try {
            Class<?> signal = Class.forName("sun.misc.Signal");
            Class<?> handler = Class.forName("sun.misc.SignalHandler");
            var handle = signal.getMethod("handle", signal, handler);
            Object ours =
                    Proxy.newProxyInstance(
                            Signals.class.getClassLoader(),
                            new Class<?>[] {handler},
                            (proxy, method, arguments) ->
                                    switch (method.getName()) {
                                        case "handle" -> {
                                            caught.close();
                                            callback.run();
                                            yield null;
                                        }
                                        case "equals" -> proxy == arguments[0];
                                        case "hashCode" -> System.identityHashCode(proxy);
                                        default -> "AmxEngine.runForever";
                                    });
            for (String name : NAMES) {
                Object one = signal.getConstructor(String.class).newInstance(name);
                Object before = handle.invoke(null, one, ours);
                caught.atClose(
                        () -> {
                            try {
                                handle.invoke(null, one, before);
                            } catch (ReflectiveOperationException error) {
                                throw new IllegalStateException(error);
                            }
                        });
            }
        } catch (ReflectiveOperationException | LinkageError unavailable) {
            // the shutdown hook is what is left
        }
        return caught;
    }

    private synchronized void atClose(Runnable restore) {
        restores.add(restore);
    }

    /** What was there before is there again. */
    @Override
    public synchronized void close() {
        restores.forEach(Runnable::run);
        restores.clear();
    }
}
