"""One end of a link as the runner plays it, the engine's or the SDK's: numbers and acknowledges frames, answers pings,
keeps what came until a step expects it. Needs the standard library and protobuf only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from amx.v1 import link_pb2
from conformance.runner import json_text
from conformance.runner.matchers import Bindings, Mismatch, match, matches, text
from conformance.runner.messages import Obj, decode, shown

_ACK_EVERY = 32
_PING_ROUNDS = 3  # pings answered before it is believed that nothing comes
_PING_NONCE = 1 << 40  # of the runner's own pings
_TRACE_LENGTH = 1500  # characters of one frame in a trace
_TRACE_LINES = 400


class CaseFailure(Exception):
    """The subject does not do what the case says."""


class Broken(Exception):
    """The testee, the engine or the runner itself broke down: nothing is known about the case."""


class WireClosed(Exception):
    """The connection has ended; `reason` as far as it is known."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Wire(Protocol):
    """A connection that carries frames. One reader, one writer."""

    async def send(self, frame: link_pb2.LinkFrame) -> None:
        """Sends a frame. Raises WireClosed."""

    async def send_raw(self, data: bytes) -> None:
        """Sends bytes in place of a frame. Raises WireClosed."""

    async def receive(self) -> link_pb2.LinkFrame:
        """The next frame. Raises WireClosed when there will be none."""

    async def close(self, reason: str) -> None:
        """Ends the connection, without a goodbye."""


class Trace:
    """What was exchanged, for whoever reads a failure."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_TRACE_LINES)
        self._count = 0

    def add(self, line: str) -> None:
        """Adds a line; of too many the first are forgotten."""
        self._count += 1
        if len(line) > _TRACE_LENGTH:
            line = f"{line[:_TRACE_LENGTH]}… ({len(line)} characters)"
        self._lines.append(line)

    def frame(self, arrow: str, frame: link_pb2.LinkFrame) -> None:
        """Adds a frame. arrow: who says it to whom."""
        self.add(f"{arrow} {json_text.dump(shown(_brief(decode(frame))))}")

    def clear(self) -> None:
        """Forgets everything."""
        self._lines.clear()
        self._count = 0

    def lines(self) -> list[str]:
        """The lines that are kept."""
        left_out = self._count - len(self._lines)
        return [*([f"({left_out} earlier lines left out)"] if left_out else []), *self._lines]


def _brief(frame: Obj) -> dict[str, Any]:
    """The frame without the definitions of agents, which are long and the same every time."""
    items = []
    for item in frame.get("items", ()):
        if "hello" in item and "agents" in item["hello"]:
            agents = [f"{agent.get('name')} {agent.get('version')}, …" for agent in item["hello"]["agents"]]
            item = {**item, "hello": {**item["hello"], "agents": agents}}
        items.append(item)
    return {**frame, "items": items} if items else dict(frame)


class _Received:
    """A frame that came, and which of its items no step has taken yet."""

    __slots__ = ("frame", "items")

    def __init__(self, frame: link_pb2.LinkFrame, items: deque[link_pb2.LinkItem]) -> None:
        self.frame = frame
        self.items = items


def kind_of(item: link_pb2.LinkItem) -> str:
    """The name of what an item says; empty if it says nothing that is known."""
    return item.WhichOneof("item") or ""


class Peer:
    """name: of the other side, in messages and traces."""

    def __init__(self, name: str, trace: Trace, bindings: Bindings, *, answer_pings: bool = True) -> None:
        self.name = name
        self.trace = trace
        self.bindings = bindings
        self.answer_pings = answer_pings
        self.wire: Wire | None = None
        self.sent_seq = 0
        self.received_seq = 0
        self.closed: str | None = None
        """Why the last connection ended; None while there is one."""
        self.violation = ""
        """What the other side did that no case needs to forbid; empty: nothing."""
        self.broken = ""
        """Why nothing more can be said about the other side; empty: it works."""
        self._acked = 0
        self._nonce = _PING_NONCE
        self._received: deque[_Received] = deque()
        self._news = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()

    # --- connections -------------------------------------------------------------------------------------------------

    def attach(self, wire: Wire) -> None:
        """Goes on with this connection. What came over the last one and was not expected is forgotten."""
        self.wire = wire
        self.closed = None
        self._received.clear()
        self._reader = asyncio.create_task(self._read(wire), name=f"read {self.name}")

    async def disconnect(self, reason: str = "") -> None:
        """Loses the connection."""
        wire, self.wire = self.wire, None
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
            self._reader = None
        if wire is not None:
            self.trace.add(f"-- connection of {self.name} lost")
            await wire.close(reason)
        if self.closed is None:
            self.closed = reason

    async def abandon(self) -> None:
        """Stops listening, whatever goes on."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])

    async def _read(self, wire: Wire) -> None:
        try:
            while True:
                frame = await wire.receive()
                self.trace.frame(f"{self.name} →", frame)
                await self._arrived(frame)
        except WireClosed as closed:
            self.trace.add(f"-- connection closed by {self.name}: {closed.reason or 'no reason given'}")
            self.closed = closed.reason
        except DecodeError as error:
            self._violated(f"{self.name} sent bytes that are not a LinkFrame: {error}")
        except Broken as error:
            self.broken = str(error)
        except CaseFailure as error:
            self._violated(str(error))
        finally:
            self._news.set()

    async def _arrived(self, frame: link_pb2.LinkFrame) -> None:
        if frame.seq:
            if frame.seq <= self.received_seq:
                return  # repeated after a resume
            if frame.seq != self.received_seq + 1:
                self._violated(f"{self.name} sent frame {frame.seq} after frame {self.received_seq}")
            self.received_seq = frame.seq
            self.came(frame)
        elif any(kind_of(item) not in ("hello", "welcome", "rejected") for item in frame.items):
            self._violated(f"{self.name} sent a frame with items and without a number")
        if frame.ack > self.sent_seq:
            self._violated(f"{self.name} acknowledged frame {frame.ack}, {self.sent_seq} was the last one sent")
        kept: deque[link_pb2.LinkItem] = deque()
        pongs = []
        for item in frame.items:
            kind = kind_of(item)
            if kind == "ping" and self.answer_pings:
                pongs.append(link_pb2.LinkItem(pong=link_pb2.Pong(nonce=item.ping.nonce)))
                continue
            kept.append(item)
            self.took(kind, item)
        if kept or not frame.items or not self.answer_pings:
            self._received.append(_Received(frame, kept))
        self._news.set()
        if pongs:
            await self.send_items(pongs, quiet=True)
        elif self.received_seq - self._acked >= _ACK_EVERY:
            await self._send(link_pb2.LinkFrame(ack=self.received_seq))

    def _violated(self, what: str) -> None:
        self.violation = self.violation or what
        self._news.set()

    def came(self, frame: link_pb2.LinkFrame) -> None:
        """A frame with the next number came; `took` follows for its items."""

    def took(self, kind: str, item: link_pb2.LinkItem) -> None:
        """An item came, whether a step expects it or not."""

    def said(self, kind: str, item: link_pb2.LinkItem) -> None:
        """An item is about to be sent."""

    # --- sending -----------------------------------------------------------------------------------------------------

    async def send_items(self, items: Iterable[link_pb2.LinkItem], *, quiet: bool = False) -> None:
        """One frame with these items, numbered. quiet: passes over a connection that is gone."""
        frame = link_pb2.LinkFrame(items=items)
        try:
            await self.send_frame(frame, number=True)
        except CaseFailure:
            if not quiet:
                raise

    async def send_frame(self, frame: link_pb2.LinkFrame, *, number: bool = False) -> None:
        """One frame as it is, or with `seq` and `ack` filled in."""
        async with self._sending:
            for item in frame.items:
                self.said(kind_of(item), item)
            if number:
                frame.ack = self.received_seq
                if not any(kind_of(item) in ("hello", "welcome", "rejected") for item in frame.items):
                    frame.seq = self.sent_seq + 1
            if frame.seq == self.sent_seq + 1:
                self.sent_seq = frame.seq
                self.numbered(frame)
            await self._send(frame)

    def numbered(self, frame: link_pb2.LinkFrame) -> None:
        """A frame with the next number is about to be sent."""

    async def send_raw(self, data: bytes) -> None:
        """Bytes in place of a frame. If they are a frame with the next number they count as one."""
        self.trace.add(f"→ {self.name} {len(data)} raw bytes {text(data)}")
        try:
            frame = link_pb2.LinkFrame.FromString(data)
        except DecodeError:
            frame = link_pb2.LinkFrame()
        if frame.seq == self.sent_seq + 1:
            self.sent_seq = frame.seq
            self.numbered(frame)
            for item in frame.items:
                self.said(kind_of(item), item)
        wire = self._connected()
        try:
            await wire.send_raw(data)
        except WireClosed as closed:
            raise CaseFailure(self._gone(closed.reason)) from None

    async def _send(self, frame: link_pb2.LinkFrame) -> None:
        self._acked = max(self._acked, frame.ack)
        wire = self._connected()
        self.trace.frame(f"→ {self.name}", frame)
        try:
            await wire.send(frame)
        except WireClosed as closed:
            raise CaseFailure(self._gone(closed.reason)) from None

    def _connected(self) -> Wire:
        if self.wire is None or self.closed is not None:
            raise CaseFailure(self._gone(self.closed or ""))
        return self.wire

    def _gone(self, reason: str) -> str:
        return f"there is no connection with {self.name}" + (f": {reason}" if reason else "")

    # --- expecting ---------------------------------------------------------------------------------------------------

    async def wait(self, within: float, what: str) -> None:
        """Returns when something new came. Raises CaseFailure if nothing does, or something that must not; Broken."""
        self._check()
        if self.closed is not None:
            raise CaseFailure(f"expected {what}, but {self._gone(self.closed)}")
        self._news.clear()
        try:
            async with asyncio.timeout(max(within, 0)):
                await self._news.wait()
        except TimeoutError:
            raise CaseFailure(f"expected {what}; nothing came in time") from None
        self._check()

    def _check(self) -> None:
        if self.broken:
            raise Broken(self.broken)
        if self.violation:
            raise CaseFailure(self.violation)

    async def next_item(self, until: float, what: str) -> link_pb2.LinkItem:
        """The next item that came; waits for it until that second of the loop's clock."""
        while True:
            while self._received:
                first = self._received[0]
                if first.items:
                    item = first.items.popleft()
                    if not first.items:
                        self._received.popleft()
                    self._check()
                    return item
                self._received.popleft()
            await self.wait(until - _now(), what)

    async def expect(self, matcher: Any, within: float, past: Any = None) -> None:
        """The next item matches; items that match `past` and not `matcher` are passed over."""
        until = _now() + within
        what = f"an item like {text(matcher)}"
        while True:
            found = decode(await self.next_item(until, what))
            if past is not None and self._passes(past, found) and not self._passes(matcher, found):
                continue
            self._match(matcher, found, "item")
            return

    def _passes(self, matcher: Any, found: Any) -> bool:
        return matches(matcher, found, dict(self.bindings))

    async def expect_unordered(self, matchers: list[Any], within: float) -> None:
        """As many items as there are matchers come next, in any order."""
        until = _now() + within
        found: list[Any] = []
        what = f"{len(matchers)} items like {text(matchers)}"
        while len(found) < len(matchers):
            try:
                found.append(decode(await self.next_item(until, what)))
            except CaseFailure as failure:
                raise CaseFailure(f"{failure}; there were {text(found)}") from None
        self._match({"$unordered": matchers}, found, "items")

    async def expect_frame(self, matcher: Any, within: float) -> None:
        """The next frame matches. One without items is passed over where items are expected."""
        until = _now() + within
        while True:
            if not self._received:
                await self.wait(until - _now(), f"a frame like {text(matcher)}")
                continue
            first = self._received.popleft()
            if len(first.items) != len(first.frame.items):
                rest = [decode(item) for item in first.items]
                raise CaseFailure(f"expected a new frame, but of the last one nobody expected {text(rest)}")
            if not first.frame.items and isinstance(matcher, dict) and (matcher.get("items") or matcher.get("seq")):
                continue
            self._match(matcher, decode(first.frame), "")
            return

    async def expect_nothing(self, within: float) -> None:
        """Nothing precedes the answer to a ping."""
        until = _now() + within
        for _ in range(_PING_ROUNDS):
            self._nonce += 1
            nonce = self._nonce
            await self.send_items([link_pb2.LinkItem(ping=link_pb2.Ping(nonce=nonce))])
            while True:
                item = await self.next_item(until, "the answer to a ping")
                if kind_of(item) == "pong":
                    if item.pong.nonce == nonce:
                        break
                elif kind_of(item) != "ping":
                    raise CaseFailure(f"expected nothing, got {text(decode(item))}")

    async def ping(self, within: float) -> None:
        """Returns when the other side has taken everything that was sent before."""
        self._nonce += 1
        nonce = self._nonce
        await self.send_items([link_pb2.LinkItem(ping=link_pb2.Ping(nonce=nonce))])
        until = _now() + within
        while not self._take_pong(nonce):
            await self.wait(until - _now(), "the answer to a ping")

    def _take_pong(self, nonce: int) -> bool:
        for received in self._received:
            for item in received.items:
                if kind_of(item) == "pong" and item.pong.nonce == nonce:
                    received.items.remove(item)
                    if not received.items:
                        self._received.remove(received)
                    return True
        return False

    async def expect_closed(self, matcher: Any, within: float) -> None:
        """The other side ends the connection."""
        until = _now() + within
        while self.closed is None:
            self._check()
            self._news.clear()
            try:
                async with asyncio.timeout(max(until - _now(), 0)):
                    await self._news.wait()
            except TimeoutError:
                raise CaseFailure(f"expected {self.name} to end the connection; it did not in time") from None
        if matcher is not None:
            self._match(matcher, self.closed, "reason")

    def unexpected(self) -> list[link_pb2.LinkItem]:
        """Items that came and that no step has taken."""
        return [item for received in self._received for item in received.items]

    def take(self, item: link_pb2.LinkItem) -> None:
        """Takes one of the `unexpected` items."""
        for received in self._received:
            for index, one in enumerate(received.items):
                if one is item:
                    del received.items[index]
                    if not received.items:
                        self._received.remove(received)
                    return

    def _match(self, matcher: Any, found: Any, where: str) -> None:
        try:
            match(matcher, found, where, self.bindings)
        except Mismatch as mismatch:
            raise CaseFailure(f"{mismatch}\n  in {text(found)}") from None


def _now() -> float:
    return asyncio.get_running_loop().time()
