package com.aimatrix.engine;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;
import org.snakeyaml.engine.v2.exceptions.YamlEngineException;

/** Settings in a file of YAML 1.2, which JSON is, too: sections with fields, and nothing that is run. */
final class ConfigFile {
    private ConfigFile() {}

    /** The sections of a file; throws AmxException INVALID_CONFIG naming it and what is wrong with it. */
    static Map<String, Object> read(Path file) {
        Object loaded;
        try {
            LoadSettings settings = LoadSettings.builder().setLabel(file.toString()).setUseMarks(true).build();
            loaded = new Load(settings).loadFromString(Files.readString(file));
        } catch (NoSuchFileException error) {
            throw invalid("the configuration " + file + " is not there", error);
        } catch (IOException | YamlEngineException error) {
            throw invalid("the configuration " + file + " cannot be read: " + error.getMessage(), error);
        }
        Map<String, Object> sections = new LinkedHashMap<>();
        if (loaded instanceof Map<?, ?> said) {
            said.forEach((name, section) -> sections.put(String.valueOf(name), section));
        } else if (loaded != null) {
            throw invalid("the configuration " + file + " must hold sections", null);
        }
        return sections;
    }

    static AmxException invalid(String message, Throwable cause) {
        return new AmxException.Facts(Code.INVALID_ARGUMENT, "INVALID_CONFIG", message).cause(cause).exception();
    }
}
