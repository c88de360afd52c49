package com.aimatrix.engine.host;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.core.Ownership;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.spec.EngineCalls;
import com.aimatrix.engine.v1.Chunk;
import com.aimatrix.engine.v1.Failure;
import com.aimatrix.engine.v1.LinkItem;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.Reply;
import com.google.protobuf.ByteString;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Flow;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Calls at two engines: each goes to the owner, and again to one that moves. */
class OwnedCallsTest {
    private final List<ScriptedEngine> engines =
            List.of(new ScriptedEngine(null, true), new ScriptedEngine(null, true));
    private final EngineLinks links =
            new EngineLinks(engines.stream().map(one -> one.link).toList(), "", engines.get(0));

    @BeforeEach
    void open() {
        CompletableFuture<Void> opened = links.open(0);
        engines.forEach(ScriptedEngine::settle);
        for (ScriptedEngine engine : engines) {
            assertFalse(opened.isDone());
            engine.wire().opened();
            assertTrue(engine.said().get(0).getHello().getEnginesKnown());
            engine.wire().handshake(ScriptedEngine.welcome(false));
        }
        opened.join();
    }

    private static Message to(int engine) {
        for (int key = 0; ; key++) {
            if (Ownership.ownerOf("default", "A", "k" + key, 2) == engine) {
                return Message.newBuilder().setAgent("A").setKey("k" + key).build();
            }
        }
    }

    private LinkItem call(int engine) {
        engines.get(engine).settle();
        List<LinkItem> said = engines.get(engine).said();
        assertEquals(1, said.size());
        return said.get(0);
    }

    private void reply(int engine, LinkItem call, Reply reply) {
        engines.get(engine).wire().say(LinkItem.newBuilder().setId(call.getId()).setReply(reply).build());
    }

    private static Payload payload(String text) {
        return Payload.newBuilder().setData(ByteString.copyFromUtf8(text)).build();
    }

    private static Reply result(String text) {
        return Reply.newBuilder().setResult(payload(text)).build();
    }

    private static Reply failure(String reason) {
        return Reply.newBuilder().setFailure(Failure.newBuilder().setCode(14).setReason(reason)).build();
    }

    private CompletableFuture<Payload> ask(int engine) {
        return links.calls().request(to(engine), new EngineCalls.Options(5000, 0));
    }

    private static String reason(CompletableFuture<?> failed) {
        CompletionException error = assertThrows(CompletionException.class, failed::join);
        return ((AmxException) error.getCause()).reason();
    }

    @Test
    void each_goes_to_the_owner() {
        for (int engine = 0; engine < 2; engine++) {
            CompletableFuture<Payload> asked = ask(engine);
            reply(engine, call(engine), result("from " + engine));
            assertEquals("from " + engine, asked.join().getData().toStringUtf8());
            assertEquals(List.of(), engines.get(1 - engine).said());
        }
    }

    @Test
    void one_that_a_moving_engine_refused_is_made_again_until_it_takes_it() {
        CompletableFuture<Payload> asked = ask(1);
        for (int refusal = 0; refusal < 3; refusal++) {
            reply(1, call(1), failure("SHUTTING_DOWN"));
            assertFalse(asked.isDone());
            engines.get(0).pass(50);
        }
        reply(1, call(1), result("moved"));
        assertEquals("moved", asked.join().getData().toStringUtf8());
    }

    @Test
    void other_failures_are_outcomes() {
        CompletableFuture<Payload> asked = ask(0);
        reply(0, call(0), failure("NO_WORKER"));
        assertEquals("NO_WORKER", reason(asked));
    }

    @Test
    void one_that_was_given_up_is_not_made_again() {
        CompletableFuture<Payload> asked = ask(1);
        reply(1, call(1), failure("SHUTTING_DOWN"));
        asked.cancel(true);
        engines.get(0).pass(1000);
        engines.get(1).settle();
        assertEquals(List.of(), engines.get(1).said());
        CompletableFuture<Payload> other = ask(1);
        call(1);
        other.cancel(true);
        assertTrue(call(1).hasCancel());
    }

    @Test
    void a_stream_begins_again_unless_it_had_begun() {
        Chunks chunks = new Chunks();
        links.calls().stream(to(0), EngineCalls.Options.NONE).subscribe(chunks);
        reply(0, call(0), failure("SHUTTING_DOWN"));
        engines.get(0).pass(50);
        LinkItem call = call(0);
        LinkItem chunk =
                LinkItem.newBuilder().setId(call.getId()).setChunk(Chunk.newBuilder().setPayload(payload("one"))).build();
        engines.get(0).wire().say(chunk);
        assertEquals(List.of("one"), chunks.read);
        reply(0, call, failure("SHUTTING_DOWN"));
        assertEquals("SHUTTING_DOWN", ((AmxException) chunks.error).reason());
    }

    private static final class Chunks implements Flow.Subscriber<Payload> {
        final List<String> read = new ArrayList<>();
        Throwable error;

        @Override
        public void onSubscribe(Flow.Subscription subscription) {
            subscription.request(10);
        }

        @Override
        public void onNext(Payload chunk) {
            read.add(chunk.getData().toStringUtf8());
        }

        @Override
        public void onError(Throwable why) {
            error = why;
        }

        @Override
        public void onComplete() {}
    }

    @Test
    void calls_under_way_end_when_the_links_are_closed() {
        CompletableFuture<Payload> asked = ask(1);
        call(1);
        CompletableFuture<Void> closed = links.close(0);
        engines.forEach(one -> one.pass(10_000));
        assertEquals("SHUTTING_DOWN", reason(asked));
        closed.join();
        links.ended().join();
    }

    @Test
    void one_engine_that_will_not_have_its_link_back_is_the_end() {
        assertTrue(links.connected());
        engines.get(1).wire().lost("no", new AmxException(Code.UNAUTHENTICATED, "UNAUTHENTICATED", "who are you"));
        assertFalse(links.connected());
        assertEquals("UNAUTHENTICATED", reason(links.ended()));
    }
}
