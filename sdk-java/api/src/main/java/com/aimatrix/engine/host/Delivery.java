package com.aimatrix.engine.host;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.spec.HandlerSpec;
import com.aimatrix.engine.v1.Deliver;
import com.aimatrix.engine.v1.Delivered;
import com.aimatrix.engine.v1.Event;
import com.aimatrix.engine.v1.Message;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/** A Deliver at work: a position in its list of targets, and what became of those before it. */
final class Delivery {
    final AgentHost host;
    final long id;
    final HandlerSpec handler;
    final Message message;
    final List<Long> epochs;
    int next;
    int remaining;
    final Set<Target> running = new LinkedHashSet<>();
    AmxException stopped;
    boolean discarded;
    /** Reports; most deliveries have none. */
    final Delivered.Builder outcome = Delivered.newBuilder();

    private volatile Object input;
    private volatile RuntimeException unreadable;
    private volatile boolean decoded;

    Delivery(AgentHost host, long id, Deliver deliver, HandlerSpec handler) {
        this.host = host;
        this.id = id;
        this.handler = handler;
        this.message = messageOf(deliver.getEvent());
        this.epochs = deliver.getEpochsList();
        this.remaining = epochs.size();
    }

    /** What the handler takes, decoded once for all targets. */
    Object input() {
        if (!decoded) {
            synchronized (this) {
                if (!decoded) {
                    try {
                        input = handler.decode(message);
                    } catch (RuntimeException error) {
                        unreadable = error;
                    }
                    decoded = true;
                }
            }
        }
        if (unreadable != null) {
            throw unreadable;
        }
        return input;
    }

    void stop(AmxException why) {
        if (stopped == null) {
            stopped = why;
        }
        for (Target target : List.copyOf(running)) {
            target.stop(why);
        }
    }

    private static Message messageOf(Event event) {
        return Message.newBuilder()
                .setKey(event.getKey())
                .setPayload(event.getPayload())
                .putAllHeaders(event.getAttributesMap())
                .setMessageId(event.getEventId())
                .setDurability(event.getDurability())
                .setSender(event.getPublisher())
                .setTraceparent(event.getTraceparent())
                .setPriority(event.getPriority())
                .setTopic(event.getTopic())
                .build();
    }
}
