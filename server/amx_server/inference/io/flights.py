"""One operation under way and everybody who waits for it: `Flight`, `Ticket` (one waiter), `Stream`, `Call`.

A flight's parts are held once, however many read them; a reader is a position. What it takes to perform the
operation is not here, see `dispatching`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from amx_server.core.clock import Clock
from amx_server.core.errors import AmxError
from amx_server.inference.io import errors
from amx_server.inference.io.alarms import Alarm
from amx_server.inference.io.operations import Operation, Response, Waiter
from amx_server.inference.io.waking import Waker

if TYPE_CHECKING:
    from amx_server.inference.io.dispatching import Dispatch

R = TypeVar("R")
P = TypeVar("P")


class FlightBounds:
    """What all flights share: bounds, the waker, who is told of tickets that end, and how many bytes of parts they hold
    together.
    """

    __slots__ = ("buffered", "ended", "max_lag_bytes", "max_response_bytes", "waker", "window_bytes")

    def __init__(
        self,
        max_response_bytes: int,
        max_lag_bytes: int,
        window_bytes: int,
        waker: Waker,
        ended: Callable[[Flight, Ticket], None],
    ) -> None:
        """ended: called for every ticket that ends, after it was taken out."""
        self.ended = ended
        self.max_response_bytes = max_response_bytes
        self.max_lag_bytes = max_lag_bytes
        self.window_bytes = window_bytes
        self.waker = waker
        self.buffered = 0


class Ticket:
    """One waiter of one flight. It ends once: with the flight's outcome, an error of its own, or by leaving."""

    __slots__ = ("alarm", "allowance", "deadline", "error", "flight", "future", "parts", "position", "since", "waiter")

    def __init__(self, flight: Flight, waiter: Waiter, since: float, deadline: float, *, streams: bool) -> None:
        self.flight = flight
        self.waiter = waiter
        self.since = since
        self.deadline = deadline
        self.alarm: Alarm | None = None
        self.error: AmxError | None = None
        self.future: asyncio.Future[None] | None = None
        self.parts: list[Any] = flight.parts
        self.position = 0 if streams else -1  # parts read; -1: wants the whole
        self.allowance = flight.bounds.max_lag_bytes + flight.bytes

    def fail(self, error: AmxError) -> None:
        """Ends this waiter alone."""
        if self.error is None:
            self.error = error
            self.wake()
            self.flight.remove(self)

    def wake(self) -> None:
        """Lets the waiter see what changed."""
        future = self.future
        if future is not None and not future.done():
            self.flight.bounds.waker.wake(future)

    def change(self) -> asyncio.Future[None]:
        """Done after the next `wake`."""
        self.future = asyncio.get_running_loop().create_future()
        return self.future

    def expire(self) -> None:
        """Its deadline has passed: ends it with OPERATION_DEADLINE."""
        flight, dispatch = self.flight, self.flight.dispatch
        doing = dispatch.doing if dispatch is not None else "waiting for others to travel with"
        if flight.outcome is not None:
            doing = "done, but not read to its end"
        operation = flight.operation
        self.fail(errors.deadline(operation.provider, operation.kind, self.deadline - self.since, doing))

    def leave(self) -> None:
        """Does not wait any more. Does nothing if it had ended."""
        self.flight.remove(self)


class Flight:
    """One operation under way, or just landed with readers that have not read everything.

    `outcome` is set once. When the last ticket has gone before that, `abandoned` is called and the flight is over.
    """

    __slots__ = (
        "_checked_bytes",
        "_front",
        "_resume",
        "bounds",
        "bytes",
        "dispatch",
        "ends",
        "operation",
        "outcome",
        "parts",
        "tickets",
        "wholes",
    )

    def __init__(self, operation: Operation[Any, Any], bounds: FlightBounds) -> None:
        self.operation = operation
        self.bounds = bounds
        self.parts: list[Any] = []
        self.ends: list[int] = []  # bytes up to the end of each part
        self.bytes = 0
        self.tickets: dict[Ticket, None] = {}
        self.wholes = 0  # tickets that want the whole
        self.outcome: Response[Any] | AmxError | None = None
        self.dispatch: Dispatch | None = None
        self._front = 0  # parts that the fastest reader has read
        self._resume: asyncio.Future[None] | None = None
        self._checked_bytes = 0

    @property
    def abandoned(self) -> bool:
        """Nobody waits, and it has no outcome."""
        return not self.tickets and self.outcome is None

    def latest_deadline(self) -> float:
        """When the most patient waiter gives up."""
        return max((ticket.deadline for ticket in self.tickets), default=float("-inf"))

    def add(self, ticket: Ticket) -> None:
        """One more waiter."""
        self.tickets[ticket] = None
        if ticket.position < 0:
            self.wholes += 1
            self.resume()

    def remove(self, ticket: Ticket) -> None:
        """One waiter less. Does nothing if it is not there."""
        if ticket not in self.tickets:
            return
        del self.tickets[ticket]
        if ticket.alarm is not None:
            ticket.alarm.cancel()
            ticket.alarm = None
        if ticket.position < 0:
            self.wholes -= 1
        elif ticket.position >= self._front:
            self._front = max((t.position for t in self.tickets), default=0)
        if not self.tickets:
            self._drop_parts()
            self.resume()
        self.bounds.ended(self, ticket)

    def read(self, ticket: Ticket) -> None:
        """`ticket` has taken a part."""
        if ticket.position > self._front and ticket.parts is self.parts:
            self._front = ticket.position
            self.resume()

    async def emit(self, part: Any, size: int) -> None:
        """Adds a part for every reader. Waits while even the fastest is more than the window behind.

        Raises AmxError RESPONSE_TOO_LARGE. Does nothing when nobody waits any more.
        """
        if not self.tickets or self.outcome is not None:
            return
        bounds = self.bounds
        if self.bytes + size > bounds.max_response_bytes:
            raise errors.too_large(self.operation.provider, bounds.max_response_bytes)
        self.parts.append(part)
        self.bytes += size
        self.ends.append(self.bytes)
        bounds.buffered += size
        for ticket in self.tickets:
            if ticket.position >= 0:
                ticket.wake()
        if self.bytes - self._checked_bytes > bounds.max_lag_bytes // 8:
            self._leave_behind_who_lags()
        while not self.wholes and self.tickets and self._unread(self._front) > bounds.window_bytes:
            self._resume = asyncio.get_running_loop().create_future()
            try:
                await self._resume
            finally:
                self._resume = None

    def resume(self) -> None:
        """Something happened that `emit` may be waiting for."""
        if self._resume is not None and not self._resume.done():
            self._resume.set_result(None)

    def restart(self, cause: AmxError) -> bool:
        """Takes back all parts for another attempt. Who has read any of them ends with STREAM_INTERRUPTED after those
        that came; nobody ever sees parts of two attempts. Returns whether anybody still waits.
        """
        for ticket in [ticket for ticket in self.tickets if ticket.position > 0]:
            ticket.fail(errors.interrupted(self.operation.provider, cause.message))
        self._drop_parts()
        self.parts, self.ends = [], []
        self.bytes = self._front = self._checked_bytes = 0
        for ticket in self.tickets:
            ticket.parts = self.parts
        return bool(self.tickets)

    def land(self, outcome: Response[Any] | AmxError) -> None:
        """The operation has ended. Whoever wants the whole has it; readers go on to the end of the parts."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        for ticket in list(self.tickets):
            ticket.wake()
            if ticket.position < 0:
                self.remove(ticket)

    def _unread(self, position: int) -> int:
        return self.bytes - (self.ends[position - 1] if position else 0)

    def _drop_parts(self) -> None:
        self.bounds.buffered -= self.bytes
        self.bytes = 0

    def _leave_behind_who_lags(self) -> None:
        self._checked_bytes = self.bytes
        for ticket in list(self.tickets):
            if ticket.position >= 0 and (behind := self._unread(ticket.position)) > ticket.allowance:
                ticket.fail(errors.lagging(self.operation.provider, behind))


class Stream(Generic[R, P]):
    """The parts of an answer as they come: `async with io.stream(…) as stream: async for part in stream: …`.

    Parts that came before are given first, without waiting. `result` holds the whole answer after the last part.
    Leaving the block early stops waiting; the operation itself is cancelled when nobody else waits for it.
    Iterating raises AmxError when the operation failed, after the parts that came.
    """

    __slots__ = ("_result", "_ticket", "_whole")

    def __init__(self, ticket: Ticket | None, parts: Sequence[P] = (), result: Response[R] | None = None) -> None:
        """ticket: of a flight; None: the answer is there, as `parts` and `result`."""
        self._ticket = ticket
        self._whole = iter(parts)
        self._result = result

    @property
    def result(self) -> R:
        """The whole answer. Raises RuntimeError before the last part was read."""
        result = self._result
        if result is None:
            ticket = self._ticket
            outcome = ticket.flight.outcome if ticket is not None else None
            if ticket is None or not isinstance(outcome, Response) or ticket.position < len(ticket.parts):
                raise RuntimeError("a stream has its result after its last part; read it to the end first")
            result = outcome
        return result.value

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops waiting. What was read stays read."""
        if self._ticket is not None:
            self._ticket.leave()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> P:
        ticket = self._ticket
        if ticket is None:
            for part in self._whole:
                return part
            raise StopAsyncIteration
        while True:
            if ticket.position < len(ticket.parts):
                part = cast("P", ticket.parts[ticket.position])
                ticket.position += 1
                ticket.flight.read(ticket)
                return part
            if ticket.error is not None:
                raise ticket.error
            outcome = ticket.flight.outcome
            if outcome is not None:
                ticket.leave()
                if isinstance(outcome, AmxError):
                    raise errors.again(outcome)
                raise StopAsyncIteration
            if ticket not in ticket.flight.tickets:
                raise StopAsyncIteration  # it was closed
            try:
                await ticket.change()
            except asyncio.CancelledError:
                ticket.leave()
                raise


class Call:
    """What a provider gets: the operation, and where parts of its answer go. One for each attempt."""

    __slots__ = ("_clock", "attempt", "first_sign_at", "flight", "operation")

    def __init__(self, flight: Flight, attempt: int, clock: Clock) -> None:
        self.flight = flight
        self._clock = clock
        self.operation: Operation[Any, Any] = flight.operation
        self.attempt = attempt  # from 1
        self.first_sign_at: float | None = None

    @property
    def max_response_bytes(self) -> int:
        """What the answer may be large."""
        return self.flight.bounds.max_response_bytes

    def progress(self) -> None:
        """The provider has begun to answer. Latency is counted to here, because answers differ in length."""
        if self.first_sign_at is None:
            self.first_sign_at = self._clock.monotonic()

    async def emit(self, part: Any, size: int) -> None:
        """Gives a part of `size` bytes to everybody who waits, and waits itself while all of them are slow.

        Raises AmxError RESPONSE_TOO_LARGE when all parts together are too large: let it through.
        """
        if self.first_sign_at is None:
            self.first_sign_at = self._clock.monotonic()
        await self.flight.emit(part, size)
