package com.aimatrix.engine.testee;

import com.aimatrix.engine.v1.Payload;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.protobuf.ByteString;
import java.io.IOException;

/** JSON as it is, for fixtures that do not go through the SDK's own values. */
final class Values {
    static final ObjectMapper MAPPER = new ObjectMapper();

    private Values() {}

    static Payload encode(Object value) {
        if (value == null) {
            return Payload.getDefaultInstance();
        }
        try {
            return Payload.newBuilder().setData(ByteString.copyFrom(MAPPER.writeValueAsBytes(value))).build();
        } catch (JsonProcessingException error) {
            throw new IllegalArgumentException(error);
        }
    }

    static JsonNode decode(Payload payload) {
        if (payload.getData().isEmpty()) {
            return null;
        }
        try {
            return MAPPER.readTree(payload.getData().toByteArray());
        } catch (IOException error) {
            throw new IllegalArgumentException(error);
        }
    }
}
