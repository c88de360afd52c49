// What an instance remembers, by delegation: `var count by memory(0)`.

package com.aimatrix.engine.kotlin

import com.aimatrix.engine.authoring.Dialect
import com.aimatrix.engine.json.Json
import com.aimatrix.engine.kotlin.values.memoryType
import com.aimatrix.engine.memory.Memories
import com.aimatrix.engine.memory.MemorySpec
import com.aimatrix.engine.memory.MemoryValue
import com.aimatrix.engine.v1.MemoryKind
import kotlin.properties.PropertyDelegateProvider
import kotlin.properties.ReadOnlyProperty
import kotlin.properties.ReadWriteProperty
import kotlin.reflect.KProperty
import kotlin.reflect.KType
import kotlin.reflect.typeOf
import kotlin.time.Duration
import kotlin.time.toJavaDuration

/** How something is remembered. */
@PublishedApi
internal class MemorySettings(
    val name: String,
    val persistent: Boolean,
    val ttl: Duration?,
    val maxEntries: Int,
    val description: String,
    val type: KType,
    val keyType: KType?,
)

/** A property of an agent that its instances remember. Changes are committed with the handler that made them, or undone. */
public sealed class Remembered protected constructor() {
    internal abstract val settings: MemorySettings
    internal abstract val kind: MemoryKind
    internal abstract val initial: Any?

    /** The same, bound to what the host tracks. */
    internal abstract fun bound(tracked: Any): Remembered

    internal fun delegate(json: Json): Dialect.Delegate {
        val ttl = settings.ttl?.inWholeMilliseconds ?: 0
        if (settings.ttl != null && ttl < 1) {
            throw DefinitionException("memory '${settings.name}': ttl is ${settings.ttl}; it must be 1 ms or more")
        }
        if (settings.maxEntries < 0) {
            throw DefinitionException("memory '${settings.name}': maxEntries is ${settings.maxEntries}; it must be positive")
        }
        val spec = MemorySpec(
            settings.name,
            kind,
            memoryType(settings.type, json),
            settings.keyType?.let { memoryType(it, json) },
            settings.persistent,
            ttl,
            settings.maxEntries,
            json,
        )
        return Dialect.Delegate(spec, settings.description, { (it as Remembered).initial }, { bound(it) })
    }
}

/** One value. */
public class RememberedValue<T> internal constructor(
    override val settings: MemorySettings,
    private val holder: MemoryValue<T>,
) : Remembered(), ReadWriteProperty<Any?, T> {
    override val kind: MemoryKind get() = MemoryKind.MEMORY_KIND_VALUE
    override val initial: Any? get() = holder

    @Suppress("UNCHECKED_CAST")
    override fun bound(tracked: Any): Remembered = RememberedValue(settings, tracked as MemoryValue<T>)

    override fun getValue(thisRef: Any?, property: KProperty<*>): T = holder.get()

    override fun setValue(thisRef: Any?, property: KProperty<*>, value: T): Unit = holder.set(value)
}

/** A map, set or list: each entry is a memory of its own. */
public class RememberedCollection<C : Any> internal constructor(
    override val settings: MemorySettings,
    override val kind: MemoryKind,
    private val collection: C,
) : Remembered(), ReadOnlyProperty<Any?, C> {
    override val initial: Any? get() = collection

    @Suppress("UNCHECKED_CAST")
    override fun bound(tracked: Any): Remembered = RememberedCollection(settings, kind, tracked as C)

    override fun getValue(thisRef: Any?, property: KProperty<*>): C = collection
}

/** Gives a memory the name of its property. */
public class MemoryProvider<D : Remembered> @PublishedApi internal constructor(
    private val name: String,
    private val make: (String) -> D,
) : PropertyDelegateProvider<Any?, D> {
    override fun provideDelegate(thisRef: Any?, property: KProperty<*>): D = make(name.ifEmpty { property.name })
}

/**
 * One value that an instance remembers.
 *
 * @param initial what it is before it is ever written
 * @param persistent whether it survives hibernation and restarts
 * @param ttl lifetime since it was last written, at least 1 ms; null: without end
 * @param name empty: the property's
 * @param description one paragraph for people
 */
public inline fun <reified T> memory(
    initial: T,
    persistent: Boolean = false,
    ttl: Duration? = null,
    name: String = "",
    description: String = "",
): MemoryProvider<RememberedValue<T>> = MemoryProvider(name) {
    value(initial, MemorySettings(it, persistent, ttl, 0, description, typeOf<T>(), null))
}

/**
 * A map that an instance remembers.
 *
 * @param persistent whether it survives hibernation and restarts
 * @param ttl lifetime of an entry since it was last written, at least 1 ms; null: without end
 * @param maxEntries most entries that are kept: the least recently used go first; 0: unbounded
 * @param name empty: the property's
 * @param description one paragraph for people
 * @param initial what it holds before it is ever written
 */
public inline fun <reified K, reified V> memoryMap(
    persistent: Boolean = false,
    ttl: Duration? = null,
    maxEntries: Int = 0,
    name: String = "",
    description: String = "",
    initial: Map<K, V> = emptyMap(),
): MemoryProvider<RememberedCollection<MutableMap<K, V>>> = MemoryProvider(name) {
    map(initial, MemorySettings(it, persistent, ttl, maxEntries, description, typeOf<V>(), typeOf<K>()))
}

/** As [memoryMap]: a set. */
public inline fun <reified T> memorySet(
    persistent: Boolean = false,
    ttl: Duration? = null,
    maxEntries: Int = 0,
    name: String = "",
    description: String = "",
    initial: Set<T> = emptySet(),
): MemoryProvider<RememberedCollection<MutableSet<T>>> = MemoryProvider(name) {
    set(initial, MemorySettings(it, persistent, ttl, maxEntries, description, typeOf<T>(), typeOf<T>()))
}

/** As [memoryMap]: a list; of one with [maxEntries], the front goes first. */
public inline fun <reified T> memoryList(
    persistent: Boolean = false,
    ttl: Duration? = null,
    maxEntries: Int = 0,
    name: String = "",
    description: String = "",
    initial: List<T> = emptyList(),
): MemoryProvider<RememberedCollection<MutableList<T>>> = MemoryProvider(name) {
    list(initial, MemorySettings(it, persistent, ttl, maxEntries, description, typeOf<T>(), null))
}

@PublishedApi
internal fun <T> value(initial: T, settings: MemorySettings): RememberedValue<T> =
    RememberedValue(settings, MemoryValue(initial))

@PublishedApi
internal fun <K, V> map(initial: Map<K, V>, settings: MemorySettings): RememberedCollection<MutableMap<K, V>> =
    RememberedCollection(settings, MemoryKind.MEMORY_KIND_MAP, LinkedHashMap(initial))

@PublishedApi
internal fun <T> set(initial: Set<T>, settings: MemorySettings): RememberedCollection<MutableSet<T>> =
    RememberedCollection(settings, MemoryKind.MEMORY_KIND_SET, LinkedHashSet(initial))

@PublishedApi
internal fun <T> list(initial: List<T>, settings: MemorySettings): RememberedCollection<MutableList<T>> =
    RememberedCollection(settings, MemoryKind.MEMORY_KIND_LIST, ArrayList(initial))

/**
 * Gives an entry of a remembered map a lifetime of its own, which starts now and counts as a write: the next one without
 * a lifetime ends it. Of a map that is not remembered, does nothing.
 *
 * @throws InvalidInputException if there is no such entry, or [ttl] is not positive
 */
public fun <K> MutableMap<K, *>.expire(key: K, ttl: Duration): Unit = Memories.expire(this, key, ttl.toJavaDuration())

/** As above: a member of a set. */
public fun <T> MutableSet<T>.expire(member: T, ttl: Duration): Unit = Memories.expire(this, member, ttl.toJavaDuration())

/** As above: an item of a list. */
public fun MutableList<*>.expire(index: Int, ttl: Duration): Unit = Memories.expire(this, index, ttl.toJavaDuration())
