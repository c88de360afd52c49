package com.aimatrix.engine.testee;

import com.aimatrix.engine.errors.InvalidInputException;
import com.aimatrix.engine.memory.Memories;
import com.aimatrix.engine.memory.MemoryValue;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** What the Interpreter does with its own memories. */
final class OwnMemory {
    private OwnMemory() {}

    static Object use(Interpreter agent, Operation operation) {
        return switch (operation.text("memory")) {
            case "value" -> value(agent.value, operation);
            case "set" -> set(agent.set, operation);
            case "list" -> list(agent.list, operation);
            case "map" -> map(agent.map, operation);
            case "scratch" -> map(agent.scratch, operation);
            default -> map(agent.bounded, operation);
        };
    }

    private static Object value(MemoryValue<Object> value, Operation operation) {
        switch (operation.op()) {
            case "get", "all" -> {
                return value.get() == null ? Interpreter.NOTHING : value.get();
            }
            case "put" -> value.set(operation.said().get("value"));
            case "expire" -> value.expire(operation.millis("after_ms"));
            case "remove", "clear" -> value.set(null);
            default -> throw unknown(operation);
        }
        return Interpreter.NOTHING;
    }

    private static Object set(Set<Object> set, Operation operation) {
        Object member = operation.said().get("value");
        switch (operation.op()) {
            case "get" -> {
                return set.contains(member);
            }
            case "length" -> {
                return set.size();
            }
            case "all" -> {
                return new ArrayList<>(set);
            }
            case "add" -> set.add(member);
            case "remove" -> set.remove(member);
            case "clear" -> set.clear();
            case "expire" -> Memories.expire(set, member, operation.millis("after_ms"));
            default -> throw unknown(operation);
        }
        return Interpreter.NOTHING;
    }

    private static Object list(List<Object> list, Operation operation) {
        Object value = operation.said().get("value");
        int index = operation.has("key") ? operation.number("key") : -1;
        index = index < 0 ? index + list.size() : index;
        boolean there = index >= 0 && index < list.size();
        switch (operation.op()) {
            case "get" -> {
                return there ? list.get(index) : Interpreter.NOTHING;
            }
            case "length" -> {
                return list.size();
            }
            case "all" -> {
                return new ArrayList<>(list);
            }
            case "put" -> list.set(index, value);
            case "append" -> list.add(value);
            case "remove" -> {
                if (there) {
                    list.remove(index);
                }
            }
            case "clear" -> list.clear();
            case "expire" -> Memories.expire(list, index, operation.millis("after_ms"));
            default -> throw unknown(operation);
        }
        return Interpreter.NOTHING;
    }

    private static Object map(Map<Object, Object> map, Operation operation) {
        Object key = operation.said().get("key");
        switch (operation.op()) {
            case "get" -> {
                return map.containsKey(key) ? map.get(key) : Interpreter.NOTHING;
            }
            case "length" -> {
                return map.size();
            }
            case "all" -> {
                List<Object> pairs = new ArrayList<>();
                map.forEach((its, held) -> pairs.add(Arrays.asList(its, held)));
                return pairs;
            }
            case "put" -> map.put(key, operation.said().get("value"));
            case "remove" -> map.remove(key);
            case "clear" -> map.clear();
            case "expire" -> Memories.expire(map, key, operation.millis("after_ms"));
            default -> throw unknown(operation);
        }
        return Interpreter.NOTHING;
    }

    private static InvalidInputException unknown(Operation operation) {
        return new InvalidInputException(
                "there is no operation '" + operation.op() + "' on the memory '" + operation.text("memory") + "'", "op");
    }
}
