package com.aimatrix.engine.transport;

import com.aimatrix.engine.errors.AmxException;
import java.util.concurrent.Executor;

/** Makes connections to one engine. */
public interface Connector {
    /** What a connection tells its link, on the link's thread. After `lost` it tells nothing more. */
    interface Events {
        /** Frames can be sent. */
        void opened();

        /**
         * A frame has arrived.
         *
         * @param frame the bytes
         */
        void received(byte[] frame);

        /**
         * The connection is gone, or was never there. Not told after `close`.
         *
         * @param why for people
         * @param error why another attempt would end the same way; null: it may not
         */
        void lost(String why, AmxException error);
    }

    /**
     * Where the engine is, for people.
     *
     * @return its address
     */
    String address();

    /**
     * Begins a connection.
     *
     * @param events hears of it; never from within this call
     * @return the connection
     */
    Connection connect(Events events);

    /**
     * The way to another engine, which shares this one's address.
     *
     * @param engine `host:port`, `:port` at this one's host, or `unix:/path`
     * @param loop runs callbacks: the thread of the other link
     * @return another connector; null: this one leads to one engine only
     */
    default Connector at(String engine, Executor loop) {
        return null;
    }

    /** Lets go of what connections share. */
    default void close() {}
}
