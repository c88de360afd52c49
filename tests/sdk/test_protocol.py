"""The SDK's protocol core, driven frame by frame: no sockets, no event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from amx.v1 import agent_pb2, common_pb2, link_pb2, message_pb2
from amx_engine._deadlines import Deadlines
from amx_engine._errors import AmxError
from amx_engine._protocol import LinkProtocol, PendingCall, ProtocolViolation


class Timers:
    """An event loop's clock and timers, by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None], Timers.Handle]] = []

    class Handle:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    def clock(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timers.Handle:
        handle = Timers.Handle()
        self.timers.append((when, callback, handle))
        return handle

    def advance(self, seconds: float) -> None:
        self.now += seconds
        while due := [timer for timer in self.timers if timer[0] <= self.now]:
            self.timers = [timer for timer in self.timers if timer[0] > self.now]
            for _, callback, handle in due:
                if not handle.cancelled:
                    callback()


class Recorder:
    """Host and owner of a protocol: writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        self.wakes = 0

    def invoke(self, item_id: int, invoke: link_pb2.Invoke) -> None:
        self.said.append(("invoke", item_id, invoke.message.agent))

    def invoke_plain(self, entry: tuple[Any, ...]) -> None:
        self.said.append(("invoke", entry[1], entry[6]))

    def deliver(self, item_id: int, deliver: link_pb2.Deliver) -> None:
        self.said.append(("deliver", item_id, list(deliver.epochs)))

    def activate(self, activate: link_pb2.Activate) -> None:
        self.said.append(("activate", activate.epoch))

    def deactivate(self, epochs: Iterable[int]) -> None:
        self.said.append(("deactivate", list(epochs)))

    def cancel(self, item_id: int, reason: str) -> None:
        self.said.append(("cancel", item_id, reason))

    def grant_chunks(self, item_id: int, chunks: int) -> None:
        self.said.append(("grant", item_id, chunks))

    def abandon(self) -> None:
        self.said.append(("abandon",))

    def wake(self) -> None:
        self.wakes += 1

    def opened(self, resumed: bool) -> None:
        self.said.append(("opened", resumed))

    def redirected(self, engines: list[str]) -> None:
        self.said.append(("redirected", engines))

    def rejected(self, error: AmxError) -> None:
        self.said.append(("rejected", error.reason))

    def go_away(self, reason: str, seconds: float) -> None:
        self.said.append(("go_away", reason, seconds))


class Call(PendingCall):
    """A call that writes down what became of it."""

    __slots__ = ("outcomes",)

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[object] = []

    def replied(self, reply: link_pb2.Reply) -> None:
        self.outcomes.append(reply.WhichOneof("outcome"))

    def failed(self, error: AmxError) -> None:
        self.outcomes.append(error.reason)

    def chunk(self, payload: common_pb2.Payload) -> None:
        self.outcomes.append(payload.data)

    def event(self, event: message_pb2.Event) -> None:
        self.outcomes.append(event.topic)


class Link:
    """A protocol and its engine's half of the numbering."""

    def __init__(self, **options: object) -> None:
        self.timers = Timers()
        self.recorder = Recorder()
        self.protocol = LinkProtocol(
            link_id="link",
            host=self.recorder,
            events=self.recorder,
            deadlines=Deadlines(self.timers.clock, self.timers.call_at),
            clock=self.timers.clock,
            software=link_pb2.SoftwareInfo(name="test"),
            **options,  # type: ignore[arg-type]
        )
        self.seq = 0

    def welcome(self, *, resumed: bool = False, received_seq: int = 0, **limits: int) -> None:
        frame = link_pb2.LinkFrame()
        welcome = frame.items.add().welcome
        welcome.protocol = 1
        welcome.resume_token = "token"
        welcome.heartbeat_interval_ms = 5000
        welcome.resumed = resumed
        welcome.received_seq = received_seq
        welcome.limits.CopyFrom(link_pb2.Limits(**limits))
        if not resumed:
            self.seq = 0
        self.protocol.receive(frame.SerializeToString())

    def open(self, **limits: int) -> None:
        self.protocol.hello()
        self.welcome(**limits)  # type: ignore[arg-type]

    def frame(self, *items: link_pb2.LinkItem, ack: int = 0) -> bytes:
        self.seq += 1
        return link_pb2.LinkFrame(items=items, seq=self.seq, ack=ack).SerializeToString()

    def receive(self, *items: link_pb2.LinkItem, ack: int = 0) -> None:
        self.protocol.receive(self.frame(*items, ack=ack))

    def sent(self) -> list[link_pb2.LinkFrame]:
        frames = []
        while (data := self.protocol.next_frame()) is not None:
            frames.append(link_pb2.LinkFrame.FromString(data))
        return frames

    def sent_items(self) -> list[link_pb2.LinkItem]:
        return [item for frame in self.sent() for item in frame.items]

    def request(self, type: str = "") -> Call:
        call = Call()
        self.protocol.call(call, "request", message_pb2.Message(agent="echo", type=type))
        return call


def reply(call: Call) -> link_pb2.LinkItem:
    return link_pb2.LinkItem(id=call.id, reply=link_pb2.Reply(result=common_pb2.Payload()))


def test_hello_names_the_process_and_its_agents() -> None:
    link = Link(agents=[agent_pb2.AgentDefinition(name="echo")], credit=7, host_name="host:1")
    hello = link_pb2.LinkFrame.FromString(link.protocol.hello()).items[0].hello
    assert (hello.link_id, hello.credit, hello.host) == ("link", 7, "host:1")
    assert [agent.name for agent in hello.agents] == ["echo"]
    assert hello.protocol_min <= 1 <= hello.protocol_max
    assert not hello.resume_token


def test_welcome_with_engines_says_where_they_are_and_opens_nothing() -> None:
    frame = link_pb2.LinkFrame()
    welcome = frame.items.add().welcome
    welcome.protocol = 1
    welcome.namespace = "tenant-7"
    for address in (":9091", ":9092"):
        welcome.engines.add(address=address)
    link = Link()
    link.protocol.hello()
    link.protocol.receive(frame.SerializeToString())
    assert link.recorder.said == [("redirected", [":9091", ":9092"])]
    assert (link.protocol.open, link.protocol.namespace) == (False, "tenant-7")


def test_link_to_one_of_known_engines_says_so_and_is_a_link_like_any() -> None:
    link = Link(engines_known=True)
    (item,) = link_pb2.LinkFrame.FromString(link.protocol.hello()).items
    assert "engines" in item.hello.features
    assert item.hello.engines_known
    frame = link_pb2.LinkFrame()
    welcome = frame.items.add().welcome
    welcome.protocol = 1
    welcome.engines.add(address=":9091")
    link.protocol.receive(frame.SerializeToString())
    assert link.protocol.open


def test_nothing_is_sent_before_welcome() -> None:
    link = Link()
    call = link.request()
    link.protocol.hello()
    assert link.protocol.next_frame() is None
    link.welcome()
    assert [item.id for item in link.sent_items()] == [call.id]


def test_call_gets_its_reply_once() -> None:
    link = Link()
    link.open()
    call = link.request()
    link.receive(reply(call))
    link.receive(reply(call))
    assert call.outcomes == ["result"]
    assert link.protocol.calls_in_flight == 0


def test_frames_are_numbered_and_capped_by_items_and_bytes() -> None:
    link = Link()
    link.open(max_frame_items=3, max_frame_bytes=1000)
    for _ in range(7):
        link.request()
    frames = link.sent()
    assert [(frame.seq, len(frame.items)) for frame in frames] == [(1, 3), (2, 3), (3, 1)]
    for _ in range(2):
        call = Call()
        link.protocol.request(call, "echo", "", "", "", b"x" * 800, 0.0)
    assert [len(frame.items) for frame in link.sent()] == [1, 1]


def test_wake_comes_once_after_the_protocol_ran_dry() -> None:
    link = Link()
    link.open()
    link.sent()
    wakes = link.recorder.wakes
    link.request()
    link.request()
    assert link.recorder.wakes == wakes + 1


def test_duplicate_frame_is_dropped() -> None:
    link = Link()
    link.open()
    frame = link.frame(link_pb2.LinkItem(id=5, invoke=link_pb2.Invoke()))
    link.protocol.receive(frame)
    link.protocol.receive(frame)
    assert [said for said in link.recorder.said if said[0] == "invoke"] == [("invoke", 5, "")]


def test_gap_in_the_numbering_is_a_violation() -> None:
    link = Link()
    link.open()
    link.seq += 1
    with pytest.raises(ProtocolViolation, match="frame 2 where frame 1 was due"):
        link.receive(link_pb2.LinkItem(ping=link_pb2.Ping()))


def test_garbage_is_a_violation() -> None:
    link = Link()
    link.open()
    with pytest.raises(ProtocolViolation, match="not a frame"):
        link.protocol.receive(b"\xff\xff\xff")


def test_items_before_welcome_are_a_violation() -> None:
    link = Link()
    link.protocol.hello()
    with pytest.raises(ProtocolViolation, match="before its Welcome"):
        link.receive(link_pb2.LinkItem(id=5, invoke=link_pb2.Invoke()))


def test_ack_is_piggybacked_and_sent_alone_after_32_frames_or_a_tick() -> None:
    link = Link()
    link.open()
    ping = link_pb2.LinkItem(id=1, cancel=link_pb2.Cancel())
    for _ in range(31):
        link.receive(ping)
    assert link.sent() == []
    link.receive(ping)
    assert [(frame.seq, frame.ack, len(frame.items)) for frame in link.sent()] == [(0, 32, 0)]
    link.receive(ping)
    link.request()
    assert [(frame.seq, frame.ack) for frame in link.sent()] == [(1, 33)]
    link.receive(ping)
    assert link.sent() == []
    link.protocol.tick(slots_in_use=0, lag_seconds=0.0)
    assert [frame.ack for frame in link.sent()] == [34]


def test_resume_replays_what_the_engine_did_not_receive() -> None:
    link = Link()
    link.open(max_frame_items=1)
    calls = [link.request() for _ in range(3)]
    assert [frame.seq for frame in link.sent()] == [1, 2, 3]
    link.receive(link_pb2.LinkItem(id=9, invoke=link_pb2.Invoke()), ack=1)
    link.protocol.disconnected()
    late = link.request()
    hello = link_pb2.LinkFrame.FromString(link.protocol.hello()).items[0].hello
    assert (hello.resume_token, hello.received_seq) == ("token", 1)
    link.welcome(resumed=True, received_seq=2, max_frame_items=1)
    frames = link.sent()
    assert [(frame.seq, frame.items[0].id) for frame in frames] == [(3, calls[2].id), (4, late.id)]
    assert ("abandon",) not in link.recorder.said[2:]
    assert all(call.outcomes == [] for call in calls)


def test_new_session_repeats_what_is_safe_and_fails_the_rest() -> None:
    link = Link()
    link.open()
    keyed = Call()
    message = message_pb2.Message(agent="echo", idempotency_key="once")
    keyed.operation, keyed.message = "request", message
    link.protocol.call(keyed, "request", message, timeout_ms=5000)
    plain = link.request()
    inside = Call()
    inside.operation, inside.message = "request", message
    link.protocol.call(inside, "request", message, invocation_id=77)
    link.sent()
    link.protocol.disconnected()
    unsent = link.request(type="late")
    link.protocol.hello()
    link.welcome(resumed=False)
    assert plain.outcomes == ["ENGINE_RESTARTED"]
    assert inside.outcomes == ["ENGINE_RESTARTED"]
    frames = link.sent()
    assert [frame.seq for frame in frames] == [1]
    assert [(item.id, item.call.request.type) for item in frames[0].items] == [(keyed.id, ""), (unsent.id, "late")]
    assert frames[0].items[0].call.timeout_ms == 5000
    assert ("abandon",) in link.recorder.said
    link.receive(reply(keyed), reply(unsent))
    assert (keyed.outcomes, unsent.outcomes) == (["result"], ["result"])


def test_new_session_repeats_what_an_engine_that_left_had_not_taken() -> None:
    link = Link()
    link.open()
    taken = link.request()
    link.sent()
    not_taken = link.request()
    inside = Call()
    message = message_pb2.Message(agent="echo")
    inside.operation, inside.message = "request", message
    link.protocol.call(inside, "request", message, invocation_id=77)
    link.sent()
    link.receive(link_pb2.LinkItem(go_away=link_pb2.GoAway(reason="update")), ack=1)
    link.protocol.disconnected()
    link.protocol.hello()
    link.welcome(resumed=False)
    assert [item.id for item in link.sent_items()] == [not_taken.id]
    assert (taken.outcomes, inside.outcomes) == (["ENGINE_RESTARTED"], ["ENGINE_RESTARTED"])
    link.protocol.disconnected()  # this time without a word: it may have happened
    link.protocol.hello()
    link.welcome(resumed=False)
    assert not_taken.outcomes == ["ENGINE_RESTARTED"]


def test_call_is_said_again_once_over_two_sessions_that_came_to_nothing() -> None:
    link = Link()
    link.open()
    keyed = Call()
    message = message_pb2.Message(agent="echo", idempotency_key="once")
    keyed.operation, keyed.message = "request", message
    link.protocol.call(keyed, "request", message)
    link.sent()
    for _ in range(2):  # the first of them is lost before anything is said
        link.protocol.disconnected()
        link.protocol.hello()
        link.welcome(resumed=False)
    assert [item.id for item in link.sent_items()] == [keyed.id]


def test_completions_of_a_lost_session_are_not_sent_to_the_next() -> None:
    link = Link()
    link.open()
    item = link.protocol.item(0)
    item.id = 3
    item.complete.attempt = 1
    link.protocol.disconnected()
    link.protocol.hello()
    link.welcome(resumed=False)
    assert link.sent() == []


def test_ping_is_answered_with_its_nonce() -> None:
    link = Link()
    link.open()
    link.receive(link_pb2.LinkItem(ping=link_pb2.Ping(nonce=42)))
    assert [item.pong.nonce for item in link.sent_items()] == [42]


def test_silence_of_two_heartbeats_ends_the_connection_unless_the_loop_was_blocked() -> None:
    link = Link()
    link.open()
    alive = []
    for _ in range(11):
        link.timers.advance(1.0)
        alive.append(link.protocol.tick(slots_in_use=3, lag_seconds=0.25))
    assert alive[:10] == [True] * 10
    assert alive[10] is False
    pings = [item.ping for item in link.sent_items()]
    assert [(ping.nonce, ping.slots_in_use) for ping in pings] == [(1, 3), (2, 3)]
    assert {ping.event_loop_lag_us for ping in pings} == {250_000}
    assert link.protocol.tick(slots_in_use=0, lag_seconds=11.0) is True
    link.timers.advance(9.0)
    assert link.protocol.tick(slots_in_use=0, lag_seconds=0.0) is True


def test_deadline_fails_the_call_and_cancels_it_at_the_engine() -> None:
    link = Link()
    link.open()
    call = Call()
    link.protocol.request(call, "echo", "", "", "", b"", 1.0)
    assert [item.call.timeout_ms for item in link.sent_items()] == [1000]
    link.timers.advance(1.0)
    assert call.outcomes == []
    link.timers.advance(0.2)
    assert call.outcomes == ["DEADLINE_EXCEEDED"]
    assert [(item.id, item.cancel.reason) for item in link.sent_items()] == [(call.id, "DEADLINE_EXCEEDED")]
    link.receive(reply(call))
    assert call.outcomes == ["DEADLINE_EXCEEDED"]


def test_deadline_holds_without_a_connection() -> None:
    link = Link()
    call = Call()
    link.protocol.request(call, "echo", "", "", "", b"", 0.5)
    link.timers.advance(1.0)
    assert call.outcomes == ["DEADLINE_EXCEEDED"]


def test_finished_calls_leave_no_deadline_behind() -> None:
    link = Link()
    link.open()
    for _ in range(10):
        call = Call()
        link.protocol.request(call, "echo", "", "", "", b"", 60.0)
        link.receive(reply(call))
        assert call.bucket == {}
    assert len([timer for timer in link.timers.timers if not timer[2].cancelled]) == 1


def test_cancelled_call_hears_nothing_more() -> None:
    link = Link()
    link.open()
    call = link.request()
    link.sent()
    link.protocol.cancel(call, "gone")
    link.protocol.cancel(call, "gone")
    assert [(item.id, item.cancel.reason) for item in link.sent_items()] == [(call.id, "gone")]
    link.receive(reply(call))
    assert call.outcomes == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (message_pb2.Message(payload=common_pb2.Payload(data=b"x" * 3000)), "ITEM_TOO_LARGE"),
        (message_pb2.Message(headers={"name": "x" * 200}), "HEADERS_TOO_LARGE"),
        (message_pb2.Message(key="ä" * 20), "KEY_TOO_LONG"),
    ],
)
def test_limits_are_refused_by_name_at_the_caller(message: message_pb2.Message, reason: str) -> None:
    link = Link()
    link.open(max_item_bytes=2000, max_header_bytes=100, max_key_bytes=30)
    with pytest.raises(AmxError) as caught:
        link.protocol.call(Call(), "request", message)
    assert caught.value.reason == reason
    assert link.sent() == []


def test_request_fast_path_refuses_the_same_limits() -> None:
    link = Link()
    link.open(max_item_bytes=2000, max_key_bytes=30)
    with pytest.raises(AmxError, match="at most 2000"):
        link.protocol.request(Call(), "echo", "", "", "", b"x" * 3000, 0.0)
    with pytest.raises(AmxError, match="instance key"):
        link.protocol.request(Call(), "echo", "k" * 31, "", "", b"", 0.0)
    assert link.protocol.calls_in_flight == 0


def test_calls_in_flight_are_bounded() -> None:
    link = Link()
    link.open(max_calls_in_flight=2)
    link.request()
    link.request()
    with pytest.raises(AmxError) as caught:
        link.request()
    assert caught.value.reason == "CALLS_IN_FLIGHT"
    assert caught.value.retryable


def test_unknown_item_is_answered_and_the_link_goes_on() -> None:
    link = Link()
    link.open()
    link.receive(link_pb2.LinkItem(id=8), link_pb2.LinkItem(), link_pb2.LinkItem(ping=link_pb2.Ping(nonce=1)))
    answer, pong = link.sent_items()
    assert (answer.id, answer.complete.failure.reason) == (8, "UNSUPPORTED_ITEM")
    assert pong.pong.nonce == 1


def test_streamed_reply_and_its_window() -> None:
    link = Link()
    link.open()
    call = Call()
    link.protocol.call(call, "stream", message_pb2.Message(agent="echo"))
    link.sent()
    chunk = link_pb2.LinkItem(id=call.id, chunk=link_pb2.Chunk(payload=common_pb2.Payload(data=b"1")))
    link.receive(chunk, chunk, reply(call), chunk)
    assert call.outcomes == [b"1", b"1", "result"]
    link.protocol.grant(call, 2)
    assert link.sent() == []  # it has ended: nobody needs the credit


def test_subscription_lives_on_after_its_reply_and_is_renewed_with_a_new_session() -> None:
    link = Link()
    link.open()
    call = Call()
    call.operation, call.message = "subscribe", message_pb2.Subscription(pattern="a.*")
    link.protocol.call(call, "subscribe", call.message)
    link.sent()
    subscribed = link_pb2.LinkItem(id=call.id, reply=link_pb2.Reply(subscribed=link_pb2.Subscribed()))
    event = link_pb2.LinkItem(id=call.id, event=message_pb2.Event(topic="a.b"))
    link.receive(subscribed, event)
    link.protocol.disconnected()
    link.protocol.hello()
    link.welcome(resumed=False)
    assert [item.call.subscribe.pattern for item in link.sent_items()] == ["a.*"]
    link.receive(subscribed, event)
    assert call.outcomes == ["subscribed", "a.b", "subscribed", "a.b"]


def test_host_is_told_in_order() -> None:
    link = Link()
    link.open()
    link.receive(
        link_pb2.LinkItem(activate=link_pb2.Activate(epoch=4)),
        link_pb2.LinkItem(id=1, deliver=link_pb2.Deliver(epochs=[4])),
        link_pb2.LinkItem(id=2, invoke=link_pb2.Invoke(message=message_pb2.Message(agent="echo"))),
        link_pb2.LinkItem(id=2, credit=link_pb2.Credit(chunks=5)),
        link_pb2.LinkItem(id=2, cancel=link_pb2.Cancel(reason="why")),
        link_pb2.LinkItem(deactivate=link_pb2.Deactivate(epochs=[4])),
        link_pb2.LinkItem(go_away=link_pb2.GoAway(reason="update", deadline_ms=1500)),
    )
    assert link.recorder.said[2:] == [
        ("activate", 4),
        ("deliver", 1, [4]),
        ("invoke", 2, "echo"),
        ("grant", 2, 5),
        ("cancel", 2, "why"),
        ("deactivate", [4]),
        ("go_away", "update", 1.5),
    ]


def test_rejection_carries_its_reason() -> None:
    link = Link()
    link.protocol.hello()
    frame = link_pb2.LinkFrame()
    frame.items.add().rejected.failure.reason = "UNAUTHENTICATED"
    link.protocol.receive(frame.SerializeToString())
    assert link.recorder.said == [("rejected", "UNAUTHENTICATED")]
    assert not link.protocol.open


def test_drain_is_repeated_to_a_new_session() -> None:
    link = Link()
    link.open()
    link.protocol.drain()
    link.protocol.drain()
    assert [item.WhichOneof("item") for item in link.sent_items()] == ["drain"]
    link.protocol.disconnected()
    link.protocol.hello()
    link.welcome(resumed=False)
    assert [item.WhichOneof("item") for item in link.sent_items()] == ["drain"]


def test_close_fails_every_call() -> None:
    link = Link()
    link.open()
    calls = [link.request() for _ in range(3)]
    link.protocol.close(AmxError(14, "SHUTTING_DOWN", "closed"))
    assert [call.outcomes for call in calls] == [["SHUTTING_DOWN"]] * 3


def test_register_adds_agents_to_this_and_later_handshakes() -> None:
    link = Link()
    link.open()
    call = Call()
    link.protocol.register(call, [agent_pb2.AgentDefinition(name="late")])
    assert [agent.name for agent in link.sent_items()[0].register.agents] == ["late"]
    link.protocol.disconnected()
    hello = link_pb2.LinkFrame.FromString(link.protocol.hello()).items[0].hello
    assert [agent.name for agent in hello.agents] == ["late"]
    link.welcome(resumed=False)
    assert len(call.outcomes) == 1
    assert link.sent() == []
