package com.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.Agents;
import com.aimatrix.engine.MessageRouter;
import com.aimatrix.engine.PerformanceMonitor;
import com.aimatrix.engine.Pipeline;
import com.aimatrix.engine.testing.EmbeddedEngine;
import java.io.IOException;
import java.io.StringWriter;
import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.net.URI;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The Java of the documents works as it is written. */
class DocumentsTest {
    private static final Pattern FENCE = Pattern.compile("^```java\n(.*?)^```$", Pattern.DOTALL | Pattern.MULTILINE);
    private static final Pattern NAME =
            Pattern.compile("^(?:public )?(?:final )?(?:abstract )?(?:class|record|interface|enum) (\\w+)", Pattern.MULTILINE);

    private static List<String> blocks(String document) throws IOException {
        Matcher found = FENCE.matcher(Files.readString(Programs.ROOT.resolve(document)));
        return found.results().map(one -> one.group(1)).toList();
    }

    /** A block as a file: its first type, or the public one, gives the name. */
    private static JavaFileObject source(String block) {
        Matcher open = Pattern.compile("^public .*?(?:class|record|interface|enum) (\\w+)", Pattern.MULTILINE).matcher(block);
        Matcher first = NAME.matcher(block);
        assertTrue(first.find(), () -> "no type is declared in\n" + block);
        String name = open.find() ? open.group(1) : first.group(1);
        return new SimpleJavaFileObject(URI.create("string:///" + name + ".java"), JavaFileObject.Kind.SOURCE) {
            @Override
            public CharSequence getCharContent(boolean ignoreEncodingErrors) {
                return block;
            }
        };
    }

    @ParameterizedTest
    @ValueSource(strings = {"README.md", "docs/java.md"})
    void java_of_a_document_compiles_without_a_warning(String document, @TempDir Path folder) throws IOException {
        compile(document, folder);
    }

    private static void compile(String document, Path folder) throws IOException {
        List<String> blocks = blocks(document);
        assertFalse(blocks.isEmpty());
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        for (String block : blocks) {
            StringWriter said = new StringWriter();
            List<String> options =
                    List.of("-d", folder.toString(), "-parameters", "-Xlint:all,-processing,-classfile,-serial", "-Werror");
            assertTrue(
                    compiler.getTask(said, null, null, options, null, List.of(source(block))).call(),
                    () -> document + "\n" + block + "\n" + said);
        }
    }

    @Test
    void agents_of_a_document_are_well_formed_and_its_tests_pass(@TempDir Path folder) throws Exception {
        compile("docs/java.md", folder);
        int agents = 0;
        int tests = 0;
        try (URLClassLoader loader = new URLClassLoader(new URL[] {folder.toUri().toURL()})) {
            for (Class<?> type : classes(folder, loader)) {
                if (Stream.of(Agent.class, Pipeline.class, MessageRouter.class, PerformanceMonitor.class)
                        .anyMatch(type::isAnnotationPresent)) {
                    assertFalse(Agents.of(type).handlers().isEmpty());
                    agents++;
                }
                for (Method method : type.getDeclaredMethods()) {
                    if (method.isAnnotationPresent(Test.class)
                            && (EmbeddedEngine.available() || !method.getName().endsWith("with_an_engine"))) {
                        Constructor<?> constructor = type.getDeclaredConstructor();
                        constructor.setAccessible(true);
                        method.setAccessible(true);
                        method.invoke(constructor.newInstance());
                        tests++;
                    }
                }
            }
        }
        assertTrue(agents > 10, agents + " agents");
        assertTrue(tests > 0);
    }

    private static List<Class<?>> classes(Path folder, ClassLoader loader) throws IOException, ClassNotFoundException {
        List<Class<?>> classes = new ArrayList<>();
        try (Stream<Path> files = Files.list(folder)) {
            for (Path file : files.toList()) {
                String name = file.getFileName().toString();
                if (name.endsWith(".class")) {
                    classes.add(loader.loadClass(name.substring(0, name.length() - ".class".length())));
                }
            }
        }
        return classes;
    }

    @Test
    void first_agent_of_the_readme_remembers_over_restarts(@TempDir Path folder) throws IOException {
        Assumptions.assumeTrue(EmbeddedEngine.available(), "no amx here; AMX_COMMAND names one");
        String first = blocks("README.md").get(0);
        Path file = Files.writeString(folder.resolve("Greeter.java"), first);
        try (EmbeddedEngine engine = EmbeddedEngine.start()) {
            for (int time = 1; time <= 2; time++) {
                String said = Programs.run(engine, file.toString());
                assertEquals("Hello, Ada! This is time " + time + ".", said.strip());
            }
        }
    }
}
