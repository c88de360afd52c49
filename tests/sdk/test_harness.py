"""AgentHarness: agents at work without an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from amx_engine import (
    Agent,
    AmxError,
    Context,
    HandlerError,
    Message,
    ProcessingResult,
    handler,
    memory,
    scheduled,
    subscribe,
)
from amx_engine.testing import AgentHarness
from amx_engine.testing._harness import matches


@Agent
class Clerk:
    """Counts, asks, tells, remembers."""

    @memory(persistent=True)
    def counts(self) -> dict[str, int]:
        return {}

    @memory(ttl=timedelta(hours=1))
    def recent(self) -> list[str]:
        return []

    @handler(default=True)
    async def count(self, name: str) -> int:
        self.counts[name] = self.counts.get(name, 0) + 1
        self.recent.append(name)
        return self.counts[name]

    @handler
    async def count_and_fail(self, name: str) -> None:
        self.counts[name] = 99
        raise HandlerError("seat taken", reason="SEAT_TAKEN")

    @handler
    def plainly(self, message: Message) -> ProcessingResult:
        return ProcessingResult.warning("careful", data=len(self.counts))

    @handler
    async def numbers(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    @handler
    async def tell(self, message: Message, context: Context) -> None:
        context.send("Boss", {"said": message.content}, key="b")
        context.publish("clerk.told", message.content)
        context.schedule("later", "count", "timer", after=timedelta(minutes=5))

    @handler
    async def ask(self, message: Message, context: Context) -> str:
        answer = await context.request("Boss", message.content)
        return f"the boss says {answer}"

    @handler
    @subscribe("orders.*.created")
    async def on_order(self, message: Message) -> None:
        self.counts[message.topic] = 1

    @handler
    @scheduled(interval=timedelta(hours=1))
    async def tidy(self) -> None:
        self.counts.clear()


async def test_harness_runs_messages_and_keeps_memory_by_key() -> None:
    async with AgentHarness(Clerk) as clerk:
        assert await clerk.request("a") == 1
        assert await clerk.request("a") == 2
        assert await clerk.request("a", key="other") == 1
        assert clerk.memory()["counts"] == {"a": 2}
        assert clerk.memory("other") == {"counts": {"a": 1}, "recent": ["a"]}


async def test_harness_undoes_the_changes_of_a_failed_message() -> None:
    async with AgentHarness(Clerk) as clerk:
        await clerk.request("a")
        with pytest.raises(AmxError, match="seat taken") as caught:
            await clerk.request("a", handler="count_and_fail")
        assert caught.value.reason == "SEAT_TAKEN"
        assert clerk.memory()["counts"] == {"a": 1}
        assert await clerk.request("a") == 2


async def test_harness_wakes_an_instance_with_its_memory() -> None:
    async with AgentHarness(Clerk) as clerk:
        await clerk.request("a")
        await clerk.hibernate()
        assert await clerk.request("a") == 2


async def test_harness_clock_lets_memory_expire() -> None:
    async with AgentHarness(Clerk) as clerk:
        await clerk.request("a")
        await clerk.advance(timedelta(hours=2))
        assert clerk.memory() == {"counts": {"a": 1}, "recent": []}
        await clerk.request("b")
        assert clerk.memory()["recent"] == ["b"]


async def test_harness_runs_plain_and_streaming_handlers() -> None:
    async with AgentHarness(Clerk) as clerk:
        result = await clerk.request("x", handler="plainly")
        assert (result.status, result.data) == ("warning", 0)
        assert [n async for n in clerk.stream(200, handler="numbers")] == list(range(200))
        assert await clerk.request(3, handler="numbers") == [0, 1, 2]


async def test_harness_shows_what_was_staged() -> None:
    async with AgentHarness(Clerk) as clerk:
        outcome = await clerk.run("hello", handler="tell")
        assert [(m.agent, m.key, m.content) for m in outcome.sent] == [("Boss", "b", {"said": "hello"})]
        assert [(e.topic, e.content) for e in clerk.published] == [("clerk.told", "hello")]
        assert clerk.timers["default", "later"].once_after_ms == 300_000
        assert (await clerk.fire("later")).value == 1
        assert ("default", "later") not in clerk.timers


async def test_harness_answers_for_other_agents() -> None:
    async with AgentHarness(Clerk) as clerk:
        with pytest.raises(AmxError, match="reply_to"):
            await clerk.request("why?", handler="ask")
        clerk.reply_to("Boss", lambda message: f"no to {message.content}")
        assert await clerk.request("why?", handler="ask") == "the boss says no to why?"
        clerk.reply_to("Boss", HandlerError("asleep", reason="ASLEEP"))
        with pytest.raises(AmxError, match="asleep"):
            await clerk.request("why?", handler="ask")


async def test_harness_delivers_events_to_subscribed_handlers() -> None:
    async with AgentHarness(Clerk) as clerk:
        outcomes = await clerk.deliver("orders.eu.created", {"id": 1})
        assert [outcome.memory_changed for outcome in outcomes] == [True]
        assert clerk.memory()["counts"] == {"orders.eu.created": 1}
        assert await clerk.request("orders.eu.created") == 2
        with pytest.raises(AmxError, match="no handler"):
            await clerk.deliver("orders.created")


async def test_harness_runs_schedules_on_demand() -> None:
    async with AgentHarness(Clerk) as clerk:
        await clerk.request("a")
        await clerk.fire("tidy")
        assert clerk.memory()["counts"] == {}
        with pytest.raises(AmxError, match="there are: tidy"):
            await clerk.fire("nope")


async def test_harness_runs_one_message_at_a_time_per_key() -> None:
    running = most = 0

    @Agent
    class Slow:
        @handler
        async def work(self, message: Message) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1

    async with AgentHarness(Slow) as slow:
        await asyncio.gather(*(slow.request(key="a") for _ in range(5)))
        assert most == 1
        await asyncio.gather(*(slow.request(key=str(n)) for n in range(5)))
        assert most > 1


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.**", "a", True),
        ("a.**", "a.b.c", True),
        ("**.c", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "a.b.c", True),
    ],
)
def test_topic_patterns(pattern: str, topic: str, expected: bool) -> None:
    assert matches(pattern, topic) is expected
