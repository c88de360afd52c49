package com.aimatrix.engine;

import com.aimatrix.engine.authoring.Dialect;
import java.util.List;
import java.util.ServiceLoader;

/** The other languages of the JVM that agents may be written in, as far as they are on the class path. */
final class Dialects {
    private static final List<Dialect> FOUND =
            ServiceLoader.load(Dialect.class, Dialect.class.getClassLoader()).stream()
                    .map(ServiceLoader.Provider::get)
                    .toList();

    private Dialects() {}

    /** The language of a class; null: Java. */
    static Dialect of(Class<?> type) {
        for (Dialect one : FOUND) {
            if (one.speaks(type)) {
                return one;
            }
        }
        return null;
    }
}
