"""Operations on an instance, in any order and at any moment: its stored messages run once in effect, or die."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amx.v1 import link_pb2
from amx_server.core.errors import AmxError
from tests.engine.link_driver import Rig, Sdk, Work, agent, put, remembered, running, value_memory

COUNTER = agent("counter", memories=(value_memory("total"), value_memory("mood", persistent=False)))
STEPS = (
    "send", "request", "succeed", "fail", "late", "suspend", "suspend_now", "resume", "migrate", "kill", "spawn",
    "write", "wait", "sleep", "worker_leaves",
)  # fmt: skip


class _World:
    """One engine, two workers that count what they do in memory, and an operator."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.workers: list[Sdk] = []
        self.client = Sdk(rig.engine, "client")
        self.taken: list[Work] = []
        self.gone: list[Work] = []  # whose handlers were cancelled; what they say is void
        self.sent = 0
        self.background: list[asyncio.Task[Any]] = []

    async def begin(self) -> None:
        await self.client.connect()
        for _ in range(2):
            self.workers.append(await self.rig.worker(COUNTER))
        self.counter = self.rig.engine.namespace("default").agents["counter"]

    def _take(self) -> None:
        for sdk in self.workers:
            while sdk.items["invoke"]:
                item = sdk.items["invoke"].popleft()
                self.taken.append(Work(sdk, item.id, item.invoke))
            while sdk.items["cancel"]:
                cancelled = sdk.items["cancel"].popleft().id
                self.gone += [work for work in self.taken if work.sdk is sdk and work.id == cancelled]
                self.taken = [work for work in self.taken if work.sdk is not sdk or work.id != cancelled]
        assert len(self.taken) <= 1, "two handlers of one instance run at a time"

    async def step(self, name: str) -> None:
        lifecycle, rig = self.rig.engine.lifecycle, self.rig
        if name == "send":
            await self.client.accepted(self.client.send("counter", self.sent))
            self.sent += 1
        elif name == "request":
            self.client.request("counter", "volatile", timeout_ms=10**9)
        elif name in ("succeed", "fail"):
            await self._answer(name)
        elif name == "late" and self.gone:
            # A handler that was cancelled says something after all.
            self.gone.pop().succeed(effects=link_pb2.Effects(memory=[put("total", 10**6)]))
        elif name == "wait":
            await rig.pass_time(1.0, step=0.25)
        elif name == "sleep":
            await rig.pass_time(10_000)
        elif name == "worker_leaves":
            sdk = self.workers.pop(0)
            sdk.disconnect()
            self.taken = [work for work in self.taken if work.sdk is not sdk]
            self.gone = [work for work in self.gone if work.sdk is not sdk]
            self.workers.append(await rig.worker(COUNTER))
        elif name == "write":
            operation = link_pb2.Call().memory
            operation.instance.agent, operation.name, operation.put.value = "counter", "mood", b'"changed"'
            self.client.call("memory", operation)
        else:
            operations: dict[str, Coroutine[Any, Any, Any]] = {}
            if name == "spawn":
                operations[name] = lifecycle.spawn(self.counter, "default")
            elif name == "suspend":
                operations[name] = lifecycle.suspend(self.counter, "default", "", cancel_running=False)
            elif name == "suspend_now":
                operations[name] = lifecycle.suspend(self.counter, "default", "", cancel_running=True)
            elif name == "resume":
                operations[name] = lifecycle.resume(self.counter, "default")
            elif name == "migrate":
                operations[name] = lifecycle.migrate(self.counter, "default")
            elif name == "kill":
                operations[name] = lifecycle.kill(self.counter, "default")
            self.background += [asyncio.create_task(operation) for operation in operations.values()]
        for _ in range(3):
            await asyncio.sleep(0)

    async def _answer(self, how: str) -> None:
        self._take()
        if not self.taken:
            return
        work = self.taken.pop()
        if how == "fail":
            work.fail(retryable=True)
            return
        held = remembered(work.invoke) if work.invoke.HasField("memory") else None
        if held is None and not work.invoke.HasField("memory"):
            if work.invoke.memory_version:
                work.fail("MEMORY_NOT_HELD", retryable=True)  # this process keeps nothing: it is sent again
                return
            held = 0
        effects = link_pb2.Effects()
        if work.value != "volatile":
            effects.memory.append(put("total", (held or 0) + 1))
        work.succeed(effects=effects, memory_dropped=True)

    async def end(self) -> tuple[int, int]:
        """Lets everything come to its end. Returns how many stored messages took effect, and how many died."""
        rig = self.rig
        for _ in range(200):
            await rig.settle()
            self._take()
            if self.taken:
                await self._answer("succeed")
                continue
            if all(task.done() for task in self.background):
                if await rig.engine.lifecycle.resume(self.counter, "default"):
                    continue
                instance = rig.instance("counter")
                if not rig.engine.namespace("default").durable and (instance is None or not instance.busy):
                    break
            await rig.pass_time(5.0, step=1.0)
        for task in self.background:
            error = task.exception()
            assert error is None or isinstance(error, AmxError), error
        await rig.settle()
        instance = rig.instance("counter")
        assert instance is None or (instance.barred is None and not instance.delivering and not instance.busy)
        rows = await rig.engine.store.memory("default", "counter", "default")
        totals = [int(row.value) for row in rows if row.name == "total"]
        letters, _ = await rig.engine.queries.dead_letters(rig.engine.namespace("default"), "", 0, 1000)
        return (totals or [0])[0], len(letters)


async def _play(steps: list[str]) -> None:
    async with running() as rig:
        world = _World(rig)
        await world.begin()
        for name in steps:
            world._take()
            await world.step(name)
        done, dead = await world.end()
        assert done + dead == world.sent, f"{world.sent} sent, {done} took effect, {dead} died"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.sampled_from(STEPS), max_size=30))
def test_stored_messages_run_once_in_effect_whatever_is_done_to_their_instance(steps: list[str]) -> None:
    asyncio.run(_play(steps))
