"""A provider that does what the test says, when it says so, and a manager on a clock that stands still. No tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from amx_server.core.clock import ManualClock
from amx_server.core.errors import AmxError, unavailable
from amx_server.inference.io import (
    Call,
    IoConfig,
    IoManager,
    Operation,
    Provider,
    ProviderPolicy,
    Response,
    RetryPolicy,
    WaitObserver,
    WaitReason,
    address,
)

FAILURE = unavailable("PROVIDER_FAILED", "it failed", retry_delay_ms=0)


class Request:
    """One attempt that the provider was asked for; the test decides how it ends."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.outcome: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.cancelled = False

    @property
    def names(self) -> list[Any]:
        """What was asked for."""
        return [call.operation.request for call in self.calls]

    def succeed(self, *values: Any, tokens: int | None = None) -> None:
        """Ends well, with one value for each operation."""
        self.outcome.set_result(
            [Response(v, len(str(v)), tokens) if not isinstance(v, AmxError) else v for v in values]
        )

    def fail(self, error: BaseException = FAILURE) -> None:
        """Ends badly."""
        self.outcome.set_exception(error)


class Scripted(Provider):
    """Requests stay open until the test ends them."""

    def __init__(self, name: str = "p") -> None:
        self.name = name
        self.requests: list[Request] = []
        self.open: list[Request] = []
        self.performed: Counter[bytes] = Counter()
        self.running: Counter[bytes] = Counter()
        self.most_running: Counter[bytes] = Counter()
        self.ending: asyncio.Future[None] | None = None  # what a cancelled request waits for before it ends

    async def perform(self, call: Call) -> Response[Any]:
        (response,) = await self.perform_batch([call])
        if isinstance(response, AmxError):
            raise response
        return response

    async def perform_batch(self, calls: Sequence[Call]) -> Sequence[Response[Any] | AmxError]:
        request = Request(calls)
        self.requests.append(request)
        self.open.append(request)
        keys = [call.operation.key for call in calls]
        for key in keys:
            self.performed[key] += 1
            self.running[key] += 1
            self.most_running[key] = max(self.most_running[key], self.running[key])
        try:
            return await request.outcome
        except asyncio.CancelledError:
            request.cancelled = True
            if self.ending is not None:
                await self.ending
            raise
        finally:
            self.open.remove(request)
            for key in keys:
                self.running[key] -= 1


async def settle(rounds: int = 20) -> None:
    """Lets everything that can happen without time passing happen."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class World:
    """A manager with one scripted provider and a clock that only the test moves."""

    def __init__(self, io: IoManager, clock: ManualClock, provider: Scripted) -> None:
        self.io = io
        self.clock = clock
        self.provider = provider

    async def advance(self, seconds: float) -> None:
        """Time passes, in one step, and what falls due happens."""
        await settle()
        self.clock.advance(seconds)
        self.io.tick()
        await settle()

    def request(self, index: int = -1) -> Request:
        """One of the requests that the provider was asked for."""
        return self.provider.requests[index]


@asynccontextmanager
async def world(
    policy: ProviderPolicy | None = None,
    config: IoConfig | None = None,
    observer: WaitObserver | None = None,
    random: float = 0.5,
) -> AsyncIterator[World]:
    """A World, entered; random: what every draw gives."""
    clock = ManualClock()
    provider = Scripted()
    async with IoManager(config, clock, observer=observer, random=lambda: random, ticking=False) as io:
        await io.add(provider, policy or ProviderPolicy(retry=RetryPolicy(attempts=1)))
        yield World(io, clock, provider)


def operation(name: str = "a", *, shared: bool = True, **fields: Any) -> Operation[str, bytes]:
    """An operation called `name`; shared: equal names are one operation."""
    return Operation("p", "test", name, WaitReason.MODEL, key=address(name) if shared else b"", **fields)


async def ended(task: asyncio.Task[Any]) -> BaseException | None:
    """How a task ended that must have ended by now: its exception, or None."""
    await settle()
    assert task.done(), "it still waits"
    return task.exception()
