package com.aimatrix.engine;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * A field that an instance remembers. Of a Map, a List or a Set (the field has that type) each entry is a memory
 * of its own; anything else is one value, in a field that is not final, or a
 * {@link com.aimatrix.engine.memory.MemoryValue}. What the constructor puts there is the initial value. Changes are
 * committed with the handler that made them, or undone.
 */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.FIELD)
public @interface Memory {
    /**
     * Its name.
     *
     * @return empty: the name of the field
     */
    String name() default "";

    /**
     * Whether it survives hibernation and restarts.
     *
     * @return false unless said
     */
    boolean persistent() default false;

    /**
     * Lifetime of an entry since it was last written, such as {@code 7d}.
     *
     * @return empty: without end
     */
    String ttl() default "";

    /**
     * Most entries that are kept: the least recently used go first; of a list, the front.
     *
     * @return 0: unbounded
     */
    int maxEntries() default 0;

    /**
     * One paragraph for people.
     *
     * @return may be empty
     */
    String description() default "";
}
