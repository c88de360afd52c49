package com.aimatrix.engine.authoring;

import com.aimatrix.engine.json.Json;
import com.aimatrix.engine.memory.MemorySpec;
import com.fasterxml.jackson.databind.JavaType;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.List;
import java.util.function.UnaryOperator;

/**
 * How classes of another language of the JVM are understood as agents: what their methods take and return, and what
 * their fields remember. Found by java.util.ServiceLoader; the first that speaks a class's language is asked. What it
 * throws fails the definition.
 *
 * <p>Everything else (names, schedules, permissions, routers, monitors) is said with the same annotations as in Java.
 */
public interface Dialect {
    /**
     * Whether a class is written in its language.
     *
     * @param type of an agent
     * @return whether it is
     */
    boolean speaks(Class<?> type);

    /**
     * A method as the developer wrote it.
     *
     * @param type of the agent
     * @param method of it, or of a class it extends
     * @param json how values travel
     * @return null: it is what Java's reflection says
     */
    Function function(Class<?> type, Method method, Json json);

    /**
     * The type of a field with {@link com.aimatrix.engine.Memory}.
     *
     * @param field of the agent, or of a class it extends
     * @param json how values are stored
     * @return of a Map, List or Set, with the types of what is in it
     */
    JavaType type(Field field, Json json);

    /**
     * Whether a field remembers something without an annotation.
     *
     * @param field of the agent, or of a class it extends
     * @return whether `delegate` knows what
     */
    boolean delegates(Field field);

    /**
     * What such a field remembers.
     *
     * @param field of the agent
     * @param held what it holds in an object of the agent that was just made
     * @param json how values are stored
     * @return the memory
     */
    Delegate delegate(Field field, Object held, Json json);

    /** A method as the developer wrote it. */
    interface Function {
        /**
         * Its name, which may not be that of the method.
         *
         * @return not empty
         */
        String name();

        /**
         * What it takes; contexts, messages and results as Java's classes.
         *
         * @return in order
         */
        List<Parameter> parameters();

        /**
         * What it returns at the end; of a streaming one, what it yields.
         *
         * @return void.class's if nothing
         */
        JavaType returns();

        /**
         * Whether it returns chunks.
         *
         * @return whether it does
         */
        boolean streaming();

        /**
         * Runs it.
         *
         * @param arguments the object, then what `parameters` says
         * @return a value, a CompletionStage of one, or (streaming) a Flow.Publisher
         * @throws Throwable what it throws
         */
        Object call(Object[] arguments) throws Throwable;
    }

    /**
     * One parameter of a function.
     *
     * @param name where the content is an object, its member
     * @param type of its values
     */
    record Parameter(String name, JavaType type) {}

    /**
     * A field that remembers something.
     *
     * @param spec the memory
     * @param description one paragraph for people; may be empty
     * @param initial what the field of a new object holds, to what the memory holds before it is ever written
     * @param bound the tracked Map, List, Set or MemoryValue, to what the field shall hold
     */
    record Delegate(
            MemorySpec spec, String description, UnaryOperator<Object> initial, UnaryOperator<Object> bound) {}
}
