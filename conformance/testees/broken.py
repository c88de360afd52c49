"""Testees that are wrong on purpose: the Python one with one fault each. They prove that the suite bites.

`python -m conformance.testees.broken --break dropped-cancel --stdio`. What each fault is, is said where it is made.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from amx.v1 import common_pb2, link_pb2
from amx_engine import _memory, _protocol, _runner, _runs
from amx_engine._protocol import LinkProtocol

Frame = link_pb2.LinkFrame
Change = Callable[[Frame], None]

FAULTS: dict[str, Callable[[], None]] = {}
"""By name; calling one breaks the SDK of this process for good."""


def fault(function: Callable[[], None]) -> Callable[[], None]:
    """A fault, named like the function."""
    FAULTS[function.__name__.replace("_", "-")] = function
    return function


def outgoing(change: Change) -> Callable[[], None]:
    """A fault that changes what is said. After the change a frame is sent even if nothing is left in it."""

    def install() -> None:
        def changed(data: bytes | None) -> bytes | None:
            if data is None:
                return None
            frame = Frame.FromString(data)
            change(frame)
            return frame.SerializeToString()

        next_frame, hello = LinkProtocol.next_frame, LinkProtocol.hello
        LinkProtocol.next_frame = lambda self: changed(next_frame(self))  # type: ignore[method-assign]
        LinkProtocol.hello = lambda self: changed(hello(self)) or b""  # type: ignore[method-assign]

    FAULTS[change.__name__.replace("_", "-")] = install
    return install


def incoming(change: Change) -> Callable[[], None]:
    """A fault that changes what is heard."""

    def install() -> None:
        receive = LinkProtocol.receive

        def changed(self: LinkProtocol, data: bytes) -> None:
            frame = Frame.FromString(data)
            change(frame)
            receive(self, frame.SerializeToString())

        LinkProtocol.receive = changed  # type: ignore[method-assign]

    FAULTS[change.__name__.replace("_", "-")] = install
    return install


def _keep(frame: Frame, wanted: Callable[[link_pb2.LinkItem], bool]) -> None:
    kept = [item for item in frame.items if wanted(item)]
    del frame.items[:]
    frame.items.extend(kept)


def _completes(frame: Frame) -> Iterator[link_pb2.Complete]:
    return (item.complete for item in frame.items if item.HasField("complete"))


def _failures(frame: Frame) -> Iterator[common_pb2.Failure]:
    return (complete.failure for complete in _completes(frame) if complete.HasField("failure"))


# Failures


@outgoing
def wrong_code(frame: Frame) -> None:
    """Every failure of a handler is INTERNAL."""
    for failure in _failures(frame):
        failure.code = 13


@outgoing
def wrong_reason(frame: Frame) -> None:
    """A handler's own reason is lost."""
    for failure in _failures(frame):
        failure.reason = "HANDLER_FAILED"


@outgoing
def swallowed_error(frame: Frame) -> None:
    """A failed handler has returned nothing."""
    for complete in _completes(frame):
        if complete.HasField("failure"):
            complete.result.SetInParent()


@outgoing
def lost_cause(frame: Frame) -> None:
    """What caused a failure stays at home."""
    for failure in _failures(frame):
        failure.ClearField("cause")


@outgoing
def lost_metadata(frame: Frame) -> None:
    """The facts of a failure stay at home."""
    for failure in _failures(frame):
        failure.metadata.clear()


@outgoing
def never_retryable(frame: Frame) -> None:
    """No failure says that it may pass."""
    for failure in _failures(frame):
        failure.retryable = False


# Invocations


@outgoing
def wrong_epoch(frame: Frame) -> None:
    """Outcomes are those of another placement."""
    for complete in _completes(frame):
        complete.epoch += 1


@outgoing
def wrong_attempt(frame: Frame) -> None:
    """Outcomes are those of the first attempt."""
    for complete in _completes(frame):
        complete.attempt = 1


@outgoing
def double_completion(frame: Frame) -> None:
    """Every outcome is said twice."""
    items = list(frame.items)
    del frame.items[:]
    for item in items:
        frame.items.append(item)
        if item.HasField("complete"):
            frame.items.append(item)


@outgoing
def lost_completion(frame: Frame) -> None:
    """Outcomes without a value are not said."""
    _keep(
        frame,
        lambda item: (
            not (item.HasField("complete") and item.complete.HasField("result")) or bool(item.complete.result.data)
        ),
    )


@incoming
def dropped_cancel(frame: Frame) -> None:
    """Nobody is cancelled."""
    _keep(frame, lambda item: not item.HasField("cancel"))


@incoming
def no_deadlines(frame: Frame) -> None:
    """Handlers have all the time there is."""
    for item in frame.items:
        if item.HasField("invoke"):
            item.invoke.timeout_ms = 0


@outgoing
def lost_effects(frame: Frame) -> None:
    """What a handler staged is forgotten."""
    for complete in _completes(frame):
        for field in ("messages", "events", "schedules", "cancelled_schedules"):
            complete.effects.ClearField(field)


@outgoing
def lost_headers(frame: Frame) -> None:
    """Calls and staged messages have no headers."""
    for message in _messages(frame):
        message.headers.clear()


@outgoing
def lost_trace(frame: Frame) -> None:
    """Calls do not say on whose behalf they are made."""
    for message in _messages(frame):
        message.traceparent = ""


def _messages(frame: Frame) -> Iterator[Any]:
    for item in frame.items:
        if item.HasField("call"):
            operation = item.call.WhichOneof("operation")
            if operation in ("send", "request", "stream"):
                yield getattr(item.call, operation)
        elif item.HasField("complete"):
            yield from item.complete.effects.messages


# Values


def _rewrite(frame: Frame, change: Callable[[Any], Any]) -> None:
    for item in frame.items:
        if item.HasField("invoke") and item.invoke.message.payload.data:
            payload = item.invoke.message.payload
            try:
                payload.data = json.dumps(change(json.loads(payload.data))).encode()
            except ValueError:
                continue


@incoming
def careless_json(frame: Frame) -> None:
    """JSON is read as most libraries do: of a key that comes twice the last counts."""
    _rewrite(frame, lambda value: value)


@incoming
def sorted_keys(frame: Frame) -> None:
    """Objects do not keep the order of their keys."""
    _rewrite(frame, lambda value: dict(sorted(value.items())) if isinstance(value, dict) else value)


@incoming
def null_is_absent(frame: Frame) -> None:
    """A field that is null is taken for one that is not there."""
    _rewrite(
        frame,
        lambda value: {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value,
    )


# Streams and flow


@outgoing
def reordered_chunks(frame: Frame) -> None:
    """Of the chunks that are ready, the last goes first."""
    places = [index for index, item in enumerate(frame.items) if item.HasField("chunk")]
    chunks = [link_pb2.LinkItem.FromString(frame.items[index].SerializeToString()) for index in places]
    for index, chunk in zip(places, reversed(chunks), strict=True):
        frame.items[index].CopyFrom(chunk)


@fault
def forgotten_window() -> None:
    """Streams do not wait for their reader."""
    _runs.Invocation.window = 1 << 30


@outgoing
def forgotten_credit(frame: Frame) -> None:
    """The window of invocations is not the one that was asked for."""
    for item in frame.items:
        if item.HasField("hello"):
            item.hello.credit = 4096


# Memory


@fault
def lost_rollback() -> None:
    """A failed handler's changes stay in the copy held here."""

    def rollback(self: Any) -> bool:
        version = self.version
        self.collect(link_pb2.Effects())
        self.version = version
        return True

    _memory.InstanceMemory.rollback = rollback  # type: ignore[method-assign]


@incoming
def ignored_memory(frame: Frame) -> None:
    """What an Invoke brings of memory is not looked at."""
    for item in frame.items:
        if item.HasField("invoke") and item.invoke.HasField("memory"):
            del item.invoke.memory.memories[:]


@outgoing
def lost_memory_changes(frame: Frame) -> None:
    """Only the first change to memory is said."""
    for complete in _completes(frame):
        del complete.effects.memory[1:]


@incoming
def endless_lifetimes(frame: Frame) -> None:
    """Entries that expire never do."""
    for item in frame.items:
        for image in item.invoke.memory.memories if item.HasField("invoke") else ():
            for entry in image.entries:
                entry.expires_in_ms = 0


# The link


@outgoing
def no_pong(frame: Frame) -> None:
    """Pings go unanswered."""
    _keep(frame, lambda item: not item.HasField("pong"))


@fault
def no_pong_while_blocking() -> None:
    """Plain handlers run where pings are answered."""

    async def in_place(self: _runner.Runner, run: _runs.Run, arguments: tuple[Any, ...]) -> Any:
        return run.handler.function(run.activation.instance, *arguments)

    _runner.Runner._in_thread = in_place  # type: ignore[method-assign]


@incoming
def ignored_unknown_item(frame: Frame) -> None:
    """An item of an unknown kind is passed over in silence."""
    _keep(frame, lambda item: item.WhichOneof("item") is not None)


@fault
def link_ends_at_unknown_item() -> None:
    """An item of an unknown kind ends the link."""

    def refuse(self: LinkProtocol, item: link_pb2.LinkItem) -> None:
        raise _protocol.ProtocolViolation(f"what is item {item.id}?")

    LinkProtocol._on_unknown = refuse  # type: ignore[method-assign]


@outgoing
def forgotten_acknowledgement(frame: Frame) -> None:
    """Nothing is ever acknowledged."""
    frame.ack = 0


@outgoing
def gap_in_numbers(frame: Frame) -> None:
    """From the third frame on a number is left out."""
    if frame.seq >= 3:
        frame.seq += 1


@fault
def repeats_taken_again() -> None:
    """Frames that were seen before are taken as new ones."""
    receive = LinkProtocol.receive

    def forgetful(self: LinkProtocol, data: bytes) -> None:
        seq = Frame.FromString(data).seq
        if seq and self.open:
            self._received_seq = min(self._received_seq, seq - 1)
        receive(self, data)

    LinkProtocol.receive = forgetful  # type: ignore[method-assign]


@outgoing
def forgotten_token(frame: Frame) -> None:
    """A lost link is never taken up again."""
    for item in frame.items:
        if item.HasField("hello"):
            item.hello.resume_token = ""


@fault
def nothing_repeated() -> None:
    """After a resume, frames that the engine does not have are not sent again."""
    welcome = LinkProtocol._on_welcome

    def on_welcome(self: LinkProtocol, item: link_pb2.LinkItem) -> None:
        welcome(self, item)
        self._replay.clear()

    LinkProtocol._on_welcome = on_welcome  # type: ignore[method-assign]


@outgoing
def no_drain(frame: Frame) -> None:
    """A polite stop is a sudden one for the engine."""
    _keep(frame, lambda item: not item.HasField("drain"))


@fault
def hasty_drained() -> None:
    """The last word is said while handlers still run."""

    async def at_once(self: _runner.Runner) -> None:
        return

    _runner.Runner.wait_empty = at_once  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m conformance.testees.broken", description=__doc__, add_help=False)
    parser.add_argument("--break", dest="fault", required=True, choices=sorted(FAULTS))
    given, rest = parser.parse_known_args()
    FAULTS[given.fault]()
    sys.argv[1:] = rest
    from conformance.testees.python.__main__ import main as testee

    testee()


if __name__ == "__main__":
    main()
