package com.aimatrix.engine.json;

import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.BeanProperty;
import com.fasterxml.jackson.databind.DeserializationContext;
import com.fasterxml.jackson.databind.JavaType;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.JsonSerializer;
import com.fasterxml.jackson.databind.SerializerProvider;
import com.fasterxml.jackson.databind.deser.std.StdDeserializer;
import com.fasterxml.jackson.databind.exc.MismatchedInputException;
import com.fasterxml.jackson.databind.module.SimpleModule;
import com.fasterxml.jackson.databind.ser.ContextualSerializer;
import com.fasterxml.jackson.databind.ser.std.StdSerializer;
import com.fasterxml.jackson.databind.type.LogicalType;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.Base64;
import java.util.Date;
import java.util.function.Function;
import java.util.regex.Pattern;

/** Numbers, text, bytes and time as protocol.md says they travel, and nothing that merely looks like them. */
final class Scalars {
    /** Attribute of a writer: the type that is written has 64-bit integers declared in it. */
    static final Object DECLARES_INT64 = new Object();

    private static final Pattern INTEGER = Pattern.compile("-?\\d{1,4000}");
    private static final Pattern INSTANT =
            Pattern.compile("\\d{4}-\\d{2}-\\d{2}[Tt]\\d{2}:\\d{2}:\\d{2}(\\.\\d{1,9})?([Zz]|[+-]\\d{2}:\\d{2})");
    private static final Pattern DATE = Pattern.compile("\\d{4}-\\d{2}-\\d{2}");
    private static final Pattern DURATION =
            Pattern.compile("[+-]?P(?=.)(\\d+W)?(\\d+D)?(T(?=.)(\\d+H)?(\\d+M)?(\\d+(\\.\\d{1,9})?S)?)?");

    private Scalars() {}

    static SimpleModule module() {
        SimpleModule module = new SimpleModule("amx");
        integer(module, byte.class, Byte.class, Byte.MIN_VALUE, Byte.MAX_VALUE, BigInteger::byteValue);
        integer(module, short.class, Short.class, Short.MIN_VALUE, Short.MAX_VALUE, BigInteger::shortValue);
        integer(module, int.class, Integer.class, Integer.MIN_VALUE, Integer.MAX_VALUE, BigInteger::intValue);
        integer(module, long.class, Long.class, Long.MIN_VALUE, Long.MAX_VALUE, BigInteger::longValue);
        module.addDeserializer(
                BigInteger.class, new Integers<>(BigInteger.class, null, null, Function.identity(), true));
        fraction(module, double.class, Double.class, Double::valueOf);
        fraction(module, float.class, Float.class, Double::floatValue);
        module.addDeserializer(boolean.class, new Booleans(boolean.class));
        module.addDeserializer(Boolean.class, new Booleans(Boolean.class));
        module.addDeserializer(String.class, new Texts<>(String.class, "text", LogicalType.Textual, text -> text));
        module.addDeserializer(
                BigDecimal.class,
                new Texts<>(BigDecimal.class, "a decimal number as text", LogicalType.Float, Scalars::decimal) {
                    private static final long serialVersionUID = 1L;

                    @Override
                    public BigDecimal deserialize(JsonParser parser, DeserializationContext context)
                            throws IOException {
                        return parser.currentToken().isNumeric()
                                ? decimal(parser.getText())
                                : super.deserialize(parser, context);
                    }
                });
        text(module, byte[].class, "base64 with padding", LogicalType.Binary, Scalars::base64);
        text(module, Instant.class, "an instant such as 2026-01-31T12:00:00Z", LogicalType.DateTime, Scalars::instant);
        text(module, LocalDate.class, "a date such as 2026-01-31", LogicalType.DateTime, Scalars::date);
        text(module, Duration.class, "a duration such as PT1.5S", LogicalType.DateTime, Scalars::duration);
        text(
                module,
                Date.class,
                "an instant such as 2026-01-31T12:00:00Z",
                LogicalType.DateTime,
                value -> Date.from(instant(value)));

        module.addSerializer(Long.class, new Int64s<>(Long.class, false));
        module.addSerializer(long.class, new Int64s<>(Long.class, false));
        module.addSerializer(BigInteger.class, new Int64s<>(BigInteger.class, false));
        module.addSerializer(long[].class, new Longs());
        written(module, BigDecimal.class, BigDecimal::toPlainString);
        written(module, Instant.class, Scalars::format);
        written(module, Date.class, value -> format(value.toInstant()));
        return module;
    }

    private static <T> void integer(
            SimpleModule module, Class<T> primitive, Class<T> boxed, long low, long high, Function<BigInteger, T> of) {
        boolean int64 = boxed == Long.class;
        module.addDeserializer(
                primitive, new Integers<>(primitive, BigInteger.valueOf(low), BigInteger.valueOf(high), of, int64));
        module.addDeserializer(
                boxed, new Integers<>(boxed, BigInteger.valueOf(low), BigInteger.valueOf(high), of, int64));
    }

    private static <T> void fraction(SimpleModule module, Class<T> primitive, Class<T> boxed, Function<Double, T> of) {
        module.addDeserializer(primitive, new Fractions<>(primitive, of));
        module.addDeserializer(boxed, new Fractions<>(boxed, of));
    }

    private static <T> void text(
            SimpleModule module, Class<T> type, String expected, LogicalType kind, Function<String, T> parse) {
        module.addDeserializer(type, new Texts<>(type, expected, kind, parse));
    }

    private static <T> void written(SimpleModule module, Class<T> type, Function<T, String> text) {
        module.addSerializer(
                type,
                new StdSerializer<T>(type) {
                    private static final long serialVersionUID = 1L;

                    @Override
                    public void serialize(T value, JsonGenerator generator, SerializerProvider provider)
                            throws IOException {
                        generator.writeString(text.apply(value));
                    }
                });
    }

    /** RFC 3339 in UTC. Throws IllegalArgumentException for years that it has not. */
    static String format(Instant value) {
        int year = value.atOffset(ZoneOffset.UTC).getYear();
        if (year < 0 || year > 9999) {
            throw new IllegalArgumentException("the year of " + value + " is not one of RFC 3339's 0000 to 9999");
        }
        return value.toString();
    }

    private static Instant instant(String text) {
        if (!INSTANT.matcher(text).matches()) {
            throw new IllegalArgumentException();
        }
        return OffsetDateTime.parse(text).toInstant();
    }

    private static byte[] base64(String text) {
        if (text.length() % 4 != 0) {
            throw new IllegalArgumentException();
        }
        return Base64.getDecoder().decode(text);
    }

    private static LocalDate date(String text) {
        if (!DATE.matcher(text).matches()) {
            throw new IllegalArgumentException();
        }
        return LocalDate.parse(text);
    }

    private static Duration duration(String text) {
        if (!DURATION.matcher(text).matches()) {
            throw new IllegalArgumentException();
        }
        int weeks = text.indexOf('W');
        if (weeks < 0) {
            return Duration.parse(text);
        }
        int begin = text.indexOf('P') + 1;
        Duration whole = Duration.ofDays(Math.multiplyExact(7, Long.parseLong(text.substring(begin, weeks))));
        String rest = text.substring(weeks + 1);
        Duration sum = rest.isEmpty() ? whole : whole.plus(Duration.parse("P" + rest));
        return text.startsWith("-") ? sum.negated() : sum;
    }

    private static BigDecimal decimal(String text) {
        BigDecimal value = new BigDecimal(text);
        if (Math.abs((long) value.scale()) > 4000) {
            throw new IllegalArgumentException(); // its plain form has millions of digits
        }
        return value;
    }

    /** Whether a type has 64-bit integers in it, by itself or as an element. */
    static boolean declaresInt64(JavaType type) {
        if (type == null) {
            return false;
        }
        Class<?> raw = type.getRawClass();
        if (raw == long.class || raw == Long.class || raw == BigInteger.class) {
            return true;
        }
        if (type.getContentType() != null && declaresInt64(type.getContentType())) {
            return true;
        }
        for (JavaType part : type.getBindings().getTypeParameters()) {
            if (declaresInt64(part)) {
                return true;
            }
        }
        return false;
    }

    private static MismatchedInputException mismatch(JsonParser parser, Class<?> type, String expected)
            throws IOException {
        String got =
                switch (parser.currentToken()) {
                    case START_OBJECT, FIELD_NAME, END_OBJECT -> "an object";
                    case START_ARRAY, END_ARRAY -> "a list";
                    case VALUE_STRING -> "the text '" + Text.shortened(parser.getText()) + "'";
                    case VALUE_NUMBER_INT, VALUE_NUMBER_FLOAT -> "the number " + Text.shortened(parser.getText());
                    default -> parser.getText();
                };
        return MismatchedInputException.from(parser, type, "expected " + expected + ", got " + got);
    }

    /** What a type that has no null says of it. */
    private static <T> T refuseNull(Class<?> type, String expected, DeserializationContext context)
            throws JsonMappingException {
        if (type.isPrimitive()) {
            throw MismatchedInputException.from(
                    context.getParser(), type, "is missing or null; expected " + expected);
        }
        return null;
    }

    private static final class Integers<T> extends StdDeserializer<T> {
        private static final long serialVersionUID = 1L;
        private final BigInteger low;
        private final BigInteger high;
        private final transient Function<BigInteger, T> of;
        private final boolean int64;

        Integers(Class<T> type, BigInteger low, BigInteger high, Function<BigInteger, T> of, boolean int64) {
            super(type);
            this.low = low;
            this.high = high;
            this.of = of;
            this.int64 = int64;
        }

        @Override
        public T deserialize(JsonParser parser, DeserializationContext context) throws IOException {
            BigInteger value = null;
            JsonToken token = parser.currentToken();
            if (token == JsonToken.VALUE_NUMBER_INT) {
                value = parser.getBigIntegerValue();
            } else if (token == JsonToken.VALUE_NUMBER_FLOAT) {
                double number = parser.getDoubleValue();
                if (number == Math.rint(number) && Math.abs(number) <= StrictParser.MAX_SAFE_INTEGER) {
                    value = BigInteger.valueOf((long) number);
                }
            } else if (int64 && token == JsonToken.VALUE_STRING && INTEGER.matcher(parser.getText()).matches()) {
                value = new BigInteger(parser.getText());
            }
            if (value == null) {
                throw mismatch(parser, handledType(), "an integer");
            }
            if (low != null && (value.compareTo(low) < 0 || value.compareTo(high) > 0)) {
                throw mismatch(parser, handledType(), "an integer from " + low + " to " + high);
            }
            return of.apply(value);
        }

        @Override
        public T getNullValue(DeserializationContext context) throws JsonMappingException {
            return refuseNull(handledType(), "an integer", context);
        }

        @Override
        public LogicalType logicalType() {
            return LogicalType.Integer;
        }
    }

    private static final class Fractions<T> extends StdDeserializer<T> {
        private static final long serialVersionUID = 1L;
        private final transient Function<Double, T> of;

        Fractions(Class<T> type, Function<Double, T> of) {
            super(type);
            this.of = of;
        }

        @Override
        public T deserialize(JsonParser parser, DeserializationContext context) throws IOException {
            if (!parser.currentToken().isNumeric()) {
                throw mismatch(parser, handledType(), "a number");
            }
            return of.apply(parser.getDoubleValue());
        }

        @Override
        public T getNullValue(DeserializationContext context) throws JsonMappingException {
            return refuseNull(handledType(), "a number", context);
        }

        @Override
        public LogicalType logicalType() {
            return LogicalType.Float;
        }
    }

    private static final class Booleans extends StdDeserializer<Boolean> {
        private static final long serialVersionUID = 1L;

        Booleans(Class<?> type) {
            super(type);
        }

        @Override
        public Boolean deserialize(JsonParser parser, DeserializationContext context) throws IOException {
            if (!parser.currentToken().isBoolean()) {
                throw mismatch(parser, handledType(), "true or false");
            }
            return parser.getBooleanValue();
        }

        @Override
        public Boolean getNullValue(DeserializationContext context) throws JsonMappingException {
            return refuseNull(handledType(), "true or false", context);
        }

        @Override
        public LogicalType logicalType() {
            return LogicalType.Boolean;
        }
    }

    /** What travels as text in one form. */
    private static class Texts<T> extends StdDeserializer<T> {
        private static final long serialVersionUID = 1L;
        private final String expected;
        private final LogicalType kind;
        private final transient Function<String, T> parse;

        Texts(Class<T> type, String expected, LogicalType kind, Function<String, T> parse) {
            super(type);
            this.expected = expected;
            this.kind = kind;
            this.parse = parse;
        }

        @Override
        public T deserialize(JsonParser parser, DeserializationContext context) throws IOException {
            if (parser.currentToken() != JsonToken.VALUE_STRING) {
                throw mismatch(parser, handledType(), expected);
            }
            try {
                return parse.apply(parser.getText());
            } catch (IllegalArgumentException | DateTimeException | ArithmeticException error) {
                throw mismatch(parser, handledType(), expected);
            }
        }

        @Override
        public LogicalType logicalType() {
            return kind;
        }
    }

    /** Numbers where every language holds them exactly; text beyond that, where their type is declared. */
    private static final class Int64s<T extends Number> extends StdSerializer<T> implements ContextualSerializer {
        private static final long serialVersionUID = 1L;
        private static final BigInteger MAX = BigInteger.valueOf(StrictParser.MAX_SAFE_INTEGER);
        private final boolean declared;

        Int64s(Class<T> type, boolean declared) {
            super(type);
            this.declared = declared;
        }

        @Override
        public JsonSerializer<?> createContextual(SerializerProvider provider, BeanProperty property) {
            boolean declares = property != null && declaresInt64(property.getType());
            return declares == declared ? this : new Int64s<>(handledType(), declares);
        }

        @Override
        public void serialize(T value, JsonGenerator generator, SerializerProvider provider) throws IOException {
            BigInteger number = value instanceof BigInteger big ? big : BigInteger.valueOf(value.longValue());
            if (number.abs().compareTo(MAX) <= 0) {
                generator.writeNumber(number.longValue());
            } else if (declared || provider.getAttribute(DECLARES_INT64) == Boolean.TRUE) {
                generator.writeString(number.toString());
            } else {
                generator.writeNumber(number); // refuses it
            }
        }
    }

    private static final class Longs extends StdSerializer<long[]> {
        private static final long serialVersionUID = 1L;

        Longs() {
            super(long[].class);
        }

        @Override
        public void serialize(long[] value, JsonGenerator generator, SerializerProvider provider) throws IOException {
            generator.writeStartArray(value, value.length);
            for (long number : value) {
                if (Math.abs(number) <= StrictParser.MAX_SAFE_INTEGER && number != Long.MIN_VALUE) {
                    generator.writeNumber(number);
                } else {
                    generator.writeString(Long.toString(number));
                }
            }
            generator.writeEndArray();
        }
    }
}
