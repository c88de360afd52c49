package com.aimatrix.engine.core;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.v1.Activate;
import com.aimatrix.engine.v1.AgentDefinition;
import com.aimatrix.engine.v1.Call;
import com.aimatrix.engine.v1.Cancel;
import com.aimatrix.engine.v1.Deliver;
import com.aimatrix.engine.v1.EngineEndpoint;
import com.aimatrix.engine.v1.Failure;
import com.aimatrix.engine.v1.Invoke;
import com.aimatrix.engine.v1.GoAway;
import com.aimatrix.engine.v1.LinkFrame;
import com.aimatrix.engine.v1.LinkItem;
import com.aimatrix.engine.v1.Message;
import com.aimatrix.engine.v1.Payload;
import com.aimatrix.engine.v1.Ping;
import com.aimatrix.engine.v1.Rejected;
import com.aimatrix.engine.v1.Reply;
import com.aimatrix.engine.v1.SoftwareInfo;
import com.aimatrix.engine.v1.Welcome;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class LinkProtocolTest {
    private final StillEnvironment environment = new StillEnvironment();
    private final List<String> said = new ArrayList<>(); // what host and owner were told
    private AmxException rejection;
    private final LinkProtocol protocol =
            new LinkProtocol(
                    "link-1",
                    SoftwareInfo.newBuilder().setName("test").build(),
                    16,
                    List.of(AgentDefinition.newBuilder().setName("Echo").build()),
                    new Host() {
                        @Override
                        public void invoke(long id, Invoke invoke) {
                            said.add("invoke " + id);
                        }

                        @Override
                        public void deliver(long id, Deliver deliver) {
                            said.add("deliver " + id);
                        }

                        @Override
                        public void activate(Activate activate) {
                            said.add("activate " + activate.getEpoch());
                        }

                        @Override
                        public void deactivate(List<Long> epochs) {
                            said.add("deactivate " + epochs);
                        }

                        @Override
                        public void cancel(long id, String reason) {
                            said.add("cancel " + id + " " + reason);
                        }

                        @Override
                        public void grantChunks(long id, int chunks) {
                            said.add("grant " + id + " " + chunks);
                        }

                        @Override
                        public void abandon() {
                            said.add("abandon");
                        }
                    },
                    new LinkEvents() {
                        @Override
                        public void wake() {
                            said.add("wake");
                        }

                        @Override
                        public void opened(boolean resumed) {
                            said.add("opened " + resumed);
                        }

                        @Override
                        public void redirected(List<String> engines) {
                            said.add("redirected " + engines);
                        }

                        @Override
                        public void rejected(AmxException error) {
                            rejection = error;
                        }

                        @Override
                        public void goAway(String reason, long millis) {
                            said.add("go away " + reason);
                        }
                    },
                    new Deadlines(environment),
                    environment);

    /** A call that remembers what became of it. */
    private static final class Waiting extends PendingCall {
        Reply reply;
        AmxException error;

        @Override
        public void replied(Reply outcome) {
            reply = outcome;
        }

        @Override
        public void failed(AmxException why) {
            error = why;
        }
    }

    private static Call request(String key) {
        return Call.newBuilder().setRequest(Message.newBuilder().setAgent("Echo").setKey(key)).build();
    }

    private static byte[] frame(long seq, LinkItem... items) {
        return LinkFrame.newBuilder().setSeq(seq).addAllItems(List.of(items)).build().toByteArray();
    }

    private static LinkFrame parsed(byte[] frame) {
        try {
            return LinkFrame.parseFrom(frame);
        } catch (InvalidProtocolBufferException error) {
            throw new AssertionError(error);
        }
    }

    private void welcome(boolean resumed, long received) {
        protocol.receive(
                frame(
                        0,
                        LinkItem.newBuilder()
                                .setWelcome(
                                        Welcome.newBuilder()
                                                .setSessionId("s")
                                                .setProtocol(1)
                                                .setResumeToken("token")
                                                .setHeartbeatIntervalMs(1000)
                                                .setResumed(resumed)
                                                .setReceivedSeq(received))
                                .build()));
    }

    private void open() {
        protocol.hello();
        welcome(false, 0);
        said.clear();
    }

    @Test
    void an_engine_that_is_one_of_several_says_where_all_are_and_opens_nothing() {
        assertTrue(parsed(protocol.hello()).getItems(0).getHello().getFeaturesList().contains("engines"));
        LinkItem welcome =
                LinkItem.newBuilder()
                        .setWelcome(
                                Welcome.newBuilder()
                                        .setProtocol(1)
                                        .setNamespace("tenant-7")
                                        .addEngines(EngineEndpoint.newBuilder().setAddress(":1"))
                                        .addEngines(EngineEndpoint.newBuilder().setAddress("there:2")))
                        .build();
        protocol.receive(frame(0, welcome));
        assertEquals(List.of("redirected [:1, there:2]"), said);
        assertFalse(protocol.isOpen());
        assertEquals("tenant-7", protocol.namespace());
    }

    @Test
    void helloSaysWhoItIsAndLaterHowFarItCame() {
        LinkItem first = parsed(protocol.hello()).getItems(0);
        assertEquals("link-1", first.getHello().getLinkId());
        assertEquals(16, first.getHello().getCredit());
        assertEquals("", first.getHello().getResumeToken());
        welcome(false, 0);
        protocol.receive(frame(1, LinkItem.newBuilder().setPing(Ping.newBuilder().setNonce(5)).build()));
        protocol.disconnected();
        LinkItem second = parsed(protocol.hello()).getItems(0);
        assertEquals("token", second.getHello().getResumeToken());
        assertEquals(1, second.getHello().getReceivedSeq());
    }

    @Test
    void itemsAreBatchedIntoNumberedFrames() {
        open();
        for (int index = 0; index < 200; index++) {
            protocol.call(new Waiting(), request("k" + index), false);
        }
        LinkFrame first = parsed(protocol.nextFrame());
        LinkFrame second = parsed(protocol.nextFrame());
        assertEquals(128, first.getItemsCount());
        assertEquals(1, first.getSeq());
        assertEquals(72, second.getItemsCount());
        assertEquals(2, second.getSeq());
        assertNull(protocol.nextFrame());
    }

    @Test
    void largeItemsBeginFramesOfTheirOwn() {
        open();
        ByteString data = ByteString.copyFrom(new byte[200_000]);
        for (int index = 0; index < 3; index++) {
            Message message =
                    Message.newBuilder().setAgent("Echo").setPayload(Payload.newBuilder().setData(data)).build();
            protocol.call(new Waiting(), Call.newBuilder().setRequest(message).build(), false);
        }
        int frames = 0;
        for (byte[] next = protocol.nextFrame(); next != null; next = protocol.nextFrame()) {
            assertTrue(next.length <= Limits.DEFAULT.maxFrameBytes());
            frames++;
        }
        assertEquals(3, frames);
    }

    @Test
    void repeatedFrameIsPassedOverAndAMissingOneEndsTheConnection() {
        open();
        LinkItem item = LinkItem.newBuilder().setId(7).setCancel(Cancel.newBuilder().setReason("r")).build();
        protocol.receive(frame(1, item));
        protocol.receive(frame(1, item));
        assertEquals(List.of("cancel 7 r"), said);
        assertThrows(ProtocolViolation.class, () -> protocol.receive(frame(3, item)));
    }

    @Test
    void bytesThatAreNoFrameEndTheConnection() {
        open();
        assertThrows(ProtocolViolation.class, () -> protocol.receive(new byte[] {(byte) 0xFF, 1, 2}));
    }

    @Test
    void resumedLinkSendsAgainWhatWasNotReceivedByteForByte() {
        open();
        protocol.call(new Waiting(), request("a"), false);
        byte[] first = protocol.nextFrame();
        protocol.call(new Waiting(), request("b"), false);
        byte[] second = protocol.nextFrame();
        protocol.disconnected();
        protocol.hello();
        welcome(true, 1);
        assertNotNull(first);
        assertArrayEquals(second, protocol.nextFrame());
        assertNull(protocol.nextFrame());
    }

    @Test
    void newSessionRepeatsWhatTheEngineRecognisesAndFailsTheRest() {
        open();
        Waiting sent = new Waiting();
        Waiting repeatable = new Waiting();
        protocol.call(sent, request("a"), false);
        protocol.call(repeatable, request("b"), true);
        protocol.nextFrame();
        Waiting unsent = new Waiting();
        protocol.call(unsent, request("c"), false);
        protocol.disconnected();
        protocol.hello();
        welcome(false, 0);
        assertEquals("ENGINE_RESTARTED", sent.error.reason());
        LinkFrame again = parsed(protocol.nextFrame());
        assertEquals(List.of(2L, 3L), again.getItemsList().stream().map(LinkItem::getId).toList());
        assertNull(repeatable.error);
        assertNull(unsent.error);
    }

    @Test
    void newSessionRepeatsWhatAnEngineThatLeftHadNotTaken() {
        open();
        Waiting taken = new Waiting();
        protocol.call(taken, request("a"), false);
        protocol.nextFrame();
        Waiting notTaken = new Waiting();
        protocol.call(notTaken, request("b"), false);
        protocol.nextFrame();
        LinkItem last = LinkItem.newBuilder().setGoAway(GoAway.newBuilder()).build();
        protocol.receive(LinkFrame.newBuilder().setSeq(1).setAck(1).addItems(last).build().toByteArray());
        protocol.disconnected();
        protocol.hello();
        welcome(false, 0);
        assertEquals("ENGINE_RESTARTED", taken.error.reason());
        assertNull(notTaken.error);
        LinkFrame again = parsed(protocol.nextFrame());
        assertEquals(List.of(2L), again.getItemsList().stream().map(LinkItem::getId).toList());
        protocol.disconnected(); // this time without a word: it may have happened
        protocol.hello();
        welcome(false, 0);
        assertEquals("ENGINE_RESTARTED", notTaken.error.reason());
    }

    @Test
    void callThatIsSaidAgainOverTwoFruitlessSessionsIsSaidOnce() {
        open();
        Waiting call = new Waiting();
        protocol.call(call, request("a"), true);
        protocol.nextFrame();
        for (int session = 0; session < 2; session++) {
            protocol.disconnected();
            protocol.hello();
            welcome(false, 0);
        }
        assertEquals(1, parsed(protocol.nextFrame()).getItemsCount());
        assertNull(protocol.nextFrame());
    }

    @Test
    void callsOfHandlersEndWithTheirSession() {
        open();
        Waiting sent = new Waiting();
        Waiting unsent = new Waiting();
        Call call = request("a").toBuilder().setInvocationId(1).build();
        protocol.call(sent, call, true);
        protocol.nextFrame();
        protocol.call(unsent, call, true);
        protocol.disconnected();
        protocol.hello();
        welcome(false, 0);
        assertNull(protocol.nextFrame());
        assertEquals("ENGINE_RESTARTED", sent.error.reason());
        assertEquals("ENGINE_RESTARTED", unsent.error.reason());
    }

    @Test
    void replyReachesItsCallOnce() {
        open();
        Waiting call = new Waiting();
        protocol.call(call, request("a"), false);
        LinkItem reply = LinkItem.newBuilder().setId(1).setReply(Reply.getDefaultInstance()).build();
        protocol.receive(frame(1, reply));
        assertNotNull(call.reply);
        call.reply = null;
        protocol.receive(frame(2, reply));
        assertNull(call.reply);
    }

    @Test
    void callPastItsDeadlineFailsAndIsTakenBack() {
        open();
        Waiting call = new Waiting();
        protocol.call(call, request("a").toBuilder().setTimeoutMs(100).build(), false);
        protocol.nextFrame();
        environment.advance(1000);
        assertEquals("DEADLINE_EXCEEDED", call.error.reason());
        assertTrue(parsed(protocol.nextFrame()).getItems(0).hasCancel());
    }

    @Test
    void callBeyondALimitIsRefusedBeforeAnythingIsSaid() {
        open();
        assertEquals(
                "KEY_TOO_LONG",
                assertThrows(AmxException.class, () -> protocol.call(new Waiting(), request("k".repeat(513)), false))
                        .reason());
        Message headers = Message.newBuilder().setAgent("Echo").putHeaders("h", "x".repeat(9000)).build();
        assertEquals(
                "HEADERS_TOO_LARGE",
                assertThrows(
                                AmxException.class,
                                () ->
                                        protocol.call(
                                                new Waiting(), Call.newBuilder().setSend(headers).build(), false))
                        .reason());
        for (int index = 0; index < Limits.DEFAULT.maxCalls(); index++) {
            protocol.call(new Waiting(), request("k"), false);
        }
        AmxException full =
                assertThrows(AmxException.class, () -> protocol.call(new Waiting(), request("k"), false));
        assertEquals("CALLS_IN_FLIGHT", full.reason());
        assertTrue(full.retryable());
    }

    @Test
    void silenceForTwoHeartbeatsIsDeathUnlessNobodyCouldListen() {
        open();
        environment.advance(1900);
        assertTrue(protocol.tick(0, 0, 0));
        environment.advance(1900);
        assertTrue(protocol.tick(0, 0, 1900));
        environment.advance(300);
        assertFalse(protocol.tick(0, 0, 0));
    }

    @Test
    void framesAreAcknowledgedByTimeWhenNothingElseIsSaid() {
        open();
        protocol.receive(frame(1, LinkItem.newBuilder().setId(3).setCancel(Cancel.newBuilder()).build()));
        assertNull(protocol.nextFrame());
        protocol.tick(0, 0, 0);
        LinkFrame acknowledgement = parsed(protocol.nextFrame());
        assertEquals(1, acknowledgement.getAck());
        assertEquals(0, acknowledgement.getSeq());
    }

    @Test
    void pingIsAnsweredAndAnUnknownItemIsRefusedByName() {
        open();
        protocol.receive(
                frame(
                        1,
                        LinkItem.newBuilder().setPing(Ping.newBuilder().setNonce(9)).build(),
                        LinkItem.newBuilder().setId(4).build()));
        LinkFrame answer = parsed(protocol.nextFrame());
        assertEquals(9, answer.getItems(0).getPong().getNonce());
        assertEquals("UNSUPPORTED_ITEM", answer.getItems(1).getComplete().getFailure().getReason());
    }

    @Test
    void refusalOfTheLinkTellsWhy() {
        protocol.hello();
        protocol.receive(
                frame(
                        0,
                        LinkItem.newBuilder()
                                .setRejected(
                                        Rejected.newBuilder()
                                                .setFailure(
                                                        Failure.newBuilder().setCode(16).setReason("UNAUTHENTICATED")))
                                .build()));
        assertEquals("UNAUTHENTICATED", rejection.reason());
        assertFalse(rejection.retryable());
        assertFalse(protocol.isOpen());
    }

    @Test
    void drainIsSaidOnceAndAgainInANewSession() {
        open();
        protocol.drain();
        protocol.drain();
        assertEquals(1, parsed(protocol.nextFrame()).getItemsCount());
        protocol.disconnected();
        protocol.hello();
        welcome(false, 0);
        assertTrue(parsed(protocol.nextFrame()).getItems(0).hasDrain());
    }
}
