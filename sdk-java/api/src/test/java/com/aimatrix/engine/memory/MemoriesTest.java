package com.aimatrix.engine.memory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.v1.MemoryChange;
import com.aimatrix.engine.v1.MemoryEntry;
import com.aimatrix.engine.v1.MemoryImage;
import com.aimatrix.engine.v1.MemoryKind;
import com.google.protobuf.ByteString;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class MemoriesTest {
    private static final Json JSON = Json.standard();

    private double now;
    private InstanceMemories memories;
    private Map<Object, Object> map;
    private Map<Object, Object> bounded;
    private Map<Object, Object> scratch;
    private Set<Object> set;
    private List<Object> list;
    private MemoryValue<Object> value;
    private int plain;
    private List<String> names;
    /** What the engine has. */
    private final Map<String, Map<String, MemoryEntry>> stored = new LinkedHashMap<>();

    private static MemorySpec spec(String name, MemoryKind kind, long ttl, int most) {
        boolean keyed = kind == MemoryKind.MEMORY_KIND_MAP || kind == MemoryKind.MEMORY_KIND_SET;
        return new MemorySpec(
                name, kind, JSON.type(Object.class), keyed ? JSON.type(Object.class) : null, true, ttl, most, JSON);
    }

    @BeforeEach
    @SuppressWarnings("unchecked")
    void make() {
        plain = 0;
        names = new ArrayList<>();
        memories = new InstanceMemories(() -> now);
        map = (Map<Object, Object>) memories.attach(spec("map", MemoryKind.MEMORY_KIND_MAP, 0, 0), null);
        bounded = (Map<Object, Object>) memories.attach(spec("bounded", MemoryKind.MEMORY_KIND_MAP, 0, 3), null);
        scratch = (Map<Object, Object>) memories.attach(spec("scratch", MemoryKind.MEMORY_KIND_MAP, 60_000, 0), null);
        set = (Set<Object>) memories.attach(spec("set", MemoryKind.MEMORY_KIND_SET, 0, 0), null);
        list = (List<Object>) memories.attach(spec("list", MemoryKind.MEMORY_KIND_LIST, 0, 0), null);
        value = (MemoryValue<Object>) memories.attach(spec("value", MemoryKind.MEMORY_KIND_VALUE, 0, 0), null);
        memories.attachField(
                new MemorySpec("plain", MemoryKind.MEMORY_KIND_VALUE, JSON.type(int.class), null, true, 0, 0, JSON),
                () -> plain,
                held -> plain = (Integer) held);
        memories.attachField(
                new MemorySpec(
                        "names",
                        MemoryKind.MEMORY_KIND_VALUE,
                        JSON.mapper().getTypeFactory().constructCollectionType(List.class, String.class),
                        null,
                        true,
                        0,
                        0,
                        JSON),
                () -> names,
                this::names);
        memories.load(List.of(), 0);
    }

    @SuppressWarnings("unchecked")
    private void names(Object held) {
        names = (List<String>) held;
    }

    /** Commits, as an engine would take it; what was told, one line a change. */
    private List<String> commit() {
        if (!memories.changed()) {
            return List.of();
        }
        List<String> told = new ArrayList<>();
        for (MemoryChange change : memories.collect()) {
            Map<String, MemoryEntry> entries = stored.computeIfAbsent(change.getName(), name -> new LinkedHashMap<>());
            String line = change.getName();
            switch (change.getChangeCase()) {
                case CLEAR -> {
                    entries.clear();
                    line += " clear";
                }
                case REMOVE -> {
                    entries.remove(change.getRemove());
                    line += " -" + change.getRemove();
                }
                case TOUCH -> {
                    entries.put(change.getTouch(), entries.remove(change.getTouch()));
                    line += " ~" + change.getTouch();
                }
                default -> {
                    MemoryEntry put = change.getPut();
                    entries.remove(put.getId());
                    entries.put(put.getId(), put);
                    line += " " + put.getId() + "=" + put.getValue().toStringUtf8();
                    line += put.getExpiresInMs() > 0 ? " for " + put.getExpiresInMs() : "";
                }
            }
            told.add(line);
        }
        memories.begin();
        return told;
    }

    /** Sleeps, and comes back from what the engine has. */
    private void hibernate() {
        make();
        List<MemoryImage> image = new ArrayList<>();
        stored.forEach(
                (name, entries) ->
                        image.add(MemoryImage.newBuilder().setName(name).addAllEntries(entries.values()).build()));
        memories.load(image, 7);
    }

    @Test
    void nothing_is_told_where_nothing_changed() {
        assertFalse(memories.changed());
        assertNull(value.get());
        assertNull(map.get("a"));
        assertFalse(set.remove("y"));
        assertEquals(List.of(), commit());
    }

    @Test
    void entries_of_a_map_are_written_and_removed_one_by_one() {
        map.put("a", 1);
        map.put("b", Map.of("x", 2));
        assertEquals(List.of("map \"a\"=1", "map \"b\"={\"x\":2}"), commit());
        map.put("b", 3);
        assertEquals(List.of("map \"b\"=3"), commit());
        map.remove("a");
        assertEquals(List.of("map -\"a\""), commit());
        hibernate();
        assertEquals(Map.of("b", 3), map);
        map.put("n", null);
        assertTrue(map.containsKey("n"));
        assertNull(map.get("n"));
        assertEquals(2, map.size());
    }

    @Test
    void keys_are_told_apart_by_their_json() {
        map.put(1, "number");
        map.put("1", "text");
        map.put("ä \"😀", "more");
        map.put(List.of("a", Map.of("b", 1)), "whole");
        map.put(Long.MAX_VALUE, "large");
        commit();
        hibernate();
        assertEquals("number", map.get(1));
        assertEquals("text", map.get("1"));
        assertEquals("more", map.get("ä \"😀"));
        assertEquals("whole", map.get(List.of("a", Map.of("b", 1))));
        assertEquals("large", map.get(Long.MAX_VALUE));
        assertEquals(5, map.size());
    }

    @Test
    void values_inside_values_are_noticed_and_undone() {
        map.put("a", new ArrayList<>(List.of(1)));
        value.set(new LinkedHashMap<>(Map.of("n", 1)));
        commit();
        inside(map.get("a")).add(2);
        assertEquals(List.of("map \"a\"=[1,2]"), commit());
        inside(map.get("a")).add(3);
        inside(map.get("a")).remove(2);
        assertEquals(List.of(), commit());
        inside(map.values().iterator().next()).add(4);
        ((Map<?, ?>) value.get()).clear();
        assertTrue(memories.changed());
        memories.rollback();
        assertEquals(List.of(1, 2), map.get("a"));
        assertEquals(Map.of("n", 1), value.get());
        assertEquals(List.of(), commit());
    }

    @SuppressWarnings("unchecked")
    private static List<Object> inside(Object list) {
        return (List<Object>) list;
    }

    @Test
    void what_is_kept_after_the_commit_is_no_longer_the_memory() {
        List<Object> mine = new ArrayList<>(List.of(1));
        map.put("a", mine);
        commit();
        mine.add(2);
        assertEquals(List.of(1), map.get("a"));
    }

    @Test
    void members_of_a_set_are_written_without_a_value() {
        assertTrue(set.add("x"));
        assertTrue(set.add(7));
        assertFalse(set.add("x"));
        assertEquals(List.of("set \"x\"=", "set 7="), commit());
        set.add("7");
        set.remove("x");
        set.remove("never");
        assertEquals(List.of("set -\"x\"", "set \"7\"="), commit());
        hibernate();
        assertEquals(Set.of(7, "7"), set);
    }

    @Test
    void appending_to_a_list_tells_the_new_item_only_and_inserting_few() {
        list.addAll(List.of("a", "b", "c"));
        assertEquals(List.of("list 0=\"a\"", "list 1=\"b\"", "list 2=\"c\""), commit());
        list.add("d");
        assertEquals(List.of("list 3=\"d\""), commit());
        list.add(0, "first");
        assertEquals(List.of("list -1=\"first\""), commit());
        list.add(2, "between");
        commit();
        list.set(1, "A");
        list.remove("c");
        commit();
        hibernate();
        assertEquals(List.of("first", "A", "between", "b", "d"), list);
    }

    @Test
    void a_plain_field_is_compared_with_what_it_was() {
        plain = 5;
        names.add("x");
        assertEquals(List.of("plain =5", "names =[\"x\"]"), commit());
        plain = 6;
        plain = 5;
        assertEquals(List.of(), commit());
        plain = 7;
        names = new ArrayList<>(List.of("y"));
        assertTrue(memories.changed());
        memories.rollback();
        assertEquals(5, plain);
        assertEquals(List.of("x"), names);
        hibernate();
        assertEquals(5, plain);
        assertEquals(List.of("x"), names);
        assertEquals(List.of(), commit());
    }

    @Test
    void memory_of_every_kind_is_undone() {
        value.set(Map.of("n", List.of(1)));
        map.put("a", 1);
        set.add("m");
        list.addAll(List.of(1, 2));
        commit();
        for (int round = 0; round < 2; round++) {
            value.set("lost");
            map.put("a", "lost");
            map.put("b", "lost");
            set.add("lost");
            set.remove("m");
            list.remove(0);
            list.add("lost");
            plain = 9;
            memories.rollback();
            assertEquals(Map.of("n", List.of(1)), value.get());
            assertEquals(Map.of("a", 1), map);
            assertEquals(Set.of("m"), set);
            assertEquals(List.of(1, 2), list);
            assertEquals(0, plain);
            value.set(null);
            map.clear();
            set.clear();
            list.clear();
            memories.rollback();
            assertEquals(Map.of("n", List.of(1)), value.get());
            assertEquals(Map.of("a", 1), map);
            assertEquals(Set.of("m"), set);
            assertEquals(List.of(1, 2), list);
        }
        assertEquals(List.of(), commit());
    }

    @Test
    void a_cleared_map_is_empty_but_for_what_is_written_afterwards() {
        map.put("a", 1);
        map.put("b", 2);
        commit();
        map.put("c", 3);
        map.clear();
        map.put("b", 4);
        assertEquals(List.of("map clear", "map \"b\"=4"), commit());
        hibernate();
        assertEquals(Map.of("b", 4), map);
    }

    @Test
    void entries_expire_and_writing_renews_them() {
        scratch.put("a", 1);
        scratch.put("b", 1);
        map.put("a", 1);
        assertEquals(
                List.of("map \"a\"=1", "scratch \"a\"=1 for 60000", "scratch \"b\"=1 for 60000"), commit());
        now += 40_000;
        scratch.put("b", 2);
        assertEquals(1, scratch.get("a"));
        commit();
        now += 30_000;
        memories.begin();
        assertEquals(Map.of("b", 2), scratch);
        assertFalse(memories.changed());
        now += 31_000;
        memories.begin();
        assertTrue(scratch.isEmpty());
        assertEquals(1, map.size());
    }

    @Test
    void one_entry_has_a_lifetime_of_its_own_until_it_is_written_again() {
        map.put("a", new ArrayList<>(List.of(1)));
        map.put("b", 1);
        list.add("x");
        set.add("m");
        value.set("v");
        plain = 3;
        commit();
        Memories.expire(map, "a", Duration.ofSeconds(5));
        Memories.expire(map, "b", Duration.ofSeconds(5));
        Memories.expire(list, 0, Duration.ofSeconds(5));
        Memories.expire(set, "m", Duration.ofSeconds(5));
        value.expire(Duration.ofSeconds(5));
        memories.expire("plain", 5000);
        assertEquals(
                List.of(
                        "map \"a\"=[1] for 5000", "map \"b\"=1 for 5000", "set \"m\"= for 5000", "list 0=\"x\" for 5000",
                        "value =\"v\" for 5000", "plain =3 for 5000"),
                commit());
        map.put("b", 2);
        inside(map.get("a")).add(2);
        now += 1000;
        assertEquals(List.of("map \"b\"=2", "map \"a\"=[1,2] for 4000"), commit());
        now += 5000;
        memories.begin();
        assertEquals(Map.of("b", 2), map);
        assertTrue(list.isEmpty());
        assertTrue(set.isEmpty());
        assertNull(value.get());
        assertEquals(0, plain);
        assertEquals(List.of(), commit());
        assertThrows(InvalidInputException.class, () -> Memories.expire(map, "none", Duration.ofSeconds(1)));
        assertThrows(InvalidInputException.class, () -> memories.expire("map", 5));
    }

    @Test
    void an_image_brings_its_lifetimes() {
        MemoryEntry soon =
                MemoryEntry.newBuilder()
                        .setId("\"soon\"")
                        .setValue(ByteString.copyFromUtf8("1"))
                        .setExpiresInMs(3000)
                        .build();
        MemoryEntry mortal = MemoryEntry.newBuilder().setValue(ByteString.copyFromUtf8("8")).setExpiresInMs(3000).build();
        memories.load(
                List.of(
                        MemoryImage.newBuilder().setName("scratch").addEntries(soon).build(),
                        MemoryImage.newBuilder().setName("plain").addEntries(mortal).build()),
                2);
        memories.begin();
        assertEquals(Map.of("soon", 1), scratch);
        assertEquals(8, plain);
        now += 5000;
        memories.begin();
        assertTrue(scratch.isEmpty());
        assertEquals(0, plain);
        assertFalse(memories.changed());
    }

    @Test
    void a_bounded_memory_drops_what_was_used_longest_ago_and_tells_reads() {
        bounded.put("a", 1);
        bounded.put("b", 2);
        bounded.put("c", 3);
        commit();
        assertEquals(1, bounded.get("a"));
        assertEquals(List.of(), commit());
        bounded.put("c", 4);
        assertEquals(List.of("bounded ~\"a\"", "bounded \"c\"=4"), commit());
        hibernate();
        bounded.put("d", 5);
        assertEquals(List.of("bounded -\"b\"", "bounded \"d\"=5"), commit());
        assertEquals(Set.of("a", "c", "d"), bounded.keySet());
    }

    @Test
    @SuppressWarnings("unchecked")
    void initial_content_is_stored_with_the_first_commit_and_is_no_reason_for_one() {
        InstanceMemories other = new InstanceMemories(() -> now);
        Map<Object, Object> filled =
                (Map<Object, Object>) other.attach(spec("map", MemoryKind.MEMORY_KIND_MAP, 0, 0), Map.of("a", List.of(1)));
        MemoryValue<Object> one =
                (MemoryValue<Object>)
                        other.attach(spec("value", MemoryKind.MEMORY_KIND_VALUE, 0, 0), new MemoryValue<>(List.of(0)));
        other.load(List.of(), 0);
        assertEquals(Map.of("a", List.of(1)), filled);
        assertFalse(other.changed());
        filled.put("a", "lost");
        other.rollback();
        assertEquals(Map.of("a", List.of(1)), filled);
        one.set(5);
        assertEquals(2, other.collect().size());
        other.load(List.of(), 4);
        assertTrue(filled.isEmpty());
        assertEquals(List.of(0), one.get());
    }

    @Test
    void what_has_no_json_form_is_named_and_loses_nothing() {
        map.put("a", 1);
        commit();
        map.put("b", Double.NaN);
        assertTrue(memories.changed());
        InvalidInputException error = assertThrows(InvalidInputException.class, memories::collect);
        assertEquals("INVALID_VALUE", error.reason());
        assertEquals("map[\"b\"]", error.pointer());
        memories.rollback();
        assertEquals(Map.of("a", 1), map);
    }

    @Test
    void random_operations_end_as_ordinary_collections_do() {
        for (int seed = 0; seed < 60; seed++) {
            Random random = new Random(seed);
            stored.clear();
            make();
            Map<Object, Object> wantedMap = new LinkedHashMap<>();
            Set<Object> wantedSet = new LinkedHashSet<>();
            List<Object> wantedList = new ArrayList<>();
            for (int step = 0; step < 60; step++) {
                Map<Object, Object> oldMap = new LinkedHashMap<>(wantedMap);
                Set<Object> oldSet = new LinkedHashSet<>(wantedSet);
                List<Object> oldList = new ArrayList<>(wantedList);
                for (int operation = random.nextInt(6); operation >= 0; operation--) {
                    int key = random.nextInt(5);
                    int item = random.nextInt(100);
                    switch (random.nextInt(12)) {
                        case 0, 1 -> assertEquals(wantedMap.put(key, item), map.put(key, item));
                        case 2 -> assertEquals(wantedMap.remove(key), map.remove(key));
                        case 3, 4 -> assertEquals(wantedSet.add(key), set.add(key));
                        case 5 -> assertEquals(wantedSet.remove(key), set.remove(key));
                        case 6 -> {
                            wantedList.add(item);
                            list.add(item);
                        }
                        case 7, 8 -> {
                            int at = random.nextInt(wantedList.size() + 1);
                            wantedList.add(at, item);
                            list.add(at, item);
                        }
                        case 9 -> {
                            if (!wantedList.isEmpty()) {
                                int at = random.nextInt(wantedList.size());
                                assertEquals(wantedList.remove(at), list.remove(at));
                            }
                        }
                        case 10 -> {
                            Collections.reverse(wantedList);
                            Collections.reverse(list);
                        }
                        default -> {
                            if (random.nextInt(4) == 0) {
                                wantedMap.clear();
                                map.clear();
                                wantedList.clear();
                                list.clear();
                            }
                        }
                    }
                }
                if (random.nextInt(3) == 0) {
                    memories.rollback();
                    wantedMap = oldMap;
                    wantedSet = oldSet;
                    wantedList = oldList;
                } else {
                    commit();
                    if (random.nextInt(4) == 0) {
                        hibernate();
                    }
                }
                assertEquals(wantedMap, map, "seed " + seed);
                assertEquals(wantedSet, set, "seed " + seed);
                assertEquals(wantedList, list, "seed " + seed);
            }
        }
    }

    @Test
    void what_was_of_another_kind_before_is_an_error_that_names_the_memory() {
        for (String name : List.of("list", "value", "plain")) {
            assertTrue(another(name, "\"Ada\"").contains("memory '" + name + "' was of another kind before"));
        }
        assertTrue(another("map", "").contains("memory 'map'"));
        assertTrue(another("set", "").contains("memory 'set'"));
    }

    private String another(String name, String id) {
        MemoryEntry entry = MemoryEntry.newBuilder().setId(id).setValue(ByteString.copyFromUtf8("1")).build();
        MemoryImage image = MemoryImage.newBuilder().setName(name).addEntries(entry).build();
        return assertThrows(InvalidInputException.class, () -> memories.load(List.of(image), 3)).getMessage();
    }
}
