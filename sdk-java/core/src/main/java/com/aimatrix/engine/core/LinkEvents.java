package com.aimatrix.engine.core;

import com.aimatrix.engine.errors.AmxException;
import java.util.List;

/** What the owner of a protocol must know. */
public interface LinkEvents {
    /** `nextFrame` has something again, after it had returned null. */
    void wake();

    /**
     * The engine said Welcome.
     *
     * @param resumed the session goes on
     */
    void opened(boolean resumed);

    /**
     * Several engines share the address. Nothing more comes of this connection.
     *
     * @param engines where each of them is, in order of their numbers
     */
    void redirected(List<String> engines);

    /**
     * The engine refused the link.
     *
     * @param error why
     */
    void rejected(AmxException error);

    /**
     * The engine closes this connection soon.
     *
     * @param reason for people
     * @param millis when
     */
    void goAway(String reason, long millis);
}
