package com.aimatrix.engine;

import com.aimatrix.engine.errors.DefinitionException;
import com.aimatrix.engine.json.Json;
import com.fasterxml.jackson.databind.JavaType;
import java.lang.reflect.Method;
import java.lang.reflect.Type;
import java.util.function.Supplier;

/** What a class declares, seen from a class that extends it: with its type parameters filled in. */
final class Declared {
    private final Json json;
    private final JavaType self;

    Declared(Json json, Class<?> type) {
        this.json = json;
        this.self = json.type(type);
    }

    /** The class that somebody wrote: containers extend it by classes of their own, for interception and injection. */
    static Class<?> written(Class<?> type) {
        Class<?> at = type;
        while (generated(at)) {
            at = at.getSuperclass();
        }
        return at;
    }

    private static boolean generated(Class<?> type) {
        String name = type.getName();
        // Spring and CGLIB, Guice, Weld; Byte Buddy; Mockito; Quarkus.
        return (name.contains("$$")
                        || name.contains("$ByteBuddy$")
                        || name.contains("$MockitoMock$")
                        || name.endsWith("_Subclass")
                        || name.endsWith("_ClientProxy"))
                && type.getSuperclass() != null
                && type.getSuperclass() != Object.class;
    }

    /** A type that is said in that class. */
    JavaType type(Type said, Class<?> where) {
        JavaType declaring = self.findSuperType(where);
        return declaring == null
                ? json.type(said)
                : json.mapper().getTypeFactory().resolveMemberType(said, declaring.getBindings());
    }

    /** What tells a method from others; that of a method and of one that overrides it are equal. */
    String signature(Method method) {
        StringBuilder text = new StringBuilder(method.getName());
        for (Type parameter : method.getGenericParameterTypes()) {
            text.append(' ').append(type(parameter, method.getDeclaringClass()).getRawClass().getName());
        }
        return text.toString();
    }

    /** What is made of a class, unless it, or one that it names, cannot be loaded. */
    static <T> T loaded(Class<?> type, Supplier<T> work) {
        try {
            return work.get();
        } catch (LinkageError | TypeNotPresentException error) {
            throw new DefinitionException(
                    type.getName() + " cannot be loaded as a whole: " + error + "; a class that it names is missing or does"
                            + " not fit: is its library on the class path, in one version?");
        }
    }
}
