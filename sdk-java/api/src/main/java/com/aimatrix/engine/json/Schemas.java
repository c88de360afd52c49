package com.aimatrix.engine.json;

import com.fasterxml.jackson.databind.BeanDescription;
import com.fasterxml.jackson.databind.JavaType;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.introspect.BeanPropertyDefinition;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.protobuf.MessageLite;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.time.ZonedDateTime;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Set;
import java.util.UUID;

/** JSON Schema (2020-12) of what a type accepts. */
public final class Schemas {
    private static final Map<Class<?>, String> FORMATS =
            Map.ofEntries(
                    Map.entry(BigDecimal.class, "decimal"),
                    Map.entry(Instant.class, "date-time"),
                    Map.entry(OffsetDateTime.class, "date-time"),
                    Map.entry(ZonedDateTime.class, "date-time"),
                    Map.entry(Date.class, "date-time"),
                    Map.entry(LocalDate.class, "date"),
                    Map.entry(LocalTime.class, "time"),
                    Map.entry(Duration.class, "duration"),
                    Map.entry(UUID.class, "uuid"));
    private static final Set<Class<?>> INTEGERS =
            Set.of(byte.class, Byte.class, short.class, Short.class, int.class, Integer.class);
    private static final Set<Class<?>> INT64 = Set.of(long.class, Long.class, BigInteger.class);
    private static final Set<Class<?>> FRACTIONS = Set.of(float.class, Float.class, double.class, Double.class);

    private final Json json;
    private final Map<String, ObjectNode> definitions = new LinkedHashMap<>();
    private final Map<String, JavaType> names = new LinkedHashMap<>();
    private boolean recursive;

    private Schemas(Json json) {
        this.json = json;
    }

    /**
     * The schema of a type.
     *
     * @param json whose rules hold
     * @param type what it is of
     * @return as text; empty if it accepts anything
     */
    public static String text(Json json, JavaType type) {
        return new Schemas(json).whole(type);
    }

    /**
     * The schema of an object with these members.
     *
     * @param json whose rules hold
     * @param members type by name
     * @return as text
     */
    public static String text(Json json, Map<String, JavaType> members) {
        Schemas schemas = new Schemas(json);
        ObjectNode schema = object();
        ObjectNode properties = schema.put("type", "object").putObject("properties");
        members.forEach((name, type) -> properties.set(name, schemas.of(type)));
        members.forEach(
                (name, type) -> {
                    if (type.isPrimitive()) {
                        schema.withArray("required").add(name);
                    }
                });
        schemas.define(schema);
        return schema.toString();
    }

    private static ObjectNode object() {
        return JsonNodeFactory.instance.objectNode();
    }

    private String whole(JavaType type) {
        ObjectNode schema = of(type);
        if (schema.isEmpty()) {
            return "";
        }
        String reference = schema.path("$ref").asText();
        if (!reference.isEmpty() && !recursive) {
            schema = definitions.remove(reference.substring(reference.lastIndexOf('/') + 1));
        }
        define(schema);
        return schema.toString();
    }

    private void define(ObjectNode schema) {
        if (!definitions.isEmpty()) {
            schema.putObject("$defs").setAll(definitions);
        }
    }

    private ObjectNode of(JavaType type) {
        if (type instanceof ForeignType foreign) {
            return foreign.schema();
        }
        Class<?> raw = type.getRawClass();
        ObjectNode schema = object();
        if (raw == Object.class || JsonNode.class.isAssignableFrom(raw) || MessageLite.class.isAssignableFrom(raw)) {
            return schema;
        }
        if (raw == boolean.class || raw == Boolean.class) {
            return schema.put("type", "boolean");
        }
        if (CharSequence.class.isAssignableFrom(raw) || raw == char.class || raw == Character.class) {
            return schema.put("type", "string");
        }
        if (INTEGERS.contains(raw)) {
            return schema.put("type", "integer");
        }
        if (INT64.contains(raw)) {
            schema.putArray("type").add("integer").add("string");
            return schema.put("format", "int64").put("pattern", "^-?[0-9]+$");
        }
        if (FRACTIONS.contains(raw) || raw == Number.class) {
            return schema.put("type", "number");
        }
        if (raw == byte[].class) {
            return schema.put("type", "string").put("contentEncoding", "base64");
        }
        String format = FORMATS.get(raw);
        if (format != null) {
            return schema.put("type", "string").put("format", format);
        }
        if (raw.isEnum()) {
            schema.put("type", "string");
            for (Object constant : raw.getEnumConstants()) {
                schema.withArray("enum").add(((Enum<?>) constant).name());
            }
            return schema;
        }
        if (type.isReferenceType() || raw == Optional.class) {
            return nullable(of(type.getReferencedType() == null ? json.type(Object.class) : type.getReferencedType()));
        }
        if (raw == OptionalInt.class) {
            return nullable(of(json.type(int.class)));
        }
        if (raw == OptionalLong.class) {
            return nullable(of(json.type(long.class)));
        }
        if (raw == OptionalDouble.class) {
            return nullable(of(json.type(double.class)));
        }
        if (type.isCollectionLikeType() || type.isArrayType()) {
            schema.put("type", "array");
            ObjectNode items = of(type.getContentType());
            if (!items.isEmpty()) {
                schema.set("items", items);
            }
            return Set.class.isAssignableFrom(raw) ? schema.put("uniqueItems", true) : schema;
        }
        if (type.isMapLikeType()) {
            schema.put("type", "object");
            ObjectNode items = of(type.getContentType());
            if (!items.isEmpty()) {
                schema.set("additionalProperties", items);
            }
            Class<?> key = type.getKeyType().getRawClass();
            if (INTEGERS.contains(key) || INT64.contains(key)) {
                schema.putObject("propertyNames").put("pattern", "^-?[0-9]+$");
            }
            return schema;
        }
        return raw.getName().startsWith("java.") ? schema : reference(type);
    }

    private ObjectNode nullable(ObjectNode schema) {
        if (schema.isEmpty()) {
            return schema;
        }
        ObjectNode either = object();
        either.putArray("anyOf").add(schema).add(object().put("type", "null"));
        return either;
    }

    private ObjectNode reference(JavaType type) {
        String name = type.getRawClass().getSimpleName();
        for (int number = 2; names.containsKey(name) && !names.get(name).equals(type); number++) {
            name = type.getRawClass().getSimpleName() + number;
        }
        if (names.put(name, type) == null) {
            ObjectNode definition = object();
            definitions.put(name, definition); // before it is described: it may contain itself
            describe(type, definition);
        } else if (definitions.get(name).path("properties").isMissingNode() || name.equals(firstName())) {
            recursive = true; // it contains itself
        }
        return object().put("$ref", "#/$defs/" + name);
    }

    private String firstName() {
        return names.keySet().iterator().next();
    }

    private void describe(JavaType type, ObjectNode schema) {
        BeanDescription bean = json.mapper().getDeserializationConfig().introspect(type);
        ObjectNode properties = object();
        schema.put("type", "object");
        for (BeanPropertyDefinition property : bean.findProperties()) {
            JavaType its = property.getPrimaryType();
            properties.set(property.getName(), of(its));
            boolean required =
                    property.isRequired() || (type.getRawClass().isRecord() && its != null && its.isPrimitive());
            if (required) {
                schema.withArray("required").add(property.getName());
            }
        }
        schema.set("properties", properties);
    }
}
