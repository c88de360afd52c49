package com.example.crawler;

import com.aimatrix.engine.Agent;
import com.aimatrix.engine.Handler;
import com.aimatrix.engine.Memory;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;

/** Which words are on which pages of a site. */
@Agent(name = "Index")
public class Index {
    /** A page's text, without its markup. */
    record Document(String path, String title, String text) {}

    /** A page that was found. count: how often the words are on it. */
    record Hit(String path, String title, int count) {}

    @Memory(persistent = true)
    private Map<String, String> titles = new HashMap<>();

    /** By word, then by page: how often. Each word is a memory of its own, so that a page writes its words only. */
    @Memory(persistent = true)
    private Map<String, Map<String, Integer>> words = new HashMap<>();

    @Handler
    void add(Document document) {
        titles.put(document.path(), document.title());
        for (String word : split(document.text())) {
            words.computeIfAbsent(word, first -> new HashMap<>()).merge(document.path(), 1, Integer::sum);
        }
    }

    /** The pages with all of these words, one by one, those that have them most often first. */
    @Handler
    Stream<Hit> search(String query) {
        List<Map<String, Integer>> pages =
                split(query).stream().map(word -> words.getOrDefault(word, Map.of())).toList();
        if (pages.isEmpty()) {
            return Stream.empty();
        }
        return pages.get(0).keySet().stream()
                .filter(path -> pages.stream().allMatch(one -> one.containsKey(path)))
                .map(path -> new Hit(path, titles.get(path), pages.stream().mapToInt(one -> one.get(path)).sum()))
                .sorted(Comparator.comparingInt(Hit::count).reversed().thenComparing(Hit::path));
    }

    private static List<String> split(String text) {
        return Arrays.stream(text.toLowerCase(Locale.ROOT).split("\\W+")).filter(word -> !word.isEmpty()).toList();
    }
}
