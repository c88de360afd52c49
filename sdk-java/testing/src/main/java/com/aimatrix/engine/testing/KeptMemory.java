package com.aimatrix.engine.testing;

import com.aimatrix.engine.v1.InstanceMemory;
import com.aimatrix.engine.v1.MemoryChange;
import com.aimatrix.engine.v1.MemoryEntry;
import com.aimatrix.engine.v1.MemoryImage;
import com.google.protobuf.ByteString;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.DoubleSupplier;

/** What one instance remembers between messages, as an engine would keep it. */
final class KeptMemory {
    private final DoubleSupplier now;
    private final Map<String, Map<String, Kept>> memories = new LinkedHashMap<>();
    private long version;

    /** expires: infinite: never. */
    private record Kept(ByteString value, double expires) {}

    KeptMemory(DoubleSupplier now) {
        this.now = now;
    }

    long version() {
        return version;
    }

    /** Takes the changes of one message over. Returns whether there were any. */
    boolean apply(List<MemoryChange> changes) {
        for (MemoryChange change : changes) {
            Map<String, Kept> entries = memories.computeIfAbsent(change.getName(), name -> new LinkedHashMap<>());
            switch (change.getChangeCase()) {
                case PUT -> {
                    MemoryEntry entry = change.getPut();
                    entries.remove(entry.getId());
                    double expires =
                            entry.getExpiresInMs() > 0
                                    ? now.getAsDouble() + entry.getExpiresInMs()
                                    : Double.POSITIVE_INFINITY;
                    entries.put(entry.getId(), new Kept(entry.getValue(), expires));
                }
                case REMOVE -> entries.remove(change.getRemove());
                case CLEAR -> entries.clear();
                case TOUCH -> {
                    Kept touched = entries.remove(change.getTouch());
                    if (touched != null) {
                        entries.put(change.getTouch(), touched);
                    }
                }
                default -> {}
            }
        }
        if (!changes.isEmpty()) {
            version++;
        }
        return !changes.isEmpty();
    }

    /** Entries of one memory that have not expired. */
    List<MemoryEntry> entries(String name) {
        double at = now.getAsDouble();
        return memories.getOrDefault(name, Map.of()).entrySet().stream()
                .filter(one -> one.getValue().expires() > at)
                .map(one -> entry(one.getKey(), one.getValue(), at))
                .toList();
    }

    private static MemoryEntry entry(String id, Kept kept, double at) {
        long left = Double.isInfinite(kept.expires()) ? 0 : Math.max(1, (long) (kept.expires() - at));
        return MemoryEntry.newBuilder().setId(id).setValue(kept.value()).setExpiresInMs(left).build();
    }

    /** Everything that has not expired. */
    InstanceMemory image() {
        InstanceMemory.Builder image = InstanceMemory.newBuilder();
        for (String name : memories.keySet()) {
            image.addMemories(MemoryImage.newBuilder().setName(name).addAllEntries(entries(name)));
        }
        return image.build();
    }
}
