package com.aimatrix.engine.json;

import com.aimatrix.engine.errors.InvalidInputException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Comparator;

/** Text that has a UTF-8 form, and the bytes of it. */
final class Text {
    /** By code points, as every other language orders text; Java's own order is by UTF-16 units. */
    static final Comparator<String> BY_CODE_POINT =
            (left, right) -> {
                int length = Math.min(left.length(), right.length());
                for (int index = 0; index < length; index++) {
                    char one = left.charAt(index);
                    char other = right.charAt(index);
                    if (one != other) {
                        boolean surrogates = Character.isSurrogate(one) != Character.isSurrogate(other);
                        return surrogates ? (Character.isSurrogate(one) ? 1 : -1) : Character.compare(one, other);
                    }
                }
                return Integer.compare(left.length(), right.length());
            };

    private Text() {}

    static void requireWellFormed(String text, String place) {
        for (int index = 0; index < text.length(); index++) {
            char one = text.charAt(index);
            if (!Character.isSurrogate(one)) {
                continue;
            }
            if (Character.isLowSurrogate(one)
                    || index + 1 == text.length()
                    || !Character.isLowSurrogate(text.charAt(index + 1))) {
                throw InvalidInputException.value(
                        (place.isEmpty() ? "" : place + ": ")
                                + "text contains a lone surrogate, which has no UTF-8 form; clean it first",
                        place);
            }
            index++;
        }
    }

    /** The text of UTF-8. Throws InvalidInputException (INVALID_VALUE) if it is none. */
    static String decode(byte[] data, String what) {
        String text = new String(data, StandardCharsets.UTF_8);
        if (text.indexOf('\ufffd') >= 0) {
            try {
                return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(data)).toString();
            } catch (CharacterCodingException error) {
                throw InvalidInputException.value(what + " is not UTF-8", "");
            }
        }
        return text;
    }

    /** UTF-8 of text. Throws InvalidInputException (INVALID_VALUE) if it has no such form. */
    static byte[] encode(String text) {
        requireWellFormed(text, "");
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String shortened(String text) {
        return text.length() <= 40 ? text : text.substring(0, 37) + "...";
    }
}
