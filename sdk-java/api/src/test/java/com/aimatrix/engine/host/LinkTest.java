package com.aimatrix.engine.host;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.errors.Code;
import com.aimatrix.engine.spec.EngineCalls;
import com.aimatrix.engine.v1.EngineEndpoint;
import com.aimatrix.engine.v1.Failure;
import com.aimatrix.engine.v1.LinkItem;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.Welcome;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.Test;

/** A link over the connections it takes: handshake, batching, loss, refusal, leaving. */
class LinkTest {
    private final ScriptedEngine engine = new ScriptedEngine(run -> "done");

    private static String reason(CompletableFuture<?> failed) {
        assertTrue(failed.isDone());
        CompletionException error = assertThrows(CompletionException.class, failed::join);
        return ((AmxException) error.getCause()).reason();
    }

    private static CompletableFuture<Payload> ask(ScriptedEngine engine) {
        return engine.link.calls().request(Message.newBuilder().setAgent("A").build(), EngineCalls.Options.NONE);
    }

    private static List<LinkItem.ItemCase> kinds(List<LinkItem> items) {
        return items.stream().map(LinkItem::getItemCase).toList();
    }

    private CompletableFuture<Void> opening(double patienceMs) {
        CompletableFuture<Void> opened = engine.link.open(patienceMs);
        engine.settle();
        return opened;
    }

    // --- opening -----------------------------------------------------------------------------------------------------

    @Test
    void it_says_hello_when_the_connection_is_there_and_is_open_with_welcome() {
        CompletableFuture<Void> opened = opening(0);
        assertEquals(List.of(), engine.wire().items());
        engine.wire().opened();
        var hello = engine.wire().items().get(0).getHello();
        assertEquals("Test", hello.getAgents(0).getName());
        assertEquals(64, hello.getCredit());
        assertFalse(engine.link.connected());
        engine.wire().handshake(ScriptedEngine.welcome(false));
        opened.join();
        assertTrue(engine.link.connected());
    }

    @Test
    void it_gives_up_at_once_on_an_engine_that_is_not_there() {
        CompletableFuture<Void> opened = opening(0);
        engine.wire().lost("connection refused", null);
        assertEquals("ENGINE_UNREACHABLE", reason(opened));
    }

    @Test
    void it_tries_again_if_it_is_to_be_patient() {
        CompletableFuture<Void> opened = opening(60_000);
        engine.wire().lost("connection refused", null);
        assertFalse(opened.isDone());
        engine.pass(200);
        assertEquals(2, engine.wires.size());
        engine.wire().opened();
        engine.wire().handshake(ScriptedEngine.welcome(false));
        opened.join();
    }

    @Test
    void it_tries_twice_if_it_is_to_be_patient_though_the_first_attempt_took_all_of_that() {
        CompletableFuture<Void> opened = opening(Double.MIN_VALUE); // patience is real time: this is over at once
        engine.wire().opened();
        engine.pass(10_000);
        assertTrue(engine.wire().closed);
        assertFalse(opened.isDone());
        engine.pass(200);
        assertEquals(2, engine.wires.size());
        engine.wire().lost("connection refused", null);
        assertEquals("ENGINE_UNREACHABLE", reason(opened));
    }

    @Test
    void it_fails_with_the_engines_reason_if_that_refuses() {
        CompletableFuture<Void> opened = opening(60_000);
        engine.wire().opened();
        engine.wire().handshake(
                ScriptedEngine.rejected(
                        Failure.newBuilder().setCode(9).setReason("DEFINITION_CHANGED").setMessage("it changed").build()));
        assertEquals("DEFINITION_CHANGED", reason(opened));
        assertTrue(engine.wire().closed);
    }

    @Test
    void it_tries_again_when_it_was_told_to_if_the_engine_refuses_for_now() {
        CompletableFuture<Void> opened = opening(60_000);
        engine.wire().opened();
        engine.wire().handshake(
                ScriptedEngine.rejected(
                        Failure.newBuilder()
                                .setCode(14)
                                .setReason("LINK_LIMIT")
                                .setRetryable(true)
                                .setRetryDelayMs(5000)
                                .build()));
        engine.pass(2000);
        assertEquals(1, engine.wires.size());
        engine.pass(3000);
        assertEquals(2, engine.wires.size());
        engine.wire().opened();
        engine.wire().handshake(ScriptedEngine.welcome(false));
        opened.join();
    }

    @Test
    void it_gives_a_connection_up_whose_engine_says_nothing() {
        CompletableFuture<Void> opened = opening(0);
        engine.wire().opened();
        engine.pass(10_000);
        assertEquals("ENGINE_UNREACHABLE", reason(opened));
        assertTrue(engine.wire().closed);
    }

    @Test
    void it_does_not_open_after_it_was_closed() {
        CompletableFuture<Void> closed = engine.link.close(0);
        CompletableFuture<Void> opened = opening(60_000);
        assertEquals("SHUTTING_DOWN", reason(opened));
        closed.join();
        assertEquals(0, engine.wires.size());
    }

    // --- sending -----------------------------------------------------------------------------------------------------

    @Test
    void it_never_waits_to_fill_a_frame_and_fills_it_with_what_came_while_the_last_one_was_on_its_way() {
        engine.open();
        engine.wire().holding = true;
        ask(engine);
        engine.settle();
        assertEquals(1, engine.said().size());
        for (int index = 0; index < 5; index++) {
            ask(engine);
        }
        engine.settle();
        assertEquals(0, engine.said().size());
        engine.wire().release();
        assertEquals(5, engine.wire().frames.get(engine.wire().frames.size() - 1).getItemsCount());
    }

    // --- losing ------------------------------------------------------------------------------------------------------

    @Test
    void a_connection_that_breaks_the_protocol_is_ended_and_taken_up_again() {
        ScriptedEngine.Wire wire = engine.open();
        wire.events.received(new byte[] {(byte) 0xff});
        assertTrue(wire.closed);
        assertFalse(engine.link.connected());
        engine.pass(1000);
        engine.wire().opened();
        assertEquals("token-1", engine.wire().items().get(0).getHello().getResumeToken());
    }

    @Test
    void a_connection_that_is_silent_for_two_heartbeats_is_ended() {
        ScriptedEngine.Wire wire = engine.open();
        engine.pass(20_000);
        assertFalse(wire.closed);
        engine.pass(1500);
        assertTrue(wire.closed);
    }

    @Test
    void what_an_old_connection_says_no_longer_matters() {
        ScriptedEngine.Wire old = engine.open();
        old.lost("gone", null);
        engine.pass(1000);
        ScriptedEngine.Wire wire = engine.wire();
        wire.opened();
        wire.handshake(ScriptedEngine.welcome(true));
        old.events.received(new byte[] {(byte) 0xff});
        old.lost("gone again", null);
        assertFalse(wire.closed);
        assertEquals(2, engine.wires.size());
    }

    @Test
    void a_connection_that_is_lost_again_and_again_is_tried_ever_more_slowly() {
        engine.open();
        List<Integer> waits = new ArrayList<>();
        for (int attempt = 0; attempt < 12; attempt++) {
            int before = engine.wires.size();
            engine.wire().lost("gone", null);
            int waited = 0;
            while (engine.wires.size() == before) {
                engine.pass(50);
                waited += 50;
            }
            waits.add(waited);
        }
        assertTrue(waits.get(0) <= 100, waits.toString());
        assertTrue(Collections.max(waits) >= 15_000 && Collections.max(waits) <= 30_050, waits.toString());
    }

    @Test
    void the_link_is_over_if_the_engine_will_not_have_it_back() {
        engine.open();
        CompletableFuture<Payload> pending = ask(engine);
        engine.settle();
        engine.wire().lost("no", new AmxException(Code.UNAUTHENTICATED, "UNAUTHENTICATED", "who are you"));
        assertEquals("UNAUTHENTICATED", reason(pending));
        assertEquals("UNAUTHENTICATED", reason(engine.link.ended()));
        CompletableFuture<Payload> later = ask(engine);
        engine.settle();
        assertEquals("UNAUTHENTICATED", reason(later));
    }

    // --- several engines ---------------------------------------------------------------------------------------------

    private static LinkItem elsewhere() {
        return LinkItem.newBuilder()
                .setWelcome(
                        Welcome.newBuilder()
                                .setProtocol(1)
                                .addEngines(EngineEndpoint.newBuilder().setAddress(":1"))
                                .addEngines(EngineEndpoint.newBuilder().setAddress(":2")))
                .build();
    }

    @Test
    void who_opens_it_is_told_where_several_engines_are() {
        CompletableFuture<Void> opened = opening(0);
        engine.wire().opened();
        engine.wire().handshake(elsewhere());
        opened.join();
        assertEquals(List.of(":1", ":2"), engine.link.engines());
        assertFalse(engine.link.connected());
        assertTrue(engine.wire().closed);
    }

    @Test
    void a_link_that_was_open_is_over_when_there_are_several_engines_where_there_was_one() {
        ScriptedEngine.Wire wire = engine.open();
        CompletableFuture<Payload> pending = ask(engine);
        wire.lost("gone", null);
        engine.pass(1000);
        engine.wire().opened();
        engine.wire().handshake(elsewhere());
        assertEquals("ENGINES_CHANGED", reason(engine.link.ended()));
        assertEquals("ENGINES_CHANGED", reason(pending));
    }

    // --- leaving -----------------------------------------------------------------------------------------------------

    @Test
    void it_drains_lets_handlers_end_says_so_and_waits_for_the_engine_to_hang_up() {
        CompletableFuture<String> answer = new CompletableFuture<>();
        ScriptedEngine busy = new ScriptedEngine(run -> answer);
        busy.open();
        busy.invoke("wait");
        CompletableFuture<Void> closed = busy.link.close(30_000);
        busy.settle();
        assertEquals(List.of(LinkItem.ItemCase.DRAIN), kinds(busy.said()));
        answer.complete("done");
        busy.settle();
        assertEquals(List.of(LinkItem.ItemCase.COMPLETE, LinkItem.ItemCase.DRAINED), kinds(busy.said()));
        assertFalse(closed.isDone());
        busy.wire().lost("goodbye", null);
        closed.join();
        busy.link.ended().join();
        assertEquals(1, busy.wires.size());
    }

    @Test
    void it_stops_what_does_not_end_in_time() {
        CompletableFuture<String> never = new CompletableFuture<>();
        List<String> stopped = new ArrayList<>();
        ScriptedEngine busy =
                new ScriptedEngine(
                        run -> {
                            run.onStop(why -> stopped.add(why.reason()));
                            return never;
                        });
        busy.open();
        busy.invoke("wait");
        CompletableFuture<Void> closed = busy.link.close(5000);
        busy.pass(4999);
        assertEquals(List.of(), stopped);
        busy.pass(1);
        busy.wire().lost("goodbye", null);
        closed.join();
        assertEquals(List.of("CANCELLED"), stopped);
        assertTrue(never.isCancelled());
    }

    @Test
    void calls_that_are_still_under_way_fail_and_so_do_later_ones() {
        engine.open();
        CompletableFuture<Payload> pending = ask(engine);
        CompletableFuture<Void> closed = engine.link.close(0);
        engine.pass(2000);
        assertEquals("SHUTTING_DOWN", reason(pending));
        closed.join();
        CompletableFuture<Payload> later = ask(engine);
        engine.settle();
        assertEquals("SHUTTING_DOWN", reason(later));
    }

    @Test
    void an_error_of_the_jvm_in_one_item_is_not_the_other_items_loss() {
        ScriptedEngine broken =
                new ScriptedEngine(
                        run -> {
                            throw new StackOverflowError();
                        });
        broken.open();
        broken.invoke("one");
        broken.invoke("two");
        List<LinkItem> said = broken.said();
        assertEquals(List.of(LinkItem.ItemCase.COMPLETE, LinkItem.ItemCase.COMPLETE), kinds(said));
        assertEquals("HANDLER_FAILED", said.get(1).getComplete().getFailure().getReason());
    }
}
