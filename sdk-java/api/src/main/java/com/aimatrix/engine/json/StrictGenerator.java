package com.aimatrix.engine.json;

import com.aimatrix.engine.errors.InvalidInputException;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.util.JsonGeneratorDelegate;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.MathContext;

/** Refuses numbers that JSON does not hold everywhere. */
final class StrictGenerator extends JsonGeneratorDelegate {
    private static final double TINY = 1e-321; // doubles below this have less than two digits
    private static final BigInteger MAX = BigInteger.valueOf(StrictParser.MAX_SAFE_INTEGER);

    StrictGenerator(JsonGenerator generator) {
        super(generator, false);
    }

    @Override
    public void writeNumber(double value) throws IOException {
        if (!Double.isFinite(value)) {
            throw notFinite(value);
        }
        if (value != 0 && Math.abs(value) < TINY) {
            // Java writes two digits at least, 4.9E-324; other languages the fewest that say which number it is.
            BigDecimal digit = new BigDecimal(value).round(new MathContext(1));
            if (digit.doubleValue() == value) {
                delegate.writeNumber(digit.toString());
                return;
            }
        }
        delegate.writeNumber(value);
    }

    @Override
    public void writeNumber(float value) throws IOException {
        if (!Float.isFinite(value)) {
            throw notFinite(value);
        }
        delegate.writeNumber(value);
    }

    @Override
    public void writeNumber(long value) throws IOException {
        if (Math.abs(value) > StrictParser.MAX_SAFE_INTEGER || value == Long.MIN_VALUE) {
            throw tooLarge(value);
        }
        delegate.writeNumber(value);
    }

    @Override
    public void writeNumber(BigInteger value) throws IOException {
        if (value.abs().compareTo(MAX) > 0) {
            throw tooLarge(value);
        }
        delegate.writeNumber(value);
    }

    @Override
    public void writeArray(double[] array, int offset, int length) throws IOException {
        writeStartArray(array, length);
        for (int index = offset; index < offset + length; index++) {
            writeNumber(array[index]);
        }
        writeEndArray();
    }

    @Override
    public void writeArray(long[] array, int offset, int length) throws IOException {
        writeStartArray(array, length);
        for (int index = offset; index < offset + length; index++) {
            writeNumber(array[index]);
        }
        writeEndArray();
    }

    private static InvalidInputException notFinite(double value) {
        return InvalidInputException.value(value + " is not a finite number, which JSON cannot hold; use null", "");
    }

    private static InvalidInputException tooLarge(Object value) {
        return InvalidInputException.value(
                "the integer " + value + " is beyond 2^53 - 1, which a JSON number does not hold exactly in every"
                        + " language; declare its type, e.g. as a record with a long",
                "");
    }
}
