"""The I/O manager: everything that agents ask of the world outside the engine goes through here, once.

Shares what is identical, remembers answers, and accounts for who waits. How an operation gets done is in
`dispatching`; how one answer reaches many is in `flights`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from contextvars import copy_context
from dataclasses import asdict, dataclass
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, TypeVar, cast

from amx_server.core.clock import Clock, SystemClock
from amx_server.core.errors import AmxError
from amx_server.inference.io import errors
from amx_server.inference.io.accounting import CacheStats, IoStats, ProviderStats, Wait, WaitObserver
from amx_server.inference.io.alarms import Alarms
from amx_server.inference.io.batching import Batcher
from amx_server.inference.io.cache import CachedAnswer, ResponseCache
from amx_server.inference.io.dispatching import Dispatch, ProviderState
from amx_server.inference.io.flights import Flight, FlightBounds, Stream, Ticket
from amx_server.inference.io.operations import NOBODY, Operation, Response, Waiter, WaitReason
from amx_server.inference.io.providers import Provider, ProviderPolicy
from amx_server.inference.io.waking import Waker
from amx_server.telemetry.logs import get_logger
from amx_server.telemetry.metrics import DurationHistogram

log = get_logger(__name__)

R = TypeVar("R")
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class IoConfig:
    """Bounds of the I/O manager. Sizes in bytes, times in seconds.

    default_timeout: for callers that name none. cache_bytes: 0: nothing is remembered.
    max_waiters: callers that may wait at a time. max_response_bytes: one answer, all its parts together.
    max_buffered_bytes: parts of all streams under way; beyond it no new operation begins.
    stream_window_bytes: what is read ahead of the fastest reader of a stream. max_lag_bytes: what a reader may be
    behind when others are faster, before it is left behind.
    """

    default_timeout: float = 120.0
    cache_bytes: int = 64 << 20
    cache_entries: int = 100_000
    max_waiters: int = 100_000
    max_response_bytes: int = 32 << 20
    max_buffered_bytes: int = 256 << 20
    stream_window_bytes: int = 256 << 10
    max_lag_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if self.stream_window_bytes > self.max_lag_bytes:
            raise ValueError(
                "stream_window_bytes may not be more than max_lag_bytes: a lone reader would be left behind"
            )
        if self.default_timeout <= 0:
            raise ValueError("default_timeout is more than 0")


class _Registered:
    """A provider in use."""

    __slots__ = ("batcher", "stack", "state")

    def __init__(self, state: ProviderState, batcher: Batcher, stack: AsyncExitStack) -> None:
        self.state = state
        self.batcher = batcher
        self.stack = stack


class IoManager:
    """`async with IoManager() as io: await io.add(provider); answer = await io.call(operation, waiter)`.

    For one operation (provider and key), at any time at most one request is under way, whoever asks; within its ttl
    after a success, none. Leaving the block cancels what is under way; its waiters end with IO_CLOSED.
    """

    def __init__(
        self,
        config: IoConfig | None = None,
        clock: Clock | None = None,
        *,
        observer: WaitObserver | None = None,
        random: Callable[[], float] | None = None,
        ticking: bool = True,
    ) -> None:
        """random: uniform in [0, 1), for the spread of repeats. ticking: False with a manual clock: time passes only in
        `tick`.
        """
        self.config = config or IoConfig()
        self._clock: Clock = clock or SystemClock()
        self._observer = observer
        self._random = random or Random().random
        self._alarms = Alarms(self._clock, ticking=ticking)
        self._cache = ResponseCache(self.config.cache_bytes, self.config.cache_entries)
        self._providers: dict[str, _Registered] = {}
        self._flights: dict[tuple[str, bytes], Flight] = {}  # those that can be joined
        self._ending: dict[tuple[str, bytes], set[asyncio.Task[None]]] = {}  # abandoned, not yet over
        self._tasks: set[asyncio.Task[None]] = set()
        self._over_with = self._tasks.discard  # one for all tasks: each would keep one of its own
        self._tickets: dict[Ticket, Wait | None] = {}
        self._waiting: dict[WaitReason, int] = dict.fromkeys(WaitReason, 0)
        self._operations = self._coalesced = self._cancelled = 0
        self._unlanded = 0
        self._background_share = 1.0
        self._failures: Counter[str] = Counter()
        self._open = False
        self._context = copy_context()
        self._bounds: FlightBounds | None = None

    # --- lifetime ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> IoManager:
        config = self.config
        self._bounds = FlightBounds(
            config.max_response_bytes, config.max_lag_bytes, config.stream_window_bytes, Waker(), self._ticket_ended
        )
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        for ticket in list(self._tickets):
            ticket.fail(errors.closed())
        await self._tasks_ended(set(self._tasks))
        async with AsyncExitStack() as stack:
            for registered in self._providers.values():
                registered.state.gate.close()
                registered.batcher.close()
                stack.push_async_exit(registered.stack)
            self._providers.clear()
            self._alarms.close()
            self._cache.clear()

    async def add(self, provider: Provider, policy: ProviderPolicy | None = None) -> None:
        """Takes a provider into use and enters it. Raises ValueError if its name is taken, and what entering raises."""
        if not self._open:
            raise errors.closed()
        name = provider.name
        if name in self._providers:
            raise ValueError(f"a provider '{name}' is registered already; remove it first")
        stack = AsyncExitStack()
        await stack.enter_async_context(provider)
        state = ProviderState(
            provider, policy or ProviderPolicy(), self._clock, self._alarms, self._random, self._landed
        )
        state.gate.throttle(self._background_share)
        ready = partial(self._dispatch, state)
        batcher = Batcher(state.policy.batch, self._clock, self._alarms, ready)
        self._providers[name] = _Registered(state, batcher, stack)

    def throttle(self, background_share: float) -> None:
        """Slows background operations: at each provider they begin only while less than this part of its limit is in
        use. 1: they are not slowed. Takes effect at once; what is under way goes on.
        """
        self._background_share = background_share
        for registered in self._providers.values():
            registered.state.gate.throttle(background_share)

    async def remove(self, name: str) -> None:
        """Takes a provider out of use: what waits for it ends with PROVIDER_REMOVED, its answers are forgotten."""
        registered = self._providers.pop(name, None)
        if registered is None:
            raise errors.unknown_provider(name, sorted(self._providers))
        tickets = [ticket for ticket in self._tickets if ticket.flight.operation.provider == name]
        tasks = {
            ticket.flight.dispatch.task
            for ticket in tickets
            if ticket.flight.dispatch is not None and ticket.flight.dispatch.task is not None
        }
        for ticket in tickets:
            ticket.fail(errors.provider_removed(name))
        self._cache.forget(name)
        await self._tasks_ended(tasks)
        registered.state.gate.close()
        registered.batcher.close()
        await registered.stack.aclose()

    def provider(self, name: str) -> Provider:
        """The provider of that name. Raises AmxError PROVIDER_UNKNOWN."""
        return self._registered(name).state.provider

    async def drain(self, seconds: float) -> bool:
        """Waits until nothing is under way, at most so long. Returns whether that is so. New operations are taken."""
        end = self._clock.monotonic() + seconds
        while self._tasks and (left := end - self._clock.monotonic()) > 0:
            try:
                async with self._alarms.timeout(left):
                    await asyncio.wait(set(self._tasks))
            except TimeoutError:
                break
        return not self._tasks

    def tick(self) -> None:
        """Does what has fallen due. Needed with `ticking=False` only."""
        self._alarms.fire()

    # --- operations --------------------------------------------------------------------------------------------------

    async def call(
        self,
        operation: Operation[R, Any],
        waiter: Waiter = NOBODY,
        *,
        timeout: float | None = None,
        errors_as: Callable[[AmxError], Exception] | None = None,
    ) -> R:
        """The answer to `operation`, shared with whoever asks for the same.

        timeout: seconds this caller waits, from now. errors_as: makes what is raised in place of an AmxError. Raises
        AmxError: what the provider answered after all repeats, OPERATION_DEADLINE, or a bound that was reached.
        Cancelled: this caller alone stops waiting; the request is cancelled when nobody else waits for it.
        """
        try:
            answer = self._recall(operation)
            if answer is not None:
                return cast("R", answer.response.value)
            ticket = self._join(operation, waiter, timeout, streams=False)
            flight = ticket.flight
            try:
                while flight.outcome is None and ticket.error is None:
                    await ticket.change()
            except asyncio.CancelledError:
                ticket.leave()
                raise
            if ticket.error is not None:
                raise ticket.error
            outcome = flight.outcome
            if isinstance(outcome, Response):
                return cast("R", outcome.value)
            assert outcome is not None
            raise errors.again(outcome)
        except AmxError as error:
            if errors_as is None:
                raise
            raise errors_as(error) from error.__cause__

    def stream(
        self, operation: Operation[R, P], waiter: Waiter = NOBODY, *, timeout: float | None = None
    ) -> Stream[R, P]:
        """The parts of the answer as they come, for `async with`. Who joins late gets the parts so far first.

        timeout: seconds until this reader must have read everything. Raises AmxError at once when a bound is reached;
        otherwise errors come out of the iteration. What one reader does never holds up another: while all are slow
        the provider is read more slowly, and who is much slower than others ends with STREAM_LAGGING.
        """
        answer = self._recall(operation)
        if answer is not None:
            return Stream(None, answer.parts, answer.response)
        return Stream(self._join(operation, waiter, timeout, streams=True))

    def forget(self, operation: Operation[Any, Any]) -> bool:
        """Drops the remembered answer to `operation`. Returns whether there was one."""
        return bool(self._cache.forget(operation.provider, operation.key))

    # --- accounts ----------------------------------------------------------------------------------------------------

    def waits(self) -> Iterator[Wait]:
        """Who waits now. Take what is needed before the event loop goes on."""
        for ticket in self._tickets:
            yield self._wait_of(ticket)

    def durations(self, provider: str) -> DurationHistogram:
        """How long requests to one provider took. Raises AmxError PROVIDER_UNKNOWN."""
        return self._registered(provider).state.durations

    def stats(self) -> IoStats:
        """Everything in numbers, at this moment."""
        cache, now = self._cache, self._clock.monotonic()
        providers = {name: _provider_stats(entry, now) for name, entry in self._providers.items()}
        return IoStats(
            waiting=len(self._tickets),
            waiting_by_reason=dict(self._waiting),
            in_flight=self._unlanded,
            buffered_bytes=self._bounds.buffered if self._bounds is not None else 0,
            operations=self._operations,
            coalesced=self._coalesced,
            cache_hits=cache.hits,
            batched=sum(stats.batched for stats in providers.values()),
            retries=sum(stats.retries for stats in providers.values()),
            cancelled=self._cancelled,
            failures=dict(self._failures),
            cache=CacheStats(len(cache), cache.bytes, cache.hits, cache.misses, cache.evictions, cache.expirations),
            providers=providers,
        )

    # --- inside ------------------------------------------------------------------------------------------------------

    def _registered(self, name: str) -> _Registered:
        registered = self._providers.get(name)
        if registered is None:
            raise errors.unknown_provider(name, sorted(self._providers))
        return registered

    def _recall(self, operation: Operation[Any, Any]) -> CachedAnswer | None:
        if not self._open:
            raise errors.closed()
        if not operation.key or not operation.ttl:
            return None
        answer = self._cache.get(operation.provider, operation.key, self._clock.monotonic())
        if answer is not None:
            self._operations += 1
        return answer

    def _join(self, operation: Operation[Any, Any], waiter: Waiter, timeout: float | None, *, streams: bool) -> Ticket:
        """One more waiter, of the flight that is under way or of a new one."""
        registered = self._registered(operation.provider)
        if len(self._tickets) >= self.config.max_waiters:
            raise errors.waiters_full(len(self._tickets))
        name = (operation.provider, operation.key)
        flight = self._flights.get(name) if operation.key else None
        joined = flight is not None
        if flight is None:
            flight = self._new_flight(registered, operation)
        else:
            self._coalesced += 1
        self._operations += 1
        now = self._clock.monotonic()
        seconds = self.config.default_timeout if timeout is None else timeout
        ticket = Ticket(flight, waiter, now, now + seconds, streams=streams)
        ticket.alarm = self._alarms.at(ticket.deadline, ticket.expire)
        flight.add(ticket)
        self._tickets[ticket] = None
        self._waiting[operation.reason] += 1
        if self._observer is not None:
            wait = self._tickets[ticket] = self._wait_of(ticket)
            _safely(self._observer.wait_began, wait)
        if joined:
            if flight.dispatch is not None:
                flight.dispatch.joined(waiter.priority)
        elif operation.batch and registered.state.policy.batch.max_items > 1:
            registered.batcher.add(flight)
        else:
            self._dispatch(registered.state, [flight])
        return ticket

    def _new_flight(self, registered: _Registered, operation: Operation[Any, Any]) -> Flight:
        assert self._bounds is not None
        registered.state.gate.require_room()
        if self._bounds.buffered >= self.config.max_buffered_bytes:
            raise errors.buffers_full(self._bounds.buffered, self.config.max_buffered_bytes)
        flight = Flight(operation, self._bounds)
        self._unlanded += 1
        if operation.key:
            self._flights[operation.provider, operation.key] = flight
        return flight

    def _dispatch(self, state: ProviderState, flights: list[Flight]) -> None:
        dispatch = Dispatch(state, flights)
        ending: set[asyncio.Task[None]] = set()
        if self._ending:
            for flight in flights:
                ending |= self._ending.get((flight.operation.provider, flight.operation.key), set())
        task = dispatch.start(self._context, ending or ())
        self._tasks.add(task)
        task.add_done_callback(self._over_with, context=self._context)

    def _landed(self, flight: Flight, outcome: Response[Any] | AmxError) -> None:
        operation = flight.operation
        self._over(flight)
        if isinstance(outcome, Response) and operation.key and operation.ttl > 0 and outcome.cacheable:
            self._cache.put(
                operation.provider,
                operation.key,
                outcome,
                flight.parts,
                flight.ends,
                self._clock.monotonic() + operation.ttl,
            )
        flight.land(outcome)

    def _over(self, flight: Flight) -> None:
        """Nobody can join any more."""
        self._unlanded -= 1
        name = (flight.operation.provider, flight.operation.key)
        if self._flights.get(name) is flight:
            del self._flights[name]

    def _ticket_ended(self, flight: Flight, ticket: Ticket) -> None:
        wait = self._tickets.pop(ticket)
        operation = flight.operation
        self._waiting[operation.reason] -= 1
        failure = ""
        if ticket.error is not None:
            failure = ticket.error.reason
        elif isinstance(flight.outcome, AmxError):
            failure = flight.outcome.reason
        elif flight.outcome is None or (ticket.position >= 0 and ticket.position < len(ticket.parts)):
            failure = "CANCELLED"
        if failure:
            self._failures[failure] += 1
        if self._observer is not None and wait is not None:
            _safely(self._observer.wait_ended, wait, self._clock.monotonic() - wait.since, failure)
        if flight.abandoned:
            self._abandon(flight)

    def _abandon(self, flight: Flight) -> None:
        self._over(flight)
        self._cancelled += 1
        dispatch = flight.dispatch
        if dispatch is None:
            registered = self._providers.get(flight.operation.provider)
            if registered is not None:
                registered.batcher.discard(flight)
            return
        task = dispatch.task
        if flight.operation.key and task is not None and not task.done():
            # Until it is over, another of the same key must not begin.
            name = (flight.operation.provider, flight.operation.key)
            self._ending.setdefault(name, set()).add(task)
            task.add_done_callback(partial(self._has_ended, name))
        dispatch.left()

    def _has_ended(self, name: tuple[str, bytes], task: asyncio.Task[None]) -> None:
        tasks = self._ending.get(name)
        if tasks is not None:
            tasks.discard(task)
            if not tasks:
                del self._ending[name]

    def _wait_of(self, ticket: Ticket) -> Wait:
        operation = ticket.flight.operation
        return Wait(ticket.waiter, operation.reason, operation.provider, operation.kind, operation.key, ticket.since)

    async def _tasks_ended(self, tasks: set[asyncio.Task[None]]) -> None:
        for task in tasks:
            if not task.cancelling():  # a second cancellation would interrupt the cleaning up after the first
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _provider_stats(registered: _Registered, now: float) -> ProviderStats:
    state = registered.state
    gate = state.gate
    left = gate.tokens_left()
    return ProviderStats(
        in_flight=gate.in_flight,
        queued=gate.queued,
        collecting=registered.batcher.waiting,
        concurrency_limit=gate.limit.value,
        concurrency_maximum=state.policy.concurrency.maximum,
        paused_seconds=max(0.0, gate.paused_until - now),
        retry_budget=state.budget.balance,
        tokens_left=None if left == float("inf") else left,
        retries_denied=state.budget.denied,
        **asdict(state.counters),
    )


def _safely(tell: Callable[..., None], *arguments: object) -> None:
    try:
        tell(*arguments)
    except Exception:
        log.exception("wait_observer_failed")
