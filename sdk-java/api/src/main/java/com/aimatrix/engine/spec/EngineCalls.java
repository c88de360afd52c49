package com.aimatrix.engine.spec;

import com.aimatrix.engine.v1.Accepted;
import com.aimatrix.engine.v1.BroadcastResult;
import com.aimatrix.engine.v1.BroadcastScope;
import com.aimatrix.engine.v1.Event;
import com.aimatrix.engine.v1.MemoryOperation;
import com.aimatrix.engine.v1.MemoryOperationResult;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.Published;
import com.aimatrix.engine.v1.Subscription;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;

/**
 * The engine, as handlers and applications call it; by any thread. Futures end with AmxException and the engine's
 * reason; limits (ITEM_TOO_LARGE, HEADERS_TOO_LARGE, KEY_TOO_LONG, CALLS_IN_FLIGHT) are checked before anything is sent.
 * Cancelling a future gives the call up, and the engine is told.
 */
public interface EngineCalls {
    /**
     * How a call is made.
     *
     * @param timeoutMs milliseconds until it must have an outcome; 0: the engine's default
     * @param invocationId on whose behalf; 0: nobody's
     */
    record Options(long timeoutMs, long invocationId) {
        /** Nothing said. */
        public static final Options NONE = new Options(0, 0);
    }

    /**
     * Sends one way.
     *
     * @param message what
     * @param options how
     * @return done when the engine has it
     */
    CompletableFuture<Accepted> send(Message message, Options options);

    /**
     * Sends, and waits for the reply.
     *
     * @param message what
     * @param options how
     * @return done with the reply
     */
    CompletableFuture<Payload> request(Message message, Options options);

    /**
     * Sends, and reads the chunks of the reply. Nothing is sent before somebody subscribes; one may. Cancelling the
     * subscription cancels the handler. A plain result is the one chunk.
     *
     * @param message what
     * @param options how
     * @return the chunks
     */
    Flow.Publisher<Payload> stream(Message message, Options options);

    /**
     * Publishes.
     *
     * @param event what
     * @param options how
     * @return done when the engine has it
     */
    CompletableFuture<Published> publish(Event event, Options options);

    /**
     * Sends to many. The message's agent and key are ignored.
     *
     * @param scope to whom
     * @param message what
     * @param options how
     * @return done with what became of it at each
     */
    CompletableFuture<BroadcastResult> broadcast(BroadcastScope scope, Message message, Options options);

    /**
     * Subscribes.
     *
     * @param subscription to what
     * @param options how; its timeout is ignored: it would end the subscription, too
     * @return done when it is in force
     */
    CompletableFuture<EventSource> subscribe(Subscription subscription, Options options);

    /**
     * Reads or writes an instance's memory from outside.
     *
     * @param operation what
     * @param options how
     * @return done with what was found
     */
    CompletableFuture<MemoryOperationResult> memory(MemoryOperation operation, Options options);

    /** A subscription in force: events as they come, until it is closed. A reader too far behind loses the oldest. */
    interface EventSource extends AutoCloseable {
        /**
         * The next event.
         *
         * @return done with it; with null when the subscription was closed and everything was read
         */
        CompletableFuture<Event> next();

        /**
         * Events lost because they were not read in time.
         *
         * @return how many
         */
        long dropped();

        /** Ends it. What has arrived can still be read. */
        @Override
        void close();
    }
}
