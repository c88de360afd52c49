package com.aimatrix.engine.transport;

/** A pipe of frames as bytes. Reconnecting, and what frames say, is the link's business. */
public interface Connection {
    /**
     * Sends a frame. One at a time.
     *
     * @param frame the bytes
     * @param taken called, on the link's thread, when the transport has taken it and the next may be sent
     */
    void send(byte[] frame, Runnable taken);

    /** Ends the connection at once. */
    void close();
}
