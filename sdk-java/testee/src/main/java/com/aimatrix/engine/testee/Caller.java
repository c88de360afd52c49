package com.aimatrix.engine.testee;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.Broadcast;
import com.aimatrix.engine.Context;
import com.aimatrix.engine.EventOptions;
import com.aimatrix.engine.Events;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.Publication;
import com.aimatrix.engine.Receipt;
import com.aimatrix.engine.RemoteMemory;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;

/** What a handler's context and the program around it both can do. */
interface Caller {
    CompletableFuture<Object> begin(String agent, Object content, MessageOptions options);

    Object request(String agent, Object content, MessageOptions options);

    Flow.Publisher<Object> stream(String agent, Object content, MessageOptions options);

    Receipt send(String agent, Object content, MessageOptions options);

    Publication publish(String topic, Object content, EventOptions options);

    Broadcast broadcast(Broadcast.Scope scope, Object content, MessageOptions options);

    Events events(String pattern, String filter);

    RemoteMemory memory(String agent);

    /** From inside a handler. */
    static Caller of(Context context) {
        return new Caller() {
            @Override
            public CompletableFuture<Object> begin(String agent, Object content, MessageOptions options) {
                return context.requestAsync(agent, content, Object.class, options);
            }

            @Override
            public Object request(String agent, Object content, MessageOptions options) {
                return context.request(agent, content, Object.class, options);
            }

            @Override
            public Flow.Publisher<Object> stream(String agent, Object content, MessageOptions options) {
                return context.stream(agent, content, Object.class, options);
            }

            @Override
            public Receipt send(String agent, Object content, MessageOptions options) {
                return context.sendNow(agent, content, options);
            }

            @Override
            public Publication publish(String topic, Object content, EventOptions options) {
                return context.publishNow(topic, content, options);
            }

            @Override
            public Broadcast broadcast(Broadcast.Scope scope, Object content, MessageOptions options) {
                return context.broadcast(scope, content, options);
            }

            @Override
            public Events events(String pattern, String filter) {
                return context.events(pattern, filter);
            }

            @Override
            public RemoteMemory memory(String agent) {
                return context.memoryOf(agent);
            }
        };
    }

    /** On nobody's behalf. */
    static Caller outside() {
        AmxEngine engine = Testee.engine();
        return new Caller() {
            @Override
            public CompletableFuture<Object> begin(String agent, Object content, MessageOptions options) {
                return engine.requestAsync(agent, content, Object.class, options);
            }

            @Override
            public Object request(String agent, Object content, MessageOptions options) {
                return engine.request(agent, content, Object.class, options);
            }

            @Override
            public Flow.Publisher<Object> stream(String agent, Object content, MessageOptions options) {
                return engine.stream(agent, content, Object.class, options);
            }

            @Override
            public Receipt send(String agent, Object content, MessageOptions options) {
                return engine.send(agent, content, options);
            }

            @Override
            public Publication publish(String topic, Object content, EventOptions options) {
                return engine.publish(topic, content, options);
            }

            @Override
            public Broadcast broadcast(Broadcast.Scope scope, Object content, MessageOptions options) {
                return engine.broadcast(scope, content, options);
            }

            @Override
            public Events events(String pattern, String filter) {
                return engine.subscribe(pattern, filter);
            }

            @Override
            public RemoteMemory memory(String agent) {
                return engine.memory(agent);
            }
        };
    }
}
