package com.aimatrix.engine.json;

import com.fasterxml.jackson.annotation.Nulls;
import com.fasterxml.jackson.databind.BeanDescription;
import com.fasterxml.jackson.databind.DeserializationConfig;
import com.fasterxml.jackson.databind.DeserializationContext;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.deser.BeanDeserializerBuilder;
import com.fasterxml.jackson.databind.deser.BeanDeserializerModifier;
import com.fasterxml.jackson.databind.deser.NullValueProvider;
import com.fasterxml.jackson.databind.deser.SettableBeanProperty;
import com.fasterxml.jackson.databind.exc.InvalidNullException;
import com.fasterxml.jackson.databind.util.AccessPattern;
import java.lang.annotation.Annotation;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Set;

/**
 * Null is refused as the value of members whose type does not say that it may be null. Jackson's own Nulls.FAIL would
 * refuse records that lack the member, too.
 */
final class NullRefusal extends BeanDeserializerModifier {
    private static final long serialVersionUID = 1L;

    private static final Set<Class<?>> NULLABLE =
            Set.of(
                    Object.class,
                    JsonNode.class,
                    Optional.class,
                    OptionalInt.class,
                    OptionalLong.class,
                    OptionalDouble.class,
                    Void.class);

    /** Whether a member of that type may be null. */
    static boolean nullable(Class<?> type) {
        return NULLABLE.contains(type);
    }

    @Override
    public BeanDeserializerBuilder updateBuilder(
            DeserializationConfig config, BeanDescription bean, BeanDeserializerBuilder builder) {
        if (saysItself(bean.getBeanClass())) {
            return builder;
        }
        // Jackson knows those of a constructor by identity: they are the same objects in both places.
        SettableBeanProperty[] given = builder.getValueInstantiator().getFromObjectArguments(config);
        for (int index = 0; given != null && index < given.length; index++) {
            if (given[index] != null && refuses(given[index])) {
                given[index] = refusing(given[index]);
                builder.addOrReplaceProperty(given[index], true);
            }
        }
        List<SettableBeanProperty> others = new ArrayList<>();
        builder.getProperties().forEachRemaining(others::add);
        for (SettableBeanProperty one : others) {
            if (refuses(one)) {
                builder.addOrReplaceProperty(refusing(one), true);
            }
        }
        return builder;
    }

    /** Classes of Kotlin say what may be null, and Jackson's module for them sees to it. */
    private static boolean saysItself(Class<?> type) {
        for (Annotation one : type.getAnnotations()) {
            if (one.annotationType().getName().equals("kotlin.Metadata")) {
                return true;
            }
        }
        return false;
    }

    private static boolean refuses(SettableBeanProperty one) {
        Nulls said = one.getMetadata().getValueNulls();
        return (said == null || said == Nulls.DEFAULT)
                && !nullable(one.getType().getRawClass())
                && !one.getType().isPrimitive()
                && !(one.getNullValueProvider() instanceof Refusal);
    }

    private static SettableBeanProperty refusing(SettableBeanProperty one) {
        return one.withNullProvider(new Refusal(one));
    }

    private record Refusal(SettableBeanProperty of) implements NullValueProvider {
        @Override
        public Object getNullValue(DeserializationContext context) throws JsonMappingException {
            throw InvalidNullException.from(context, of.getFullName(), of.getType());
        }

        @Override
        public Object getAbsentValue(DeserializationContext context) {
            return null;
        }

        @Override
        public AccessPattern getNullAccessPattern() {
            return AccessPattern.DYNAMIC;
        }
    }
}
