package com.aimatrix.engine.json;

import com.aimatrix.engine.errors.InvalidInputException;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonStreamContext;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.util.JsonParserDelegate;
import java.io.IOException;

/** Looks at what Jackson's parser lets through: integers that doubles round, numbers out of range, lone surrogates. */
final class StrictParser extends JsonParserDelegate {
    static final long MAX_SAFE_INTEGER = (1L << 53) - 1;

    private final boolean escapes;

    /** escapes: the text has escapes that may be surrogates. */
    StrictParser(JsonParser parser, boolean escapes) {
        super(parser);
        this.escapes = escapes;
    }

    @Override
    public JsonToken nextToken() throws IOException {
        return checked(delegate.nextToken());
    }

    @Override
    public JsonToken nextValue() throws IOException {
        JsonToken token = nextToken();
        return token == JsonToken.FIELD_NAME ? nextToken() : token;
    }

    @Override
    public JsonParser skipChildren() throws IOException {
        JsonToken token = currentToken();
        if (token != JsonToken.START_OBJECT && token != JsonToken.START_ARRAY) {
            return this;
        }
        int open = 1;
        while (open > 0) {
            token = nextToken();
            if (token == null) {
                return this;
            }
            if (token.isStructStart()) {
                open++;
            } else if (token.isStructEnd()) {
                open--;
            }
        }
        return this;
    }

    private JsonToken checked(JsonToken token) throws IOException {
        if (token == null) {
            return null;
        }
        switch (token) {
            case VALUE_NUMBER_INT -> checkInteger();
            case VALUE_NUMBER_FLOAT -> checkFraction();
            case VALUE_STRING, FIELD_NAME -> {
                if (escapes) {
                    Text.requireWellFormed(delegate.getText(), place());
                }
            }
            default -> {}
        }
        return token;
    }

    private void checkInteger() throws IOException {
        if (delegate.getTextLength() < 16) {
            return;
        }
        if (delegate.getNumberType() != NumberType.LONG || Math.abs(delegate.getLongValue()) > MAX_SAFE_INTEGER) {
            throw InvalidInputException.value(
                    at() + "the integer " + Text.shortened(delegate.getText())
                            + " is beyond 2^53 - 1; send it as text, under a schema with format: int64",
                    place());
        }
    }

    private void checkFraction() throws IOException {
        String text = delegate.getText();
        if ((text.length() > 300 || text.indexOf('e') >= 0 || text.indexOf('E') >= 0)
                && Double.isInfinite(Double.parseDouble(text))) {
            throw InvalidInputException.value(
                    at() + "number " + Text.shortened(text) + " is out of range", place());
        }
    }

    private String at() {
        String place = place();
        return place.isEmpty() ? "" : place + ": ";
    }

    private String place() {
        StringBuilder place = new StringBuilder();
        append(place, delegate.getParsingContext());
        return place.toString();
    }

    private static void append(StringBuilder place, JsonStreamContext context) {
        if (context == null || context.inRoot()) {
            return;
        }
        append(place, context.getParent());
        if (context.inArray()) {
            place.append('[').append(context.getCurrentIndex()).append(']');
        } else if (context.getCurrentName() != null) {
            place.append(place.isEmpty() ? "" : ".").append(context.getCurrentName());
        }
    }
}
