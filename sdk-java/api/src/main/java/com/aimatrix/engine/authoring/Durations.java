package com.aimatrix.engine.authoring;

import com.aimatrix.engine.errors.InvalidInputException;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.time.Duration;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Lengths of time, as people write them in annotations: {@code 250ms}, {@code 30s}, {@code 10m}, {@code 24h}, {@code 7d}. */
public final class Durations {
    private static final Pattern FORM = Pattern.compile("\\s*(\\d{1,18}(?:\\.\\d{1,9})?)\\s*(ms|s|m|h|d)\\s*");
    private static final Map<String, Long> UNITS =
            Map.of("ms", 1L, "s", 1000L, "m", 60_000L, "h", 3_600_000L, "d", 86_400_000L);

    private Durations() {}

    /**
     * Whole milliseconds of text.
     *
     * @param text such as 30s
     * @param what whose it is, for errors
     * @return at least 1 for anything above zero
     * @throws InvalidInputException naming `what` if it is no length of time
     */
    public static long milliseconds(String text, String what) {
        Matcher match = FORM.matcher(text);
        if (!match.matches()) {
            throw new InvalidInputException(
                    what + " is \"" + text + "\"; expected text such as 250ms, 30s, 10m, 24h, 7d", what);
        }
        BigDecimal millis = new BigDecimal(match.group(1)).multiply(BigDecimal.valueOf(UNITS.get(match.group(2))));
        if (millis.signum() > 0 && millis.compareTo(BigDecimal.ONE) < 0) {
            return 1;
        }
        try {
            return millis.setScale(0, RoundingMode.HALF_UP).longValueExact();
        } catch (ArithmeticException error) {
            throw new InvalidInputException(what + " is \"" + text + "\", which is longer than time can be counted", what);
        }
    }

    /**
     * As `milliseconds`, but more than zero.
     *
     * @param text such as 30s
     * @param what whose it is, for errors
     * @return at least 1
     */
    public static long positive(String text, String what) {
        long millis = milliseconds(text, what);
        if (millis == 0) {
            throw new InvalidInputException(what + " is \"" + text + "\"; expected a positive length of time", what);
        }
        return millis;
    }

    /**
     * As `milliseconds`, where empty text means that nothing is said.
     *
     * @param text such as 30s; may be empty
     * @param what whose it is, for errors
     * @return 0 for nothing
     */
    public static long orZero(String text, String what) {
        return text.isEmpty() ? 0 : milliseconds(text, what);
    }

    /**
     * Whole milliseconds of a Duration.
     *
     * @param length not negative
     * @param what whose it is, for errors
     * @return at least 1 for anything above zero
     */
    public static long milliseconds(Duration length, String what) {
        if (length.isNegative()) {
            throw new InvalidInputException(what + " is " + length + "; expected a length of time", what);
        }
        return length.isZero() ? 0 : Math.max(1, length.toMillis());
    }

    /**
     * As `milliseconds`, but more than zero.
     *
     * @param length positive
     * @param what whose it is, for errors
     * @return at least 1
     */
    public static long positive(Duration length, String what) {
        long millis = milliseconds(length, what);
        if (millis == 0) {
            throw new InvalidInputException(what + " is " + length + "; expected a positive length of time", what);
        }
        return millis;
    }
}
