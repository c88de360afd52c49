"""What an agent instance costs the engine: time to spawn, bytes while idle, bytes while hibernated.

Runs in a process of its own, with the real engine and links in memory instead of sockets. Bytes are growth of the
process's resident memory, so they include everything: dictionaries, allocator overhead, what protobuf holds.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from amx.v1 import agent_pb2, link_pb2
from amx_server.core.config import load_config
from amx_server.runtime.engine import Engine
from amx_server.runtime.links import LinkConnection
from benchmarks import child
from benchmarks.load import Figures, payloads

AGENT = "Sleeper"
FRAME_ITEMS = 100


class Peer:
    """The other end of an engine's link, speaking in frames."""

    def __init__(self, connection: LinkConnection) -> None:
        self._connection = connection
        self._sent = 0
        self._received = 0

    async def say_hello(self, link_id: str, agents: list[agent_pb2.AgentDefinition]) -> None:
        """Opens the link."""
        hello = link_pb2.Hello(link_id=link_id, protocol_min=1, protocol_max=1, agents=agents, credit=FRAME_ITEMS)
        self._connection.feed(link_pb2.LinkFrame(items=[link_pb2.LinkItem(hello=hello)]).SerializeToString())
        await self.hear("welcome", 1)

    def say(self, frame: link_pb2.LinkFrame) -> None:
        """Sends items."""
        self._sent += 1
        frame.seq, frame.ack = self._sent, self._received
        self._connection.feed(frame.SerializeToString())

    async def hear(self, kind: str, count: int) -> list[link_pb2.LinkItem]:
        """The next `count` items of this kind; others are passed over."""
        heard: list[link_pb2.LinkItem] = []
        while len(heard) < count:
            data = await self._connection.next_frame()
            if data is None:
                raise RuntimeError(f"the engine closed the link: {self._connection.error}")
            frame = link_pb2.LinkFrame.FromString(data)
            self._received = frame.seq or self._received
            heard += [item for item in frame.items if item.HasField(kind)]
        return heard


class Instances:
    """An engine with one worker and one client, and as many instances of one agent as are asked for."""

    def __init__(self, engine: Engine, worker: Peer, client: Peer) -> None:
        self._engine = engine
        self._worker = worker
        self._client = client
        self._payload = payloads(1)[0]
        self._calls = 0

    async def use(self, keys: list[str]) -> None:
        """Sends each instance a message and answers it, so that each is placed, has had a mailbox, and is idle."""
        for start in range(0, len(keys), FRAME_ITEMS):
            part = keys[start : start + FRAME_ITEMS]
            calls = link_pb2.LinkFrame()
            for key in part:
                self._calls += 1
                item = calls.items.add(id=self._calls)
                message = item.call.request
                message.agent, message.key, message.handler = AGENT, key, "rest"
                message.payload.data = self._payload
            self._client.say(calls)
            completions = link_pb2.LinkFrame()
            for invocation in await self._worker.hear("invoke", len(part)):
                complete = completions.items.add(id=invocation.id).complete
                complete.attempt, complete.epoch = invocation.invoke.attempt, invocation.invoke.epoch
                complete.result.data = self._payload
            self._worker.say(completions)
            for reply in await self._client.hear("reply", len(part)):
                if reply.reply.result.data != self._payload:
                    raise RuntimeError(f"an instance failed: {reply.reply}")

    async def hibernate(self, keys: list[str]) -> None:
        """Puts idle instances to sleep, and lets the worker's link hear of it."""
        instances = self._engine.namespace("default").agents[AGENT].instances
        for key in keys:
            if not self._engine.placement.hibernate(instances[key]):
                raise RuntimeError(f"instance {key} is not idle")
        await self._worker.hear("deactivate", 1)

    def spawn(self, keys: list[str]) -> float:
        """Creates instances as the first message to each does; returns microseconds for one."""
        agent = self._engine.namespace("default").agents[AGENT]
        wake, now = self._engine.placement.wake, self._engine.clock.monotonic()
        started = time.perf_counter()
        for key in keys:
            wake(agent, key, now)
        return (time.perf_counter() - started) / len(keys) * 1e6


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure(instances: int) -> Figures:
    """Figures for `instances` instances, a multiple of FRAME_ITEMS: spawn_us, idle_bytes, hibernated_bytes."""
    definition = agent_pb2.AgentDefinition(name=AGENT, version="1.0.0", kind=agent_pb2.AGENT_KIND_AGENT)
    definition.handlers.add(name="rest")
    with TemporaryDirectory(prefix="bench-instances-") as directory:
        changes = {"storage.path": f"{directory}/amx.db", "logging.level": "warning"}
        async with Engine(load_config(None, changes)) as engine:
            worker, client = Peer(engine.open_link()), Peer(engine.open_link())
            await worker.say_hello("worker", [definition])
            await client.say_hello("client", [])
            population = Instances(engine, worker, client)
            await population.use([f"warm-up-{number}" for number in range(FRAME_ITEMS)])

            # A few at a time, so that what sleeps is all that the process grows by.
            before = _resident_bytes()
            for start in range(0, instances, FRAME_ITEMS):
                sleepers = [f"sleeper-{number}" for number in range(start, start + FRAME_ITEMS)]
                await population.use(sleepers)
                await population.hibernate(sleepers)
            hibernated = _resident_bytes() - before

            before = _resident_bytes()
            await population.use([f"idler-{number}" for number in range(instances)])
            idle = _resident_bytes() - before

            keys = [f"spawned-{number}" for number in range(instances)]
            gc.collect()
            spawn_us = population.spawn(keys)
    return {"spawn_us": spawn_us, "idle_bytes": idle / instances, "hibernated_bytes": hibernated / instances}


async def _main() -> None:
    await child.obey({"measure": measure})


if __name__ == "__main__":
    asyncio.run(_main())
