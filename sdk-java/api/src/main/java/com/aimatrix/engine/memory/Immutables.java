package com.aimatrix.engine.memory;

import java.lang.reflect.RecordComponent;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Duration;
import java.time.Period;
import java.time.temporal.TemporalAccessor;
import java.util.Locale;
import java.util.Set;
import java.util.UUID;

/** Which values cannot change, so that handing them out needs no watching. */
final class Immutables {
    private static final Set<Class<?>> KNOWN =
            Set.of(
                    String.class, Boolean.class, Character.class, Byte.class, Short.class, Integer.class, Long.class,
                    Float.class, Double.class, BigInteger.class, BigDecimal.class, UUID.class, Duration.class,
                    Period.class, Locale.class);
    private static final ClassValue<Boolean> OF_CLASS =
            new ClassValue<>() {
                @Override
                protected Boolean computeValue(Class<?> type) {
                    return decide(type, 0);
                }
            };

    private Immutables() {}

    static boolean is(Object value) {
        return value == null || OF_CLASS.get(value.getClass());
    }

    private static boolean decide(Class<?> type, int depth) {
        if (type.isPrimitive() || KNOWN.contains(type) || type.isEnum()) {
            return true;
        }
        if (type.getSuperclass() != null && type.getSuperclass().isEnum()) {
            return true;
        }
        if (type.getName().startsWith("java.time.")) {
            return TemporalAccessor.class.isAssignableFrom(type);
        }
        if (!type.isRecord() || depth > 8) {
            return false;
        }
        for (RecordComponent component : type.getRecordComponents()) {
            if (!decide(component.getType(), depth + 1)) {
                return false;
            }
        }
        return true;
    }
}
