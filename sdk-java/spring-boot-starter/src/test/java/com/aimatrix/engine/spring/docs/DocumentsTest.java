package com.aimatrix.engine.spring.docs;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** docs/spring.md tells of what there is, and its Java is, word for word, in sources that are compiled and run. */
class DocumentsTest {
    private static final Path DOCUMENT = Path.of("../../docs/spring.md");
    private static final Pattern FENCE = Pattern.compile("^```java\n(.*?)^```$", Pattern.DOTALL | Pattern.MULTILINE);

    private static List<String> sources() throws IOException {
        try (Stream<Path> files = Files.walk(Path.of("src/test/java"))) {
            List<String> texts = new ArrayList<>();
            for (Path file : files.filter(one -> one.toString().endsWith(".java")).toList()) {
                texts.add(Files.readString(file));
            }
            return texts;
        }
    }

    private static boolean shown(String piece, List<String> sources) {
        return Stream.of(piece, piece.indent(4), piece.indent(8)).anyMatch(wanted -> holds(sources, unpadded(wanted)));
    }

    private static boolean holds(List<String> sources, String piece) {
        return sources.stream().anyMatch(one -> one.contains(piece));
    }

    /** Empty lines stay empty, however deep the lines around them are. */
    private static String unpadded(String text) {
        return text.replaceAll("(?m)^ +$", "");
    }

    @Test
    void java_of_the_document_is_compiled_and_run() throws IOException {
        Matcher blocks = FENCE.matcher(Files.readString(DOCUMENT));
        List<String> sources = sources();
        int found = 0;
        for (; blocks.find(); found++) {
            assertThat(shown(blocks.group(1), sources)).as(blocks.group(1)).isTrue();
        }
        assertThat(found).isPositive();
        assertThat(shown("class Support { // not " + "like that", sources)).isFalse();
    }

    @Test
    void every_property_is_described_to_editors_and_in_the_document() throws IOException {
        String document = Files.readString(DOCUMENT);
        Path metadata = Path.of("target/classes/META-INF/spring-configuration-metadata.json");
        List<String> names = new ArrayList<>();
        for (JsonNode property : new ObjectMapper().readTree(metadata.toFile()).get("properties")) {
            String name = property.get("name").asText();
            names.add(name);
            assertThat(property.path("description").asText()).as(name).isNotBlank();
            assertThat(document).contains("`" + name + "`");
        }
        assertThat(names).contains("amx.address", "amx.tls.ca", "management.health.amx.enabled");
    }
}
