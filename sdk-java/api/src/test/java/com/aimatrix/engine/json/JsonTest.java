package com.aimatrix.engine.json;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.v1.Payload;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.annotation.JsonSetter;
import com.fasterxml.jackson.annotation.Nulls;
import com.fasterxml.jackson.databind.JsonNode;
import com.google.protobuf.ByteString;
import java.lang.reflect.Type;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class JsonTest {
    private static final Json JSON = Json.standard();

    enum Color {
        RED,
        GREEN
    }

    record Nested(String name, int depth) {}

    record Typed(
            String text,
            Boolean flag,
            Integer small,
            Long large,
            Double ratio,
            BigDecimal amount,
            byte[] data,
            Instant at,
            LocalDate on,
            Duration lasting,
            Color color,
            List<String> tags,
            Map<String, Integer> scores,
            Nested nested,
            Optional<String> maybe) {}

    public static class Bean {
        public String name;
        public int count = 7;
    }

    record Guarded(int age) {
        Guarded {
            if (age < 0) {
                throw new IllegalArgumentException("nobody is that young");
            }
        }
    }

    private static Object read(String text, Type type) {
        return JSON.read(text.getBytes(StandardCharsets.UTF_8), JSON.type(type));
    }

    private static Object read(String text) {
        return JSON.read(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String write(Object value) {
        return new String(JSON.write(value), StandardCharsets.UTF_8);
    }

    private static InvalidInputException refused(Runnable what) {
        return assertThrows(InvalidInputException.class, what::run);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "NaN", "[Infinity]", "{\"a\": -Infinity}", "{", "", " ", "hello", "1 2", "[1,]", "{'a': 1}", "01", "/* */ 1",
                "{\"a\": 1, \"a\": 1}", "[{\"x\": {\"b\": 1, \"c\": 2, \"b\": 3}}]", "{\"a\": 1, \"\\u0061\": 2}",
                "\"\\ud800\"", "[\"ok\", \"\\udc00\\ud800\"]", "{\"\\uDfff\": 1}", "9007199254740993",
                "{\"id\": [-9007199254740993]}", "99999999999999999999999", "1e400", "[-1e400]", "1]", "\ufeff1"
            })
    void text_that_is_not_json_is_refused(String text) {
        assertEquals("INVALID_VALUE", refused(() -> read(text)).reason(), text);
        assertEquals("INVALID_VALUE", refused(() -> read(text, JsonNode.class)).reason(), text);
        String inside = text.isBlank() ? "," : text;
        assertEquals("INVALID_VALUE", refused(() -> read("{\"unknown\": [" + inside + "]}", Bean.class)).reason(), text);
    }

    @Test
    void bytes_that_are_not_utf_8_are_refused() {
        for (byte[] data : new byte[][] {{0x22, (byte) 0xff, 0x22}, {0x22, (byte) 0xc0, (byte) 0x80, 0x22}}) {
            assertEquals("INVALID_VALUE", refused(() -> JSON.read(data)).reason());
        }
        assertEquals("\ufffd", read("\"\ufffd\""));
    }

    @Test
    void nesting_without_end_is_refused_and_deep_nesting_is_not() {
        assertEquals("INVALID_VALUE", refused(() -> read("[".repeat(200_000))).reason());
        String deep = "[".repeat(400) + "]".repeat(400);
        assertEquals(deep, write(read(deep)));
        List<Object> itself = new ArrayList<>();
        itself.add(itself);
        assertEquals("INVALID_VALUE", refused(() -> JSON.write(itself)).reason());
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "null", "true", "0", "-1", "9007199254740991", "-9007199254740991", "0.1", "-0.5", "3.141592653589793",
                "0.30000000000000004", "1.0", "\"\"", "[]", "{}", "{\"a\":null}", "[true,null,false,{\"a\":null}]",
                "{\"b\":0,\"10\":1,\"2\":2,\"-1\":3,\"\":4,\"__proto__\":5}",
                "{\"zebra\":1,\"apple\":2,\"b\":{\"y\":1,\"x\":2},\"a\":3}",
                "\"Grüße, 你好, 😀 𝄞 e\u0301 \u2028\u2029\uffff\"",
                "\"9007199254740993 and 12345678901234567890 are text here\""
            })
    void json_comes_back_as_it_was(String text) {
        assertEquals(text, write(read(text)));
        assertEquals(text, write(read(text, JsonNode.class)));
    }

    @Test
    void numbers_of_an_exponent_keep_their_value() {
        assertEquals(1.7976931348623157e308, read("1.7976931348623157e308"));
        assertEquals("\"😀𝄞\"", write(read("\"\\ud83d\\ude00\\ud834\\udd1e\"")));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {
                "{\"text\": 5} | text",
                "{\"text\": true} | text",
                "{\"flag\": \"true\"} | flag",
                "{\"flag\": 1} | flag",
                "{\"small\": \"5\"} | small",
                "{\"small\": 1.5} | small",
                "{\"small\": 2147483648} | small",
                "{\"small\": \"\"} | small",
                "{\"large\": \"12x\"} | large",
                "{\"large\": 1.5} | large",
                "{\"large\": \"9223372036854775808\"} | large",
                "{\"ratio\": \"half\"} | ratio",
                "{\"ratio\": \"NaN\"} | ratio",
                "{\"ratio\": \"0.5\"} | ratio",
                "{\"amount\": \"much\"} | amount",
                "{\"amount\": \"1e999999\"} | amount",
                "{\"data\": \"no base64!\"} | data",
                "{\"data\": \"AA\"} | data",
                "{\"at\": \"yesterday\"} | at",
                "{\"at\": \"2026-02-30T12:00:00Z\"} | at",
                "{\"at\": \"2026-02-28\"} | at",
                "{\"at\": 1769860800} | at",
                "{\"on\": \"2023-02-29\"} | on",
                "{\"on\": [2023, 1, 1]} | on",
                "{\"lasting\": \"1.5 seconds\"} | lasting",
                "{\"lasting\": \"PT\"} | lasting",
                "{\"lasting\": 5} | lasting",
                "{\"color\": \"MAUVE\"} | color",
                "{\"color\": 1} | color",
                "{\"color\": \"1\"} | color",
                "{\"tags\": [\"a\", 2]} | tags[1]",
                "{\"tags\": \"a\"} | tags",
                "{\"scores\": {\"x\": 1, \"y\": \"high\"}} | scores.y",
                "{\"nested\": {\"name\": \"n\", \"depth\": \"deep\"}} | nested.depth",
                "{\"nested\": {\"name\": \"n\", \"depth\": null}} | nested.depth",
                "{\"nested\": {\"name\": \"n\"}} | nested.depth",
                "{\"maybe\": 3} | maybe",
                "{\"text\": null} | text",
                "{\"small\": null} | small",
                "{\"nested\": null} | nested",
                "{\"nested\": {\"name\": null, \"depth\": 1}} | nested.name"
            })
    void what_does_not_fit_names_its_field(String text, String field) {
        InvalidInputException error = refused(() -> read(text, Typed.class));
        assertEquals("INVALID_INPUT", error.reason(), error.getMessage());
        assertEquals(field, error.pointer(), error.getMessage());
        assertEquals(Map.of("field", field), error.metadata());
        assertTrue(error.getMessage().startsWith(field + ": "), error.getMessage());
    }

    static final class Members {
        @JsonProperty
        String name = "unnamed";

        @JsonProperty
        Object anything;

        @JsonProperty
        JsonNode tree;

        @JsonProperty
        OptionalInt count;

        @JsonSetter(nulls = Nulls.SET)
        String nick = "none";
    }

    @Test
    void null_fits_a_member_that_says_so() {
        Members bean = (Members) read("{\"anything\": null, \"tree\": null, \"count\": null, \"nick\": null}", Members.class);
        assertEquals("unnamed", bean.name);
        assertNull(bean.anything);
        assertNull(bean.nick);
        assertEquals(OptionalInt.empty(), bean.count);
        assertEquals("name", refused(() -> read("{\"name\": null}", Members.class)).pointer());
    }

    @ParameterizedTest
    @ValueSource(doubles = {5e-324, -5e-324, 1e-323, 1.5e-323, 1e-322, 2.2250738585072014E-308})
    void the_smallest_numbers_have_as_few_digits_as_in_other_languages(double number) {
        String text = new String(JSON.write(number), StandardCharsets.UTF_8);
        assertEquals(number, Double.parseDouble(text), text);
        if (Math.abs(number) == 5e-324) {
            assertEquals(number < 0 ? "-5E-324" : "5E-324", text);
        }
    }

    @Test
    void another_shape_does_not_fit_an_object() {
        for (String text : List.of("[1, 2]", "\"text\"", "5", "true")) {
            assertEquals("INVALID_INPUT", refused(() -> read(text, Typed.class)).reason(), text);
        }
        assertNull(read("null", Typed.class));
        assertEquals("INVALID_INPUT", refused(() -> read("\"many\"", int.class)).reason());
        assertEquals("INVALID_INPUT", refused(() -> read("null", int.class)).reason());
        assertEquals("INVALID_VALUE", refused(() -> read("{\"text\": 5, \"ratio\": NaN}", Typed.class)).reason());
        InvalidInputException young = refused(() -> read("{\"age\": -1}", Guarded.class));
        assertEquals("INVALID_INPUT", young.reason());
        assertTrue(young.getMessage().contains("nobody is that young"), young.getMessage());
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "{}",
                "{\"maybe\":null}",
                "{\"maybe\":\"\"}",
                "{\"text\":\"ä\",\"flag\":false,\"small\":-2147483648,\"ratio\":0.1}",
                "{\"large\":9007199254740991}",
                "{\"large\":\"9223372036854775807\"}",
                "{\"large\":\"-9223372036854775808\"}",
                "{\"amount\":\"12345678901234567890.123456789\"}",
                "{\"amount\":\"-0.1\"}",
                "{\"data\":\"\"}",
                "{\"data\":\"AP+AfwA=\"}",
                "{\"at\":\"2026-01-31T12:00:00Z\"}",
                "{\"at\":\"2026-01-31T12:00:00.123456789Z\"}",
                "{\"on\":\"2024-02-29\"}",
                "{\"on\":\"0001-01-01\"}",
                "{\"lasting\":\"PT1.5S\"}",
                "{\"lasting\":\"PT0S\"}",
                "{\"lasting\":\"PT36H\"}",
                "{\"color\":\"GREEN\"}",
                "{\"tags\":[],\"scores\":{}}",
                "{\"tags\":[\"a\",\"\",\"ä\"],\"scores\":{\"x\":1,\"7\":-2},\"nested\":{\"name\":\"n\",\"depth\":3}}"
            })
    void what_fits_comes_back_as_it_was(String text) {
        assertEquals(text, write(read(text, Typed.class)));
    }

    @Test
    void forms_with_one_meaning_are_taken() {
        assertEquals(42L, ((Typed) read("{\"large\": \"42\"}", Typed.class)).large());
        assertEquals(2, ((Typed) read("{\"small\": 2.0}", Typed.class)).small());
        assertEquals(
                Instant.parse("2026-02-28T22:30:00Z"),
                ((Typed) read("{\"at\": \"2026-03-01T00:30:00+02:00\"}", Typed.class)).at());
        assertEquals(Duration.ofDays(8), read("\"P1W1D\"", Duration.class));
        assertEquals(new BigDecimal("1.50"), read("1.50", BigDecimal.class));
        assertEquals(7, ((Bean) read("{\"name\": \"a\", \"more\": [1]}", Bean.class)).count);
    }

    @Test
    void values_without_a_json_form_are_refused_with_their_place() {
        Map<String, Object> value = new LinkedHashMap<>();
        value.put("a", List.of(1, Double.NaN));
        InvalidInputException error = refused(() -> JSON.write(value));
        assertEquals("INVALID_VALUE", error.reason());
        assertEquals("a[1]", error.pointer());
        assertEquals("INVALID_VALUE", refused(() -> JSON.write(new double[] {Double.POSITIVE_INFINITY})).reason());
        assertEquals("INVALID_VALUE", refused(() -> JSON.write("\ud800")).reason());
        assertEquals("INVALID_VALUE", refused(() -> JSON.write(new Object())).reason());
        assertEquals("INVALID_VALUE", refused(() -> JSON.write(Instant.MAX)).reason());
    }

    @Test
    void large_integers_are_text_where_their_type_is_declared_and_refused_elsewhere() throws Exception {
        assertEquals("INVALID_VALUE", refused(() -> JSON.write(Map.of("id", Long.MAX_VALUE))).reason());
        assertEquals("INVALID_VALUE", refused(() -> JSON.write(Long.MIN_VALUE)).reason());
        assertEquals("\"9223372036854775807\"", new String(JSON.write(Long.MAX_VALUE, JSON.type(long.class))));
        Type list = Declared.class.getDeclaredField("ids").getGenericType();
        assertEquals("[\"9223372036854775807\",1]", new String(JSON.write(List.of(Long.MAX_VALUE, 1L), JSON.type(list))));
        Declared declared = new Declared();
        declared.ids = List.of(Long.MAX_VALUE);
        declared.byName = Map.of("x", new BigInteger("99999999999999999999"));
        declared.plain = new long[] {1, Long.MAX_VALUE};
        assertEquals(
                "{\"ids\":[\"9223372036854775807\"],\"byName\":{\"x\":\"99999999999999999999\"},"
                        + "\"plain\":[1,\"9223372036854775807\"]}",
                write(declared));
    }

    static class Declared {
        public List<Long> ids;
        public Map<String, BigInteger> byName;
        public long[] plain;
    }

    @Test
    void canonical_text_is_the_same_for_equal_values() {
        Map<String, Object> value = new LinkedHashMap<>();
        value.put("b", 1);
        value.put("a", List.of(Map.of("z", 1), "\"{"));
        value.put("\uffff", 2);
        value.put("😀", 3);
        String text = JSON.canonical(value, JSON.type(Object.class));
        assertEquals("{\"a\":[{\"z\":1},\"\\\"{\"],\"b\":1,\"\uffff\":2,\"😀\":3}", text);
        assertEquals(value, JSON.readCanonical(text, JSON.type(Object.class)));
        assertEquals("\"ä \\\"😀\"", JSON.canonical("ä \"😀", JSON.type(String.class)));
        String large = JSON.canonical(Long.MAX_VALUE, JSON.type(Object.class));
        assertEquals("9223372036854775807", large);
        assertEquals(Long.MAX_VALUE, JSON.readCanonical(large, JSON.type(Long.class)));
        assertInstanceOf(BigInteger.class, JSON.readCanonical("99999999999999999999", JSON.type(Object.class)));
    }

    @Test
    void payloads_are_what_their_content_type_says() {
        assertNull(Payloads.decode(JSON, Payload.getDefaultInstance()));
        Payload bare = Payload.newBuilder().setData(ByteString.copyFromUtf8("[1]")).build();
        assertEquals(List.of(1), Payloads.decode(JSON, bare));
        Payload text = Payload.newBuilder().setContentType("text/plain").setData(ByteString.copyFromUtf8("[1]")).build();
        assertEquals("[1]", Payloads.decode(JSON, text));
        assertEquals("[1]", Payloads.decode(JSON, text, JSON.type(String.class)));
        Payload image = Payloads.ofBytes(new byte[] {1, 2}, "image/png");
        assertArrayEquals(new byte[] {1, 2}, (byte[]) Payloads.decode(JSON, image));
        assertEquals(
                "INVALID_VALUE", refused(() -> Payloads.decode(JSON, image, JSON.type(Bean.class))).reason());
        assertEquals("application/json", Payloads.encode(JSON, List.of()).getContentType());
        assertEquals(Payload.getDefaultInstance(), Payloads.encode(JSON, null));
        assertEquals(image, Payloads.encode(JSON, image));
    }
}
