package com.aimatrix.engine.core;

/**
 * Bounds on what is said.
 *
 * @param maxItemBytes bytes of one item
 * @param maxFrameBytes bytes of one frame, unless a single item is larger
 * @param maxFrameItems items of one frame
 * @param maxHeaderBytes bytes of all headers of a message
 * @param maxKeyBytes bytes of an instance key in UTF-8
 * @param maxCalls calls that may have no outcome yet
 * @param streamWindow chunks a stream may be ahead of its reader
 */
public record Limits(
        int maxItemBytes,
        int maxFrameBytes,
        int maxFrameItems,
        int maxHeaderBytes,
        int maxKeyBytes,
        int maxCalls,
        int streamWindow) {
    /** These hold until Welcome says otherwise, and where it says nothing. */
    public static final Limits DEFAULT = new Limits(4 << 20, 256 << 10, 128, 8 << 10, 512, 4096, 64);

    static Limits of(com.aimatrix.engine.v1.Limits said) {
        return new Limits(
                or(said.getMaxItemBytes(), DEFAULT.maxItemBytes),
                or(said.getMaxFrameBytes(), DEFAULT.maxFrameBytes),
                or(said.getMaxFrameItems(), DEFAULT.maxFrameItems),
                or(said.getMaxHeaderBytes(), DEFAULT.maxHeaderBytes),
                or(said.getMaxKeyBytes(), DEFAULT.maxKeyBytes),
                or(said.getMaxCallsInFlight(), DEFAULT.maxCalls),
                or(said.getStreamWindow(), DEFAULT.streamWindow));
    }

    private static int or(int said, int otherwise) {
        return said > 0 ? said : otherwise;
    }
}
