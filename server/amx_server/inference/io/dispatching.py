"""Getting operations done: admission, attempts, repeats. A `Dispatch` is one or more flights that travel together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from amx_server.core.clock import Clock
from amx_server.core.errors import AmxError
from amx_server.inference.io import errors
from amx_server.inference.io.alarms import Alarms
from amx_server.inference.io.flights import Call, Flight
from amx_server.inference.io.gate import Admission, Gate
from amx_server.inference.io.operations import Response
from amx_server.inference.io.providers import Provider, ProviderPolicy
from amx_server.inference.io.rates import RateBucket
from amx_server.inference.io.retries import RetryBudget
from amx_server.telemetry.logs import get_logger
from amx_server.telemetry.metrics import DurationHistogram

log = get_logger(__name__)

_WAITS = "waiting for its turn"


@dataclass(slots=True)
class ProviderCounters:
    """What only grows."""

    requests: int = 0  # attempts that reached the provider; a batch is one
    operations: int = 0  # operations that travelled in them
    batches: int = 0  # requests that carried more than one operation
    batched: int = 0  # operations in those
    succeeded: int = 0  # operations
    failed: int = 0  # operations, after all their attempts
    retries: int = 0  # requests that repeated one
    rate_limited: int = 0
    overloaded: int = 0
    cancelled: int = 0  # requests that nobody waited for any more
    tokens: int = 0  # as the provider counted, else as estimated


class ProviderState:
    """One registered provider with its policy and everything that is known about it."""

    __slots__ = (
        "alarms", "budget", "clock", "counters", "durations", "gate", "landed", "policy", "provider", "random",
    )  # fmt: skip

    def __init__(
        self,
        provider: Provider,
        policy: ProviderPolicy,
        clock: Clock,
        alarms: Alarms,
        random: Callable[[], float],
        landed: Callable[[Flight, Response[Any] | AmxError], None],
    ) -> None:
        """landed: told of every flight's outcome, once; not of flights that were abandoned."""
        self.clock = clock
        self.alarms = alarms
        self.random = random
        self.landed = landed
        self.provider = provider
        self.policy = policy
        self.gate = Gate(
            provider.name,
            policy.concurrency,
            RateBucket(policy.requests_per_second, policy.request_burst),
            RateBucket(policy.tokens_per_second, policy.token_burst),
            policy.max_queued,
            policy.retry.max_advice,
            clock,
            alarms,
        )
        self.budget = RetryBudget(policy.retry.budget, policy.retry.budget_burst)
        self.counters = ProviderCounters()
        self.durations = DurationHistogram()


class Dispatch:
    """Flights that travel in one request. Runs as a task of its own, so that no waiter's end is everybody's end."""

    __slots__ = ("_admission", "_attempt", "_doing", "flights", "state", "task")

    def __init__(self, state: ProviderState, flights: Sequence[Flight]) -> None:
        self.state = state
        self.flights = flights
        self._attempt = 0  # number of the one under way, from 1
        self._doing = _WAITS
        self._admission = Admission(
            min(_urgency(flight) for flight in flights),
            next(iter(flights[0].tickets)).waiter.namespace,
            0,
        )
        self.task: asyncio.Task[None] | None = None
        for flight in flights:
            flight.dispatch = self

    @property
    def doing(self) -> str:
        """What it waits for, for people."""
        return self._doing or f"under way, attempt {self._attempt}"

    def start(self, context: Context, after: Collection[asyncio.Task[None]] = ()) -> asyncio.Task[None]:
        """Begins, once the tasks `after` have ended. context: of the manager, not of whoever happened to ask first:
        connections that are made on the way keep it.
        """
        self.task = asyncio.create_task(self._run(after), context=context)
        return self.task

    def joined(self, priority: int) -> None:
        """One more waits for one of the flights."""
        self.state.gate.promote(self._admission, priority)

    def left(self) -> None:
        """A flight was abandoned; ends everything if that was the last."""
        if self.task is not None and all(flight.abandoned or flight.outcome for flight in self.flights):
            self.task.cancel()

    async def _run(self, after: Collection[asyncio.Task[None]]) -> None:
        state = self.state
        try:
            if after:
                self._doing = "waiting for a cancelled one like it to end"
                await asyncio.wait(after)
            while True:
                self._attempt += 1
                again = self._attempt > 1
                self._doing = _WAITS
                self._admission.tokens = sum(flight.operation.tokens for flight in self.flights)
                await state.gate.enter(self._admission, again=again)
                if again:
                    state.counters.retries += 1
                else:
                    state.budget.operation()
                self._doing = ""
                error = await self._request()
                delay = None if error is None else self._repeats(error)
                if delay is None:
                    break
                await state.alarms.sleep(delay)
        except asyncio.CancelledError:
            state.counters.cancelled += 1
            self._fail(errors.closed())  # for whoever still waits; usually nobody does
        except Exception as error:
            log.exception("dispatch_failed", provider=state.provider.name)
            self._fail(errors.defect(state.provider.name, error))
        finally:
            self.flights = []  # they refer to this: together they would wait for the garbage collector

    def _repeats(self, error: AmxError) -> float | None:
        """Seconds until the next attempt for those who still wait. None: there is none, and everybody has been told."""
        delay = self._delay(error)
        if delay is None:
            self._fail(error)
            return None
        self.flights = [flight for flight in self.flights if not flight.outcome and flight.restart(error)]
        self._doing = f"waiting to repeat it after: {error.message}"
        return delay if self.flights else None

    async def _request(self) -> AmxError | None:
        """One request. Returns why it failed as a whole; None: every flight has its own outcome."""
        state, name = self.state, self.state.provider.name
        calls = [Call(flight, self._attempt, state.clock) for flight in self.flights if not flight.abandoned]
        state.counters.requests += 1
        state.counters.operations += len(calls)
        if len(calls) > 1:
            state.counters.batches += 1
            state.counters.batched += len(calls)
        began = state.clock.monotonic()
        error: AmxError | None = None
        outcomes: Sequence[Response[Any] | AmxError] = ()
        timeout = state.alarms.timeout(state.policy.attempt_timeout)
        try:
            async with timeout:
                if state.policy.batch.max_items > 1 and calls[0].operation.batch:
                    outcomes = await state.provider.perform_batch(calls)
                    if len(outcomes) != len(calls):
                        raise errors.malformed(name, f"{len(outcomes)} outcomes for a batch of {len(calls)}")
                else:
                    outcomes = (await state.provider.perform(calls[0]),)
        except AmxError as raised:
            error = raised
        except TimeoutError as raised:
            if timeout.expired:
                error = errors.attempt_timeout(name, calls[0].operation.kind, state.policy.attempt_timeout)
            else:
                error = errors.defect(name, raised)
        except asyncio.CancelledError as raised:
            if self.task is None or self.task.cancelling():
                state.gate.release(self._admission, informative=False)
                raise
            error = errors.defect(name, raised)  # nobody cancelled it: something inside the provider was
        except Exception as raised:
            log.exception("provider_raised", provider=name)
            error = errors.defect(name, raised)
        self._account(calls, began, error, outcomes)
        if error is not None:
            return error
        for call, outcome in zip(calls, outcomes, strict=True):
            self._land(call.flight, outcome)
        return None

    def _account(
        self, calls: Sequence[Call], began: float, error: AmxError | None, outcomes: Sequence[Response[Any] | AmxError]
    ) -> None:
        state, now = self.state, self.state.clock.monotonic()
        first_sign = min((call.first_sign_at for call in calls if call.first_sign_at is not None), default=now)
        spent: int | None = None
        if error is None:
            spent = sum(_tokens(outcome, call.operation.tokens) for call, outcome in zip(calls, outcomes, strict=True))
            state.counters.tokens += spent
        elif error.reason == errors.RATE_LIMITED:
            state.counters.rate_limited += 1
        elif error.reason == errors.OVERLOADED:
            state.counters.overloaded += 1
        state.durations.observe(now - began)
        state.gate.release(self._admission, error=error, latency=first_sign - began, tokens=spent)

    def _delay(self, error: AmxError) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        state, policy = self.state, self.state.policy.retry
        idempotent = all(flight.operation.idempotent for flight in self.flights)
        delay = policy.delay(self._attempt, error, idempotent, state.random)
        if delay is None:
            return None
        latest = max((flight.latest_deadline() for flight in self.flights), default=float("-inf"))
        if state.clock.monotonic() + delay >= latest:
            return None  # nobody would be there to see it
        return delay if state.budget.withdraw(error) else None

    def _fail(self, error: AmxError) -> None:
        for flight in self.flights:
            self._land(flight, error)

    def _land(self, flight: Flight, outcome: Response[Any] | AmxError) -> None:
        if flight.outcome is not None or flight.abandoned:
            return
        if isinstance(outcome, AmxError):
            self.state.counters.failed += 1
        else:
            self.state.counters.succeeded += 1
        self.state.landed(flight, outcome)


def _tokens(outcome: Response[Any] | AmxError, estimate: int) -> int:
    return outcome.tokens if isinstance(outcome, Response) and outcome.tokens is not None else estimate


def _urgency(flight: Flight) -> int:
    return min(ticket.waiter.priority for ticket in flight.tickets)
