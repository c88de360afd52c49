"""Random histories against a model: what was acknowledged takes effect exactly once, whatever fails in between."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amx.v1 import agent_pb2, link_pb2
from amx_server.core.clock import ManualClock
from amx_server.runtime.engine import Engine
from amx_server.storage import open_store
from tests.engine.link_driver import Rig, Sdk, Work, agent, configured, map_memory, message, put, value_memory

RETRIES = agent_pb2.RetryPolicy(max_attempts=1000, initial_backoff_ms=100, max_backoff_ms=1000)
DEFINITIONS = (
    agent(
        "counter",
        agent_pb2.HandlerDefinition(name="count", retry=RETRIES),
        memories=(value_memory("total"), map_memory("seen")),
        idle_timeout_ms=20_000,
    ),
    agent(
        "ledger", agent_pb2.HandlerDefinition(name="note", retry=RETRIES), memories=(map_memory("seen"),)
    ),
)  # fmt: skip
CONFIG = configured(delivery={"redelivery_attempts": 1000}, instances={"idle_timeout": 20.0})

Memory = dict[tuple[str, str], Any]  # (memory, entry id) -> value


class Process:
    """A worker process that does its work honestly: it remembers by activation and version, as an SDK does."""

    def __init__(self, sdk: Sdk) -> None:
        self.sdk = sdk
        self.works: list[Work] = []
        self.ended: list[Work] = []
        self.held: dict[int, tuple[int, Memory]] = {}  # epoch -> version and what is remembered

    def take(self) -> None:
        """Takes what has arrived."""
        for item in self.sdk.items["deactivate"]:
            for epoch in item.deactivate.epochs:
                self.held.pop(epoch, None)
        self.sdk.items["deactivate"].clear()
        while self.sdk.waiting:
            item = self.sdk.items["invoke"].popleft()
            self.works.append(Work(self.sdk, item.id, item.invoke))
            invoke = item.invoke
            if invoke.HasField("memory"):
                memory = {(m.name, e.id): json.loads(e.value) for m in invoke.memory.memories for e in m.entries}
                self.held[invoke.epoch] = invoke.memory_version, memory
            version, _ = self.held[invoke.epoch]
            assert version == invoke.memory_version, "the engine sends memory that this process does not hold"

    def succeed(self, work: Work) -> None:
        """Counts the message, remembers it, and tells the ledger: one effect in two places."""
        epoch = work.invoke.epoch
        version, memory = self.held[epoch]
        memory = dict(memory)
        entry = json.dumps(work.message.message_id)
        memory["seen", entry] = memory.get(("seen", entry), 0) + 1
        effects = link_pb2.Effects(memory=[put("seen", memory["seen", entry], id=entry)])
        if work.message.agent == "counter":
            memory["total", ""] = memory.get(("total", ""), 0) + 1
            effects.memory.append(put("total", memory["total", ""]))
            effects.messages.append(message("ledger", message_id=f"note of {work.message.message_id}"))
        self.held[epoch] = version + 1, memory
        work.succeed(effects=effects)

    def fail(self, work: Work) -> None:
        self.held.pop(work.invoke.epoch, None)
        work.fail("FLAKY", retryable=True, memory_dropped=True)


class ExactlyOnce(RuleBasedStateMachine):
    """Sends, completions, failures, lost links, lost processes, time, restarts, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="amx-model-"))
        self.clock = ManualClock()
        self.acknowledged: set[str] = set()
        self.asked: set[str] = set()
        self.processes: list[Process] = []
        self.rig: Rig
        self.client: Sdk
        self.names = 0

    def run(self, act: Callable[[], Awaitable[None]]) -> None:
        async def acted() -> None:
            await act()
            await self.rig.settle()
            for process in self.processes:
                process.take()

        self.runner.run(acted())

    # --- engine ------------------------------------------------------------------------------------------------------

    @initialize(keys=st.text("ab", min_size=3, max_size=8))
    def begin(self, keys: str) -> None:
        self.run(self._start)
        self.send(keys, repeat=False)

    async def _start(self) -> None:
        store = open_store(str(self.folder / "amx.db"))
        engine = Engine(CONFIG, self.clock, store=store, ticking=False)
        await engine.__aenter__()
        self.rig = Rig(engine, self.clock)
        self.client = self.rig.sdk("client")
        await self.client.connect()
        self.processes = []
        await self._join()

    async def _join(self, credit: int = 3) -> None:
        self.names += 1
        sdk = self.rig.sdk(f"process-{self.names}")
        await sdk.connect(*DEFINITIONS, credit=credit)
        self.processes.append(Process(sdk))

    @rule(graceful=st.booleans())
    def restart(self, graceful: bool) -> None:
        async def act() -> None:
            await self._stop(graceful)
            await self._start()

        self.run(act)

    async def _stop(self, graceful: bool) -> None:
        if graceful:
            await self.rig.engine.__aexit__()
        else:
            await self.rig.engine._stack.aclose()  # the store ends; nobody is told anything
        for sdk in (self.client, *(process.sdk for process in self.processes)):
            if sdk._reader is not None:
                sdk._reader.cancel()
        await asyncio.sleep(0)

    # --- what people and processes do --------------------------------------------------------------------------------

    @rule(keys=st.text("ab", min_size=1, max_size=5), repeat=st.booleans())
    def send(self, keys: str, repeat: bool) -> None:
        async def act() -> None:
            items = {}
            for key in keys:
                if repeat and self.asked:
                    message_id = sorted(self.asked)[0]
                else:
                    message_id = f"{key}{len(self.asked)}"
                self.asked.add(message_id)
                item = self.client.call_item("send", message("counter", key=message_id[0], message_id=message_id))
                items[item.id] = message_id
                self.client.feed(item)
            await self.rig.settle()
            for call, message_id in items.items():
                if self.client.replies[call].HasField("accepted"):
                    self.acknowledged.add(message_id)

        self.run(act)

    def _any(self, ended: bool, pick: int) -> tuple[Process, Work] | None:
        found = [(p, w) for p in self.processes if not p.sdk.over for w in (p.ended if ended else p.works)]
        return found[pick % len(found)] if found else None

    @rule(picks=st.lists(st.integers(0, 9), min_size=1, max_size=3), succeed=st.sampled_from([True, True, False]))
    def complete(self, picks: list[int], succeed: bool) -> None:
        async def act() -> None:
            for pick in picks:
                found = self._any(False, pick)
                if found is None:
                    return
                process, work = found
                process.works.remove(work)
                if succeed and work.invoke.epoch in process.held:
                    process.succeed(work)
                else:
                    process.fail(work)
                process.ended.append(work)

        self.run(act)

    @rule(pick=st.integers(0, 9))
    def complete_again(self, pick: int) -> None:
        async def act() -> None:
            found = self._any(True, pick)
            if found is not None:
                found[1].succeed(effects=link_pb2.Effects(memory=[put("seen", 666, id='"forged"')]))

        self.run(act)

    @rule(pick=st.integers(0, 9), credit=st.integers(0, 3))
    def grant(self, pick: int, credit: int) -> None:
        async def act() -> None:
            sdk = self.processes[pick % len(self.processes)].sdk
            if not sdk.over:
                sdk.grant(credit)

        self.run(act)

    @precondition(lambda self: len(self.processes) < 3)
    @rule()
    def join(self) -> None:
        self.run(self._join)

    @rule(pick=st.integers(0, 9), resumed=st.booleans(), loses=st.integers(0, 2))
    def lose_link(self, pick: int, resumed: bool, loses: int) -> None:
        async def act() -> None:
            process = self.processes[pick % len(self.processes)]
            process.sdk.disconnect()
            if resumed:
                before = process.sdk.received_seq
                welcome = await process.sdk.resume()
                if not welcome.resumed:
                    self.processes.remove(process)
                    await self._join()
                assert process.sdk.received_seq >= before or not welcome.resumed
            else:
                self.processes.remove(process)
                if not self.processes or loses:
                    await self._join()

        self.run(act)

    @rule(seconds=st.sampled_from([0.2, 2.0, 12.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.run(lambda: self.rig.pass_time(seconds))

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def credit_is_kept(self) -> None:
        for process in self.processes:
            for address in {work.address for work in process.works}:
                placements = [w for w in process.works if w.address == address]
                epochs = {work.invoke.epoch for work in placements}
                assert len(placements) == len(epochs), "two messages of one activation run at the same time"

    def teardown(self) -> None:
        try:
            if hasattr(self, "rig"):
                self.runner.run(self._finish())
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)

    async def _finish(self) -> None:
        """Everything that can end ends; then the books must balance, in memory and on disk."""
        await self._stop(graceful=True)
        await self._start()
        process = self.processes[0]
        process.sdk.grant(1000)
        for _ in range(200):
            await self.rig.settle()
            process.take()
            if not process.works and not self.rig.engine.namespace("default").durable:
                break
            for work in process.works:
                process.succeed(work)
            process.works.clear()
            await self.rig.pass_time(2)
        store = self.rig.engine.store
        await store.flush()
        seen: dict[str, int] = {}
        total = 0
        for key in "ab":
            for row in await store.memory("default", "counter", key):
                if row.name == "seen":
                    seen[json.loads(row.entry)] = json.loads(row.value)
                else:
                    total += json.loads(row.value)
        notes = {json.loads(r.entry): json.loads(r.value) for r in await store.memory("default", "ledger", "default")}
        await self._stop(graceful=True)
        assert set(seen) >= self.acknowledged, f"lost: {self.acknowledged - set(seen)}"
        assert set(seen) <= self.asked
        assert set(seen.values()) <= {1}, f"counted twice: {seen}"
        assert total == len(seen)
        assert notes == {f"note of {message_id}": 1 for message_id in seen}


TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnce.settings = settings(max_examples=25, stateful_step_count=25)
