package com.aimatrix.engine.json;

import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.type.SimpleType;
import java.io.IOException;

/**
 * A type whose values are read and written by something else than Jackson. It goes wherever a JavaType of Jackson goes
 * in this SDK (handlers, memories, calls); parser and generator keep their strictness. Each is equal to itself only.
 */
public abstract class ForeignType extends SimpleType {
    private static final long serialVersionUID = 1L;

    /**
     * A type.
     *
     * @param raw class of its values
     */
    protected ForeignType(Class<?> raw) {
        super(raw);
    }

    /**
     * Reads one value.
     *
     * @param parser stands at the value's first token, and is left at its last
     * @param place of the value, for errors; empty: it is the whole
     * @return the value
     * @throws IOException of the parser
     * @throws com.aimatrix.engine.errors.InvalidInputException INVALID_INPUT with the place: it does not fit
     */
    public abstract Object read(JsonParser parser, String place) throws IOException;

    /**
     * Writes one value.
     *
     * @param value of this type; may be null
     * @param generator takes it
     * @throws IOException of the generator
     * @throws com.aimatrix.engine.errors.InvalidInputException INVALID_VALUE: it has no JSON form
     */
    public abstract void write(Object value, JsonGenerator generator) throws IOException;

    /**
     * What a handler gets where nothing was sent.
     *
     * @param place of the value, for errors; empty: it is the whole
     * @return a value, or null
     * @throws com.aimatrix.engine.errors.InvalidInputException INVALID_INPUT with the place: there must be something
     */
    public abstract Object absent(String place);

    /**
     * JSON Schema (2020-12) of what `read` accepts.
     *
     * @return a new one; empty: anything
     */
    public abstract ObjectNode schema();

    @Override
    public final boolean equals(Object other) {
        return this == other;
    }

    @Override
    public final int hashCode() {
        return System.identityHashCode(this);
    }
}
