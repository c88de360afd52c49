"""What one engine has stored for others: handed over in order, said again after failures, given up only if refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from amx.v1 import common_pb2, link_pb2, message_pb2
from amx_server.cluster.outbox import EVENTS, ShardOutbox, publisher_text
from amx_server.core.clock import ManualClock
from amx_server.core.errors import AmxError
from amx_server.security.identity import Identity
from amx_server.storage.interface import Commit, MessageState, StoredMessage


class Others:
    """The other engines: write down what they are told, answer when the test says so."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Identity, str, Any, Any]] = []
        self.refusing: AmxError | None = None

    def call(
        self, number: int, identity: Identity, call: Any, operation: str, message: Any, *, repeatable: bool
    ) -> None:
        assert repeatable, "an engine that was restarted meanwhile must hear of it again"
        if self.refusing is not None:
            raise self.refusing
        self.told.append((number, identity, operation, message, call))

    def accept(self, position: int = 0) -> None:
        self.told.pop(position)[4].replied(link_pb2.Reply(accepted=link_pb2.Accepted(message_id="x")))

    def fail(self, reason: str, *, retryable: bool) -> None:
        failure = common_pb2.Failure(code=14, reason=reason, message="no", retryable=retryable)
        self.told.pop(0)[4].replied(link_pb2.Reply(failure=failure))

    @property
    def ids(self) -> list[str]:
        return [message.message_id for _, _, _, message, _ in self.told]


class Rig:
    """An outbox between a store that stores at once and others that do what the test says."""

    def __init__(self) -> None:
        self.others = Others()
        self.commits: list[Commit] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.freed: list[tuple[str, int]] = []
        self.clock = ManualClock()
        store: Any = self
        peers: Any = self.others
        self.outbox = ShardOutbox(
            peers, store, self.clock, lambda at, back: self.timers.append((at, back)), lambda *a: self.freed.append(a)
        )

    def submit(self, commit: Commit) -> None:
        self.commits.append(commit)
        commit.done(None)

    def add(self, seq: int, target: int = 1) -> StoredMessage:
        message = message_pb2.Message(agent="Counter", key="k", message_id=f"m-{seq}")
        row = StoredMessage(seq, "shop", message.message_id, "Counter", "k", "add", 3, 0, message.SerializeToString())
        self.outbox.add(target, row)
        return row

    def pass_time(self) -> float:
        """Runs the next timer; how long it took."""
        at, back = self.timers.pop(0)
        waited = at - self.clock.monotonic()
        self.clock.advance(waited)
        back()
        return waited


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_rows_are_handed_over_in_order_and_forgotten_once_the_owner_has_them(rig: Rig) -> None:
    rows = [rig.add(seq) for seq in range(3)]
    assert rig.others.ids == ["m-0", "m-1", "m-2"]
    assert {(number, who.namespace, what) for number, who, what, _, _ in rig.others.told} == {(1, "shop", "send")}
    for _ in rows:
        rig.others.accept()
    assert [commit.drop for commit in rig.commits] == [(0,), (1,), (2,)]
    assert rig.freed == [("shop", len(row.body)) for row in rows]
    assert rig.outbox.waiting == 0


def test_an_engine_that_is_away_holds_up_nobody_else(rig: Rig) -> None:
    for seq in range(1000):
        rig.add(seq, target=1)
    assert len(rig.others.told) == 256
    rig.add(5000, target=2)
    assert rig.others.ids[-1] == "m-5000"
    rig.others.accept(0)
    assert rig.others.ids[-1] == "m-256"


def test_what_fails_for_now_is_said_again_later_and_later(rig: Rig) -> None:
    rig.add(1)
    waits = []
    for _ in range(12):
        rig.others.fail("MAILBOX_FULL", retryable=True)
        assert rig.others.told == []
        waits.append(rig.pass_time())
        assert rig.others.ids == ["m-1"]
    assert waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert waits[-1] == pytest.approx(30.0)
    rig.others.accept()
    assert [commit.drop for commit in rig.commits] == [(1,)]


def test_an_agent_not_hosted_there_yet_is_waited_for(rig: Rig) -> None:
    rig.add(1)
    rig.others.fail("AGENT_UNKNOWN", retryable=False)
    rig.pass_time()
    assert rig.others.ids == ["m-1"]


def test_what_is_refused_for_good_is_a_dead_letter_here(rig: Rig) -> None:
    rig.add(1)
    rig.others.fail("INVALID_INPUT", retryable=False)
    ((seq, state, outcome, _, attempts),) = rig.commits[0].finish
    assert (seq, state, attempts) == (1, MessageState.DEAD, 1)
    assert link_pb2.Reply.FromString(outcome).failure.reason == "INVALID_INPUT"
    assert (rig.outbox.waiting, rig.outbox.dead, rig.freed) == (0, 1, [])


def test_too_many_calls_to_an_engine_are_no_reason_to_lose_one(rig: Rig) -> None:
    rig.others.refusing = AmxError(8, "CALLS_IN_FLIGHT", "too many", retryable=True)
    rig.add(1)
    rig.others.refusing = None
    rig.pass_time()
    assert rig.others.ids == ["m-1"]


def test_an_event_is_published_for_whoever_emitted_it(rig: Rig) -> None:
    event = message_pb2.Event(topic="orders.new", event_id="e-1", durability=common_pb2.DURABILITY_DURABLE)
    emitter = publisher_text(Identity("shop-worker", "shop", ("worker",), ("events:publish",)))
    rig.outbox.add(1, StoredMessage(1, "shop", "e-1@1", EVENTS, "1", emitter, 3, 0, event.SerializeToString()))
    ((_, identity, operation, said, _),) = rig.others.told
    assert (operation, said) == ("publish", event)
    assert (identity.subject, identity.namespace) == ("shop-worker", "shop")
    assert identity.permissions == {"events:publish"}


def test_a_row_that_cannot_be_read_is_a_dead_letter(rig: Rig) -> None:
    rig.outbox.add(1, StoredMessage(1, "shop", "m-1", "Counter", "k", "add", 3, 0, b"\xff\xff"))
    assert rig.commits[0].finish[0][1] == MessageState.DEAD
    assert rig.outbox.waiting == 0
