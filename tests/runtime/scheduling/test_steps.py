"""Turns of steps: at once while there is time for all, then by priority and weight; no slice is exceeded by many."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amx.v1 import message_pb2
from amx_engine import Agent, Message, handler
from amx_engine._definition import HostedAgent
from amx_engine._link import Link
from amx_engine._transport import EmbeddedConnector
from amx_server.core.config import EngineConfig
from amx_server.runtime.engine import Engine
from amx_server.runtime.scheduling.shares import Share
from amx_server.runtime.scheduling.steps import SLICE_SECONDS, Steps
from amx_server.runtime.services import services
from amx_server.storage import open_store

LONG = SLICE_SECONDS * 2  # a step after which the loop needs a rest


class Time:
    """Seconds that pass only when a step takes some."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Handlers:
    """Handlers of some agents that take steps whenever it is their turn; a step is a number of seconds."""

    def __init__(self) -> None:
        self.time = Time()
        self.steps = Steps(self.time)
        self.namespaces: dict[str, Share] = {}
        self.shares: dict[tuple[str, str], Share] = {}
        self.order: list[str] = []
        self.at_once: list[str] = []

    def share(self, namespace: str) -> Callable[[str], Share]:
        """The shares of a namespace's agents, by name."""
        parent = self.namespaces.setdefault(namespace, Share())
        return lambda agent: self.shares.setdefault((namespace, agent), Share(parent))

    async def step(self, agent: str, seconds: float, priority: int = 3, namespace: str = "default") -> None:
        """One step, when its turn has come."""
        steps = self.steps
        turn = None
        if self.time.now >= steps.until:
            turn = steps.later(namespace, agent, priority, self.share(namespace))
        if turn is None:
            self.at_once.append(agent)
        else:
            await turn
        self.time.now += seconds
        self.order.append(agent)
        if turn is not None:
            steps.ran(namespace, agent, seconds)


async def test_steps_go_on_at_once_while_they_fit_into_a_slice() -> None:
    handlers = Handlers()
    for turns in range(1, 20):
        await asyncio.gather(*(handlers.step("a", SLICE_SECONDS / 25) for _ in range(10)))
        assert len(handlers.at_once) == turns * 10 and handlers.steps.waiting == 0  # each turn of the loop has its own


async def test_steps_of_one_turn_of_the_loop_take_no_more_than_a_slice_at_once() -> None:
    handlers = Handlers()
    await asyncio.gather(*(handlers.step("a", SLICE_SECONDS / 50) for _ in range(10)))
    before = len(handlers.at_once)
    tasks = [asyncio.create_task(handlers.step("a", SLICE_SECONDS / 10)) for _ in range(50)]
    await asyncio.sleep(0)
    assert len(handlers.at_once) - before <= 11
    await asyncio.gather(*tasks)


async def test_steps_beyond_the_slice_wait_and_their_wait_is_counted() -> None:
    handlers = Handlers()
    tasks = [asyncio.create_task(handlers.step("a", LONG)) for _ in range(3)]
    await asyncio.sleep(0)
    assert handlers.at_once == ["a"] and handlers.steps.waiting == 2
    await asyncio.gather(*tasks)
    assert handlers.steps.waiting == 0 and sum(handlers.steps.delays.counts) == 2


async def test_urgent_steps_go_before_those_that_were_ready_earlier() -> None:
    handlers = Handlers()
    first = handlers.step("first", LONG)
    background = [handlers.step("background", LONG, 5) for _ in range(5)]
    chat = [handlers.step("chat", LONG, 1) for _ in range(3)]
    await asyncio.gather(first, *background, *chat)
    assert handlers.order == ["first"] + ["chat"] * 3 + ["background"] * 5


async def test_loop_turns_between_slices() -> None:
    handlers = Handlers()
    turns = 0

    async def turning() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(turning())
    await asyncio.gather(*(handlers.step("a", LONG) for _ in range(20)))
    assert turns >= 15  # until it was known how long they take, some went on together
    other.cancel()


async def test_step_that_is_cancelled_while_it_waits_holds_nobody_up() -> None:
    handlers = Handlers()
    tasks = [asyncio.create_task(handlers.step(name, LONG)) for name in "abc"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert handlers.order == ["a", "c"] and handlers.steps.waiting == 0


async def test_namespaces_have_equal_parts_of_the_time_however_long_their_steps_are() -> None:
    handlers = Handlers()
    used: Counter[str] = Counter()

    async def work(namespace: str, seconds: float) -> None:
        while True:
            await handlers.step(namespace, seconds, namespace=namespace)
            used[namespace] += int(seconds * 1e6)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(work("short", LONG)) for _ in range(8)]
    tasks += [asyncio.create_task(work("long", LONG * 8)) for _ in range(8)]
    while len(handlers.order) < 900:
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert used["short"] == pytest.approx(used["long"], rel=0.1)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("nm"), st.integers(0, 6), st.floats(0.0, 3 * SLICE_SECONDS)),
        max_size=60,
    ),
    st.integers(1, 7),
)
def test_every_step_has_its_turn_once(steps: list[tuple[str, str, int, float]], together: int) -> None:
    async def run() -> None:
        handlers = Handlers()

        async def one(part: list[tuple[str, str, int, float]]) -> None:
            for agent, namespace, priority, seconds in part:
                await handlers.step(agent, seconds, priority, namespace)

        async with asyncio.timeout(10):
            await asyncio.gather(*(one(steps[start::together]) for start in range(together)))
        assert Counter(handlers.order) == Counter(agent for agent, _, _, _ in steps)
        assert handlers.steps.waiting == 0

    asyncio.run(run())


async def test_handlers_in_the_engines_process_take_turns_by_the_priority_of_their_messages() -> None:
    order: list[str] = []
    started = 0
    time = Time()
    go: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @Agent(name="Worker", version="1.0.0")
    class Worker:
        @handler(concurrent=True)
        async def work(self, message: Message) -> None:
            nonlocal started
            started += 1
            await asyncio.shield(go)
            order.append(str(message.content))
            time.now += LONG  # it computed for so long

    async with Engine(EngineConfig(), store=open_store(":memory:")) as engine:
        engine.steps.now = time
        link = Link(EmbeddedConnector(engine.open_link, services=services(engine)), [HostedAgent.of(Worker)])
        await link.open(5.0)
        calls = []
        for priority in (5, 5, 5, 1, 1, 1):
            made = message_pb2.Message(agent="Worker", handler="work", priority=priority)  # type: ignore[arg-type]
            made.payload.data = f"{priority}".encode()
            calls.append(asyncio.create_task(link.request(made)))
        async with asyncio.timeout(5):
            while started < 6:
                await asyncio.sleep(0)
            go.set_result(None)
            await asyncio.gather(*calls)
        await link.close(0.0)
    assert order == ["5", "1", "1", "1", "5", "5"]  # the first went on at once: it was alone then
