package com.aimatrix.engine.json;

import com.aimatrix.engine.errors.InvalidInputException;
import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.StreamWriteConstraints;
import com.fasterxml.jackson.core.exc.StreamReadException;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JavaType;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.MapperFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.exc.InvalidNullException;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.module.SimpleModule;
import com.fasterxml.jackson.datatype.jdk8.Jdk8Module;
import com.fasterxml.jackson.datatype.jsr310.JavaTimeModule;
import java.io.IOException;
import java.io.StringWriter;
import java.lang.reflect.Type;
import java.math.BigInteger;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import java.util.regex.Pattern;

/**
 * JSON with one meaning in every language: through Jackson, but strict both ways. Refused with INVALID_VALUE is what is
 * not JSON: duplicate keys, NaN, lone surrogates, trailing text, bytes that are not UTF-8, nesting beyond 512, integers
 * beyond 2^53 - 1 where no type says that they travel as text. Refused with INVALID_INPUT is what does not fit a type;
 * the exception names the place.
 *
 * <p>A record, a bean, an enum, a collection and java.time are what Jackson makes of them, with these rules: a field
 * that is null is left out, one that is an empty Optional is null; null is refused where no Optional (and no Object or
 * JsonNode, and no {@code @JsonSetter(nulls = Nulls.SET)}) takes it; unknown fields are ignored; primitives of records
 * must be there; text is no number and a number no text; decimals, and 64-bit integers beyond 2^53 - 1, are text.
 *
 * <p>Safe for use by many threads.
 */
public final class Json {
    /** JSON nested deeper than this is refused. */
    public static final int MAX_DEPTH = 512;

    private static final String NO_NULL = "null does not fit here; leave it out, or declare it as an Optional";
    private static final Json STANDARD = new Json(builder -> {});
    private static final Pattern LARGE = Pattern.compile("-?\\d{16,4000}");

    private final ObjectMapper mapper;
    private final ObjectReader anything;
    private final ObjectWriter untyped;
    private final Map<JavaType, ObjectReader> readers = new ConcurrentHashMap<>();
    private final Map<JavaType, ObjectWriter> writers = new ConcurrentHashMap<>();

    /**
     * With modules and settings of the application's own. Strictness stays.
     *
     * @param customize is given the builder after the modules of Java's own types and before the strict ones
     */
    public Json(Consumer<JsonMapper.Builder> customize) {
        JsonMapper.Builder builder =
                JsonMapper.builder()
                        .addModule(new Jdk8Module().configureReadAbsentAsNull(true))
                        .addModule(new JavaTimeModule())
                        .disable(SerializationFeature.WRITE_DATES_AS_TIMESTAMPS)
                        .disable(SerializationFeature.WRITE_DURATIONS_AS_TIMESTAMPS)
                        .disable(DeserializationFeature.ADJUST_DATES_TO_CONTEXT_TIME_ZONE)
                        .defaultPropertyInclusion(
                                JsonInclude.Value.construct(JsonInclude.Include.NON_NULL, JsonInclude.Include.ALWAYS));
        customize.accept(builder);
        builder.addModule(Scalars.module())
                .addModule(new SimpleModule("amx-nulls").setDeserializerModifier(new NullRefusal()))
                .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
                .disable(DeserializationFeature.ACCEPT_FLOAT_AS_INT)
                .enable(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES)
                .enable(DeserializationFeature.FAIL_ON_NUMBERS_FOR_ENUMS)
                .disable(MapperFeature.ALLOW_COERCION_OF_SCALARS)
                .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
                .disable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS)
                .disable(JsonWriteFeature.WRITE_NAN_AS_STRINGS)
                .disable(SerializationFeature.FLUSH_AFTER_WRITE_VALUE);
        mapper = builder.build();
        mapper.getFactory()
                .setStreamReadConstraints(
                        StreamReadConstraints.builder()
                                .maxNestingDepth(MAX_DEPTH)
                                .maxStringLength(Integer.MAX_VALUE)
                                .maxNameLength(Integer.MAX_VALUE)
                                .maxNumberLength(4096)
                                .build())
                .setStreamWriteConstraints(StreamWriteConstraints.builder().maxNestingDepth(MAX_DEPTH).build());
        anything = mapper.readerFor(Object.class);
        untyped = mapper.writer();
    }

    /**
     * Without any settings of an application.
     *
     * @return always the same
     */
    public static Json standard() {
        return STANDARD;
    }

    /**
     * Jackson's form of a type.
     *
     * @param type with its generics
     * @return of this
     */
    public JavaType type(Type type) {
        return mapper.constructType(type);
    }

    /**
     * Jackson's mapper, for what it knows of types.
     *
     * @return not to be changed
     */
    public ObjectMapper mapper() {
        return mapper;
    }

    /**
     * A value as compact JSON, by its own class.
     *
     * @param value anything with a JSON form
     * @return UTF-8
     * @throws InvalidInputException INVALID_VALUE naming the place of what has no JSON form
     */
    public byte[] write(Object value) {
        return Text.encode(text(value, untyped));
    }

    /**
     * A value as compact JSON, by a type that was declared.
     *
     * @param value of that type
     * @param type says what 64-bit integers and elements are
     * @return UTF-8
     * @throws InvalidInputException INVALID_VALUE naming the place of what has no JSON form
     */
    public byte[] write(Object value, JavaType type) {
        return Text.encode(text(value, type));
    }

    /**
     * A value as JSON with sorted keys, so that equal values have equal text. Integers may be of any size.
     *
     * @param value anything with a JSON form
     * @param type as declared
     * @return the text
     * @throws InvalidInputException INVALID_VALUE
     */
    public String canonical(Object value, JavaType type) {
        if (value instanceof Integer || value instanceof Long || value instanceof BigInteger) {
            return value.toString();
        }
        String text = text(value, type);
        Text.requireWellFormed(text, "");
        if (text.indexOf('{') < 0) {
            return text;
        }
        try {
            JsonNode tree = mapper.readTree(text);
            StringBuilder sorted = new StringBuilder(text.length());
            sort(tree, sorted);
            return sorted.toString();
        } catch (IOException error) {
            throw notWritable(error);
        }
    }

    /**
     * The value of canonical text: a key or member that a memory is known by.
     *
     * @param text of `canonical`
     * @param type as declared
     * @return the value; whole numbers without a type are Integer, Long or BigInteger
     * @throws InvalidInputException if it is none
     */
    public Object readCanonical(String text, JavaType type) {
        if (LARGE.matcher(text).matches()) {
            BigInteger number = new BigInteger(text);
            boolean fits = number.bitLength() < 64;
            Class<?> raw = type.getRawClass();
            if (raw == BigInteger.class || (raw == Object.class && !fits)) {
                return number;
            }
            if (fits && (raw == Long.class || raw == Object.class || raw == Number.class)) {
                return number.longValue();
            }
        }
        return read(text, type);
    }

    /**
     * The value of JSON, as maps in the order of their keys, lists, text, numbers, booleans and null.
     *
     * @param data UTF-8
     * @return the value
     * @throws InvalidInputException INVALID_VALUE: it is not JSON
     */
    public Object read(byte[] data) {
        return read(Text.decode(data, "JSON"), anything);
    }

    /**
     * The value of JSON.
     *
     * @param data UTF-8
     * @param type what it shall be
     * @return the value
     * @throws InvalidInputException INVALID_VALUE: it is not JSON; INVALID_INPUT: it does not fit
     */
    public Object read(byte[] data, JavaType type) {
        return read(Text.decode(data, "JSON"), type);
    }

    /**
     * The value of JSON.
     *
     * @param text JSON
     * @param type what it shall be
     * @return the value
     * @throws InvalidInputException INVALID_VALUE: it is not JSON; INVALID_INPUT: it does not fit
     */
    public Object read(String text, JavaType type) {
        if (type instanceof ForeignType foreign) {
            return readBy(text, parser -> foreign.read(parser, ""));
        }
        return read(text, reader(type));
    }

    /**
     * A value that JSON was read to, as another type.
     *
     * @param tree of `read` with JsonNode
     * @param type what it shall be
     * @param place of the value, for errors
     * @return the value
     * @throws InvalidInputException INVALID_INPUT: it does not fit
     */
    public Object convert(JsonNode tree, JavaType type, String place) {
        try {
            if (type instanceof ForeignType foreign) {
                try (JsonParser parser = mapper.treeAsTokens(tree)) {
                    parser.nextToken();
                    return foreign.read(parser, place);
                }
            }
            if (tree.isNull() && !NullRefusal.nullable(type.getRawClass())) {
                throw new InvalidInputException((place.isEmpty() ? "value" : place) + ": " + NO_NULL, place);
            }
            return reader(type).readValue(tree);
        } catch (IOException | InvalidInputException error) {
            throw misfit(error, place);
        }
    }

    private interface Reading {
        Object of(JsonParser parser) throws IOException;
    }

    private Object read(String text, ObjectReader reader) {
        return readBy(text, reader::readValue);
    }

    private Object readBy(String text, Reading reading) {
        try (StrictParser parser = parser(text)) {
            if (parser.nextToken() == null) {
                throw InvalidInputException.value("not JSON: there is no text", "");
            }
            Object value = reading.of(parser);
            if (parser.nextToken() != null) {
                throw InvalidInputException.value("not JSON: text goes on after the value", "");
            }
            return value;
        } catch (IOException | InvalidInputException error) {
            InvalidInputException broken = notJson(error);
            if (broken != null) {
                throw broken;
            }
            scan(text); // what is not JSON further on outweighs what does not fit
            throw misfit(error, "");
        }
    }

    private StrictParser parser(String text) throws IOException {
        boolean escapes = text.contains("\\ud") || text.contains("\\uD");
        return new StrictParser(mapper.getFactory().createParser(text), escapes);
    }

    private void scan(String text) {
        try (StrictParser parser = parser(text)) {
            while (parser.nextToken() != null) {
                // Only looked at.
            }
        } catch (IOException | InvalidInputException error) {
            InvalidInputException broken = notJson(error);
            if (broken != null) {
                throw broken;
            }
        }
    }

    private ObjectReader reader(JavaType type) {
        ObjectReader reader = readers.get(type);
        if (reader == null) {
            reader = mapper.readerFor(type);
            readers.put(type, reader);
        }
        return reader;
    }

    private ObjectWriter writer(JavaType type) {
        if (type.getRawClass() == Object.class) {
            return untyped;
        }
        ObjectWriter writer = writers.get(type);
        if (writer == null) {
            // The class of a value says more than its declaration, but for what its elements are.
            writer = type.isContainerType() || type.isReferenceType() ? mapper.writerFor(type) : untyped;
            if (Scalars.declaresInt64(type)) {
                writer = writer.withAttribute(Scalars.DECLARES_INT64, Boolean.TRUE);
            }
            writers.put(type, writer);
        }
        return writer;
    }

    private interface Writing {
        void to(JsonGenerator generator) throws IOException;
    }

    private String text(Object value, JavaType type) {
        return type instanceof ForeignType foreign
                ? text(generator -> foreign.write(value, generator))
                : text(value, writer(type));
    }

    private String text(Object value, ObjectWriter writer) {
        return text(generator -> writer.writeValue(generator, value));
    }

    private String text(Writing writing) {
        StringWriter text = new StringWriter(128);
        try (JsonGenerator generator = new StrictGenerator(mapper.getFactory().createGenerator(text))) {
            writing.to(generator);
        } catch (IOException | RuntimeException error) {
            throw notWritable(error);
        }
        return text.toString();
    }

    private void sort(JsonNode node, StringBuilder into) {
        if (node.isObject()) {
            TreeMap<String, JsonNode> members = new TreeMap<>(Text.BY_CODE_POINT);
            node.properties().forEach(member -> members.put(member.getKey(), member.getValue()));
            String separator = "{";
            for (Map.Entry<String, JsonNode> member : members.entrySet()) {
                into.append(separator).append(text(member.getKey(), untyped)).append(':');
                sort(member.getValue(), into);
                separator = ",";
            }
            into.append(members.isEmpty() ? "{}" : "}");
        } else if (node.isArray()) {
            String separator = "[";
            for (JsonNode item : node) {
                into.append(separator);
                sort(item, into);
                separator = ",";
            }
            into.append(node.isEmpty() ? "[]" : "]");
        } else {
            into.append(text(node, untyped));
        }
    }

    /** The exception for what is not JSON; null: it is, but does not fit. */
    private static InvalidInputException notJson(Exception error) {
        for (Throwable at = error; at != null; at = at.getCause()) {
            if (at instanceof InvalidInputException known
                    && known.reason().equals(InvalidInputException.INVALID_VALUE)) {
                return known;
            }
            if (at instanceof StreamReadException
                    || (at instanceof JsonProcessingException && !(at instanceof JsonMappingException))) {
                String said = ((JsonProcessingException) at).getOriginalMessage();
                return new InvalidInputException(InvalidInputException.INVALID_VALUE, "not JSON: " + said, "", null);
            }
        }
        return error instanceof JsonProcessingException || error instanceof InvalidInputException
                ? null
                : InvalidInputException.value("not JSON: " + error.getMessage(), "");
    }

    private static InvalidInputException misfit(Exception error, String place) {
        if (error instanceof JsonMappingException mapping) {
            String pointer = pointer(place, mapping.getPath());
            Throwable cause = mapping.getCause();
            String said = mapping.getOriginalMessage();
            if (error instanceof InvalidNullException) {
                said = NO_NULL;
            } else if (cause instanceof RuntimeException && cause.getMessage() != null) {
                said = cause.getMessage();
            }
            return new InvalidInputException((pointer.isEmpty() ? "value" : pointer) + ": " + said, pointer);
        }
        if (error instanceof InvalidInputException known) {
            return known;
        }
        return new InvalidInputException((place.isEmpty() ? "value" : place) + ": " + error.getMessage(), place);
    }

    private static InvalidInputException notWritable(Exception error) {
        Throwable at = error;
        List<JsonMappingException.Reference> path = List.of();
        if (error instanceof JsonMappingException mapping) {
            path = mapping.getPath();
        }
        while (at.getCause() != null && !(at instanceof InvalidInputException)) {
            at = at.getCause();
        }
        String pointer = pointer("", path);
        String said =
                at instanceof JsonProcessingException known ? known.getOriginalMessage() : String.valueOf(at.getMessage());
        return new InvalidInputException(
                InvalidInputException.INVALID_VALUE,
                (pointer.isEmpty() ? "" : pointer + ": ") + said,
                pointer,
                at instanceof InvalidInputException || at instanceof JsonProcessingException ? null : at);
    }

    private static String pointer(String place, List<JsonMappingException.Reference> path) {
        StringBuilder pointer = new StringBuilder(place);
        for (JsonMappingException.Reference step : path.subList(0, Math.min(path.size(), 64))) {
            if (step.getFieldName() == null) {
                pointer.append('[').append(step.getIndex()).append(']');
            } else {
                pointer.append(pointer.isEmpty() ? "" : ".").append(step.getFieldName());
            }
        }
        return pointer.toString();
    }
}
