"""For one key at most one request at a time, none while an answer is cached, one end for every waiter, nothing left.

Hypothesis drives the manager with waiters that come, leave and run out of time, requests that end either way at any
moment, and a clock that moves; the model is a few lines of bookkeeping.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from amx_server.core.errors import AmxError
from amx_server.inference.io import (
    BatchPolicy,
    ConcurrencyPolicy,
    ProviderPolicy,
    RetryPolicy,
    Wait,
    Waiter,
    address,
)
from tests.inference.io.support import FAILURE, World, operation, settle, world

TTL = 10.0
NAMES = "abc"

steps = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.sampled_from(NAMES), st.sampled_from([1.0, 5.0, 100.0])),
        st.tuples(st.just("stream"), st.sampled_from(NAMES), st.sampled_from([1.0, 100.0])),
        st.tuples(st.just("leave"), st.integers(0, 20), st.none()),
        st.tuples(st.just("emit"), st.integers(0, 20), st.none()),
        st.tuples(st.just("succeed"), st.integers(0, 20), st.none()),
        st.tuples(st.just("fail"), st.integers(0, 20), st.booleans()),
        st.tuples(st.just("advance"), st.sampled_from([0.01, 0.5, 3.0, TTL]), st.none()),
        st.tuples(st.just("hold endings"), st.booleans(), st.none()),
    ),
    max_size=50,
)
policies = st.builds(
    ProviderPolicy,
    concurrency=st.sampled_from([ConcurrencyPolicy(1, 1, 1), ConcurrencyPolicy(2, 1, 8), ConcurrencyPolicy()]),
    requests_per_second=st.sampled_from([0.0, 2.0]),
    retry=st.sampled_from([RetryPolicy(attempts=1), RetryPolicy(attempts=3)]),
    batch=st.sampled_from([BatchPolicy(), BatchPolicy(max_items=2, max_wait=0.5)]),
)


@dataclass
class Accounts:
    """A WaitObserver that finds waits that end twice or never."""

    open: dict[int, Wait] = field(default_factory=dict)
    ended: int = 0

    def wait_began(self, wait: Wait) -> None:
        assert id(wait) not in self.open
        self.open[id(wait)] = wait

    def wait_ended(self, wait: Wait, seconds: float, failure: str) -> None:
        assert self.open.pop(id(wait)) is wait
        assert seconds >= 0
        self.ended += 1


class Model:
    """Drives one world and checks it after every step."""

    def __init__(self, w: World) -> None:
        self.w = w
        self.tasks: list[asyncio.Task[Any]] = []
        self.answers: dict[str, tuple[str, float]] = {}  # name -> answer and when it was given
        self.served = 0

    async def step(self, kind: str, which: Any, how: Any) -> None:
        w = self.w
        requests = w.provider.open
        if kind in ("call", "stream"):
            cached = self.answers.get(which)
            before = w.provider.performed[address(which)]
            self.tasks.append(asyncio.create_task(self.wait(kind, which, how)))
            await settle()
            if cached is not None and w.clock.monotonic() < cached[1] + TTL:
                assert w.provider.performed[address(which)] == before, "asked again for what is cached"
        elif kind == "leave" and self.tasks:
            self.tasks[which % len(self.tasks)].cancel()
        elif kind == "advance":
            await w.advance(which)
        elif kind == "hold endings":
            ending, w.provider.ending = w.provider.ending, None
            if ending is not None:
                ending.set_result(None)
            if which:
                w.provider.ending = asyncio.get_running_loop().create_future()
        elif requests:
            request = requests[which % len(requests)]
            if request.outcome.done() or request.cancelled:
                pass
            elif kind == "emit":
                for call in request.calls:
                    await call.emit(b"part", 4)
            elif kind == "succeed":
                values = []
                for name in request.names:
                    self.served += 1
                    values.append(f"{name}{self.served}")
                    self.answers[name] = (values[-1], w.clock.monotonic())
                request.succeed(*values)
            else:
                request.fail(FAILURE if how else AmxError(13, "PERMANENT", "no"))
        await settle()
        assert all(most <= 1 for most in w.provider.most_running.values()), "two requests for one key"

    async def wait(self, kind: str, name: str, timeout: float) -> None:
        asked = operation(name, ttl=TTL, batch="group")
        waiter = Waiter(f"{name}/1", priority=1 + len(self.tasks) % 5)
        if kind == "call":
            value = await self.w.io.call(asked, waiter, timeout=timeout)
        else:
            async with self.w.io.stream(asked, waiter, timeout=timeout) as stream:
                parts = [part async for part in stream]
                assert set(parts) <= {b"part"}
                value = stream.result
        assert value.startswith(name), "somebody else's answer"


@settings(max_examples=150)
@given(policy=policies, script=steps)
def test_one_key_is_asked_for_once_whatever_happens(policy: ProviderPolicy, script: list[tuple[str, Any, Any]]) -> None:
    async def run() -> None:
        accounts = Accounts()
        async with world(policy, observer=accounts) as w:
            model = Model(w)
            for step in script:
                await model.step(*step)
            await model.step("hold endings", False, None)
            for _ in range(12):  # everybody's time runs out
                await w.advance(10.0)
            outcomes = await asyncio.gather(*model.tasks, return_exceptions=True)
            for outcome in outcomes:
                assert outcome is None or isinstance(outcome, AmxError | asyncio.CancelledError), outcome
            stats = w.io.stats()
            assert (stats.waiting, stats.in_flight, stats.buffered_bytes) == (0, 0, 0)
            provider = stats.providers["p"]
            assert (provider.in_flight, provider.queued, provider.collecting) == (0, 0, 0)
            assert not accounts.open and not w.provider.open
            assert stats.operations == accounts.ended + stats.cache_hits

    asyncio.run(run())
