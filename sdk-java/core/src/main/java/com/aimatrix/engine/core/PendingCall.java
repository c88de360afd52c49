package com.aimatrix.engine.core;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.v1.Event;
import com.aimatrix.engine.v1.LinkItem;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.Reply;

/** A call waiting for its outcome. Subclasses say what happens then; they must not throw. */
public abstract class PendingCall implements Deadlines.Expiring {
    long id;
    long invocationId;
    String operation = "call";
    Deadlines.Bucket bucket;
    /** The item as it was said, of calls that may be said again to an engine that forgot them. */
    LinkItem said;

    LinkProtocol protocol;

    /** A call that is not said yet. */
    protected PendingCall() {}

    /**
     * The outcome. For a subscription: it is in force; called again after the engine was restarted.
     *
     * @param reply what the engine said
     */
    public abstract void replied(Reply reply);

    /**
     * There will be no reply.
     *
     * @param error why
     */
    public abstract void failed(AmxException error);

    /**
     * A part of a streamed reply.
     *
     * @param payload the part
     */
    public void chunk(Payload payload) {}

    /**
     * An event for a subscription.
     *
     * @param event the event
     */
    public void event(Event event) {}

    @Override
    public final void expire() {
        if (protocol != null) {
            protocol.expire(this);
        }
    }
}
