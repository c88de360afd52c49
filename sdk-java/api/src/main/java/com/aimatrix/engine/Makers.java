package com.aimatrix.engine;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.DefinitionException;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.InaccessibleObjectException;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.function.Supplier;

/** How the object of a new instance is made. */
final class Makers {
    private Makers() {}

    /** By the constructor without parameters. */
    static Supplier<Object> constructor(Class<?> type) {
        if (Modifier.isAbstract(type.getModifiers())) {
            throw new DefinitionException(type.getSimpleName() + " is abstract; hand over a class that extends it");
        }
        if (type.getEnclosingClass() != null && !Modifier.isStatic(type.getModifiers())) {
            throw new DefinitionException(type.getSimpleName() + " is an inner class; make it static");
        }
        Constructor<?> constructor;
        try {
            constructor = type.getDeclaredConstructor();
            constructor.setAccessible(true);
        } catch (NoSuchMethodException error) {
            throw new DefinitionException(
                    type.getSimpleName() + " has no constructor without parameters; give it one, or hand over an object:"
                            + " withAgent(new " + type.getSimpleName() + "(…))");
        } catch (InaccessibleObjectException error) {
            throw notOpen(type);
        }
        return () -> {
            try {
                return constructor.newInstance();
            } catch (InvocationTargetException error) {
                throw unchecked(error.getCause());
            } catch (ReflectiveOperationException error) {
                throw new IllegalStateException(error);
            }
        };
    }

    /** By a shallow copy. */
    static Supplier<Object> copies(Object prototype) {
        Class<?> type = prototype.getClass();
        Constructor<?> raw = withoutConstructor(type);
        return () -> {
            try {
                Object copy = raw.newInstance();
                for (Class<?> at = type; at != Object.class; at = at.getSuperclass()) {
                    for (Field field : at.getDeclaredFields()) {
                        if (!Modifier.isStatic(field.getModifiers())) {
                            field.setAccessible(true);
                            field.set(copy, field.get(prototype));
                        }
                    }
                }
                return copy;
            } catch (ReflectiveOperationException error) {
                throw new IllegalStateException(error);
            }
        };
    }

    /** A constructor that runs none of the class. It is in every JDK, but has no public name. */
    private static Constructor<?> withoutConstructor(Class<?> type) {
        try {
            Class<?> factory = Class.forName("sun.reflect.ReflectionFactory");
            Object shared = factory.getMethod("getReflectionFactory").invoke(null);
            Method make = factory.getMethod("newConstructorForSerialization", Class.class, Constructor.class);
            Constructor<?> raw = (Constructor<?>) make.invoke(shared, type, Object.class.getDeclaredConstructor());
            raw.setAccessible(true);
            return raw;
        } catch (ReflectiveOperationException error) {
            throw new DefinitionException(
                    type.getSimpleName() + ": objects cannot be copied on this JVM (" + error
                            + "); hand over the class, or a supplier");
        }
    }

    static DefinitionException notOpen(Class<?> type) {
        return new DefinitionException(
                type.getName() + " is not open to reflection; add 'opens " + type.getPackageName()
                        + ";' to its module-info.java");
    }

    /** What to throw for a Throwable of the application, unchanged. */
    static RuntimeException unchecked(Throwable error) {
        if (error instanceof Error fatal) {
            throw fatal;
        }
        return error instanceof RuntimeException known
                ? known
                : new AmxException.Facts(
                                com.aimatrix.engine.errors.Code.UNKNOWN, "HANDLER_FAILED", String.valueOf(error.getMessage()))
                        .retryable(true)
                        .cause(error)
                        .exception();
    }
}
