"""Random histories of everything at once: each call gets its one outcome, and afterwards nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amx.v1 import agent_pb2, link_pb2, memory_pb2, message_pb2
from amx_server.core.clock import ManualClock
from amx_server.runtime.engine import Engine
from amx_server.runtime.links import LinkSession
from amx_server.runtime.scheduling.waits import WaitReason
from amx_server.storage import open_store
from tests.engine.failing_store import FailingStore, everything, nothing
from tests.engine.link_driver import DURABLE, Rig, Sdk, Work, agent, configured, failure, put, value_memory

HANDLERS = (
    agent_pb2.HandlerDefinition(name="alone", retry=agent_pb2.RetryPolicy(max_attempts=3)),
    agent_pb2.HandlerDefinition(name="beside", concurrent=True),
    agent_pb2.HandlerDefinition(name="limited", timeout_ms=5000),
    agent_pb2.HandlerDefinition(name="hears", subscriptions=[message_pb2.Subscription(pattern="t.*")]),
)
VERSIONS = ("1.0.0", "2.0.0")
CONFIG = configured(
    delivery={"attempt_timeout": 50.0, "redelivery_attempts": 3},
    breaker={"failure_threshold": 4, "open_for": 5.0},
    limits={"mailbox_capacity": 6, "max_pending_events": 3, "stream_window": 2},
    instances={"idle_timeout": 15.0},
    links={"drain_deadline": 20.0},
)

pick = st.integers(0, 9)
keys = st.sampled_from(["a", "b"])


class Worker:
    """A worker process and what it has not answered."""

    def __init__(self, sdk: Sdk) -> None:
        self.sdk = sdk
        self.works: list[Work] = []
        self.deliveries: list[link_pb2.LinkItem] = []
        self.draining = False

    def take(self) -> None:
        while self.sdk.waiting:
            item = self.sdk.items["invoke"].popleft()
            self.works.append(Work(self.sdk, item.id, item.invoke))
        self.deliveries.extend(self.sdk.items["deliver"])
        self.sdk.items["deliver"].clear()


class Bookkeeping(RuleBasedStateMachine):
    """Callers call, workers answer or do not, links come and go, time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.workers: list[Worker] = []
        self.calls: list[int] = []
        self.rig: Rig
        self.client: Sdk
        self.store: FailingStore

    def run(self, act: Callable[[], Awaitable[Any]]) -> None:
        async def acted() -> None:
            await act()
            await self.rig.settle()
            for worker in self.workers:
                worker.take()

        self.runner.run(acted())

    def act(self, act: Callable[[], Any]) -> None:
        async def acted() -> None:
            act()

        self.run(acted)

    @initialize()
    def begin(self) -> None:
        async def start() -> None:
            self.store = FailingStore(open_store(":memory:"))
            engine = Engine(CONFIG, self.clock, store=self.store, ticking=False)
            await engine.__aenter__()
            self.rig = Rig(engine, self.clock)
            self.client = self.rig.sdk("client")
            await self.client.connect()
            await self._join(0)

        self.runner.run(start())

    async def _join(self, version: int) -> None:
        sdk = self.rig.sdk()
        await sdk.connect(
            agent("busy", *HANDLERS, version=VERSIONS[version], default_handler="alone", memories=(value_memory(),)),
            credit=3,
        )
        self.workers.append(Worker(sdk))

    # --- callers -----------------------------------------------------------------------------------------------------

    @rule(
        operation=st.sampled_from(["request", "request", "stream", "send"]),
        handler=st.sampled_from(["alone", "alone", "beside", "limited", "hears"]),
        key=keys,
        timeout_ms=st.sampled_from([0, 1000]),
        ttl_ms=st.sampled_from([0, 0, 2000]),
        durability=st.integers(0, 2),
        priority=st.integers(0, 5),
        idempotent=st.booleans(),
        times=st.integers(1, 3),
    )
    def call(self, operation: str, timeout_ms: int, times: int, idempotent: bool, **fields: Any) -> None:
        if idempotent:
            fields["idempotency_key"] = f"{operation}{fields['key']}"
        message = message_pb2.Message(agent="busy", **fields)
        self.act(
            lambda: self.calls.extend(self.client.call(operation, message, timeout_ms=timeout_ms) for _ in range(times))
        )

    @rule(key=keys, durable=st.booleans())
    def publish(self, key: str, durable: bool) -> None:
        durability = DURABLE if durable else 0
        self.act(lambda: self.calls.append(self.client.publish("t.x", 1, key=key, durability=durability)))

    @rule(key=keys, what=st.sampled_from(["get", "put"]))
    def remember(self, key: str, what: str) -> None:
        operation = memory_pb2.MemoryOperation(name="total")
        operation.instance.agent, operation.instance.key = "busy", key
        if what == "put":
            operation.put.value = b"1"
        else:
            operation.get = ""
        self.act(lambda: self.calls.append(self.client.call("memory", operation)))

    @rule()
    def broadcast(self) -> None:
        scope = message_pb2.BroadcastScope(all=True)
        value = link_pb2.Broadcast(scope=scope, message=message_pb2.Message())
        self.act(lambda: self.calls.append(self.client.call("broadcast", value, timeout_ms=4000)))

    @precondition(lambda self: self.calls)
    @rule(pick=pick)
    def cancel(self, pick: int) -> None:
        self.act(lambda: self.client.cancel(self.calls[-1 - pick % len(self.calls)]))

    # --- workers -----------------------------------------------------------------------------------------------------

    @rule(pick=pick, how=st.sampled_from(["result", "result", "effects", "fail", "retry", "dropped", "chunk"]))
    def answer(self, pick: int, how: str) -> None:
        found = [(w, work) for w in self.workers if not w.sdk.over for work in w.works]
        if found:
            worker, work = found[pick % len(found)]
            if how != "chunk":
                worker.works.remove(work)
            self.act(lambda: self._answer(work, how))

    def _answer(self, work: Work, how: str) -> None:
        if how == "result":
            work.succeed(1)
        elif how == "effects":
            message = message_pb2.Message(agent="busy", key="b")
            work.succeed(2, link_pb2.Effects(memory=[put("total", 1)], messages=[message]))
        elif how == "chunk":
            work.chunk(1)
        elif how == "dropped":
            work.fail("MEMORY_NOT_HELD", memory_dropped=True)
        else:
            work.fail("FLAKY", retryable=how == "retry")

    @rule(pick=pick, fails=st.booleans())
    def deliver(self, pick: int, fails: bool) -> None:
        found = [(w, item) for w in self.workers if not w.sdk.over for item in w.deliveries]
        if found:
            worker, item = found[pick % len(found)]
            worker.deliveries.remove(item)
            target = link_pb2.DeliveredTarget(index=0)
            if fails:
                target.failure.CopyFrom(failure())
            else:
                target.effects.memory.append(put("total", 3))
            self.act(lambda: worker.sdk.delivered(item, target))

    @rule(pick=pick, credit=st.integers(0, 4))
    def grant(self, pick: int, credit: int) -> None:
        alive = [worker for worker in self.workers if not worker.sdk.over]
        if alive:
            self.act(lambda: alive[pick % len(alive)].sdk.grant(credit))

    @precondition(lambda self: len(self.workers) < 3)
    @rule(version=st.integers(0, 1))
    def join(self, version: int) -> None:
        self.run(lambda: self._join(version))

    @precondition(lambda self: self.workers)
    @rule(pick=pick, how=st.sampled_from(["lost", "resumed", "drain", "drained"]))
    def leave(self, pick: int, how: str) -> None:
        worker = self.workers[pick % len(self.workers)]

        async def act() -> None:
            if worker.sdk.over:
                self.workers.remove(worker)
            elif how == "drain":
                worker.sdk.drain()
                worker.draining = True
            elif how == "drained":
                worker.sdk.feed(link_pb2.LinkItem(drained=link_pb2.Drained()))
                self.workers.remove(worker)
            else:
                worker.sdk.disconnect()
                if how == "lost" or not (await worker.sdk.resume()).resumed:
                    self.workers.remove(worker)

        self.run(act)

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.run(lambda: self.rig.pass_time(seconds, step=2.0))

    @rule(full=st.booleans())
    def fill_disk(self, full: bool) -> None:
        self.store.refuses = everything if full else nothing

    # --- what must hold ----------------------------------------------------------------------------------------------

    def _session(self, worker: Worker) -> LinkSession | None:
        return self.rig.engine.links.sessions.get(f"default\n{worker.sdk.link_id}")

    @invariant()
    def turns_are_kept(self) -> None:
        for worker in self.workers:
            alone = [(work.address, work.invoke.epoch) for work in worker.works if work.message.handler != "beside"]
            assert len(alone) == len(set(alone)), "two messages of one activation run at the same time"

    @invariant()
    def slots_are_counted(self) -> None:
        for worker in self.workers:
            session = self._session(worker)
            if session is not None and session.connected:
                assert session.in_flight == len(worker.works) + len(worker.deliveries)
                assert len(session.running) + len(session.abandoned) == len(worker.works)

    @invariant()
    def queues_are_counted(self) -> None:
        if not hasattr(self, "rig"):
            return
        namespace = self.rig.engine.namespace("default")
        queued = 0
        for known in namespace.agents.values():
            waiting = sum(len(one.mailbox) for one in known.instances.values() if one.mailbox is not None)
            assert known.queued == waiting
            queued += waiting
        assert queued == self.rig.engine.dispatcher.queued == namespace.quota.waiting

    @invariant()
    def waits_are_counted(self) -> None:
        if hasattr(self, "rig"):
            agents = self.rig.engine.namespace("default").agents.values()
            counts = self.rig.engine.waits.counts
            assert counts[WaitReason.LINK] == sum(len(known.ready) for known in agents)
            assert all(count >= 0 for count in counts.values())

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        if not hasattr(self, "rig"):
            return
        for known in self.rig.engine.namespace("default").agents.values():
            hosts = known.active.hosts if known.active is not None else []
            free = [host for host in hosts if host.accepting and host.in_flight < host.credit]
            for one in known.instances.values():
                if one.mailbox is None or one.running is not None or one.delivering or one.loading or one.operations:
                    continue
                usable = [host for host in free if host is one.link] if one.concurrent else free
                assert not usable, f"{one.address} waits, and {len(usable)} links have credit"

    def teardown(self) -> None:
        try:
            if hasattr(self, "rig"):
                self.runner.run(self._finish())
        finally:
            self.runner.close()

    async def _finish(self) -> None:
        """Everybody answers everything; then every call has its outcome and the engine holds nothing."""
        self.store.refuses = nothing
        for worker in self.workers:
            if not worker.sdk.over and not worker.draining:
                worker.sdk.grant(100)
        await self._join(1)
        rounds = 0  # in a row without anything to answer
        for _ in range(60):
            await self.rig.settle()
            quiet = True
            for worker in self.workers:
                worker.take()
                if worker.sdk.over:
                    continue
                for work in worker.works:
                    quiet = False
                    work.succeed(1)
                for item in worker.deliveries:
                    quiet = False
                    worker.sdk.delivered(item)
                worker.works.clear()
                worker.deliveries.clear()
            await self.rig.settle()
            quiet = quiet and len(self.client.replies) == len(self.calls) and not self.rig.engine.dispatcher.queued
            rounds = rounds + 1 if quiet else 0
            if rounds > 5:  # longer than the resume window, any back-off and any circuit's rest
                break
            await self.rig.pass_time(4, step=2)
        await self.rig.pass_time(30, step=2)
        open_calls = [call for call in self.calls if call not in self.client.replies]
        namespace = self.rig.engine.namespace("default")
        dispatcher = self.rig.engine.dispatcher
        waits = dict(self.rig.engine.waits.counts)
        left = [instance for known in namespace.agents.values() for instance in known.instances.values()]
        await self.rig.engine.__aexit__()
        assert not open_calls, f"without an outcome: {open_calls}"
        assert not namespace.durable
        assert not any(waits.values()), f"waits that never ended: {waits}"
        assert not left, f"does not sleep: {[(i.address, i.running, i.delivering, i.concurrent) for i in left]}"
        assert dispatcher.queued == namespace.quota.waiting == self.rig.engine.placement.instances == 0
        assert len(dispatcher.deadlines) == 0


TestBookkeeping = Bookkeeping.TestCase
TestBookkeeping.settings = settings(max_examples=60, stateful_step_count=30)
