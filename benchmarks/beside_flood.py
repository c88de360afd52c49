"""What an agent has of its link while another agent of the same link is flooded: how long its callers wait.

Runs in a process of its own, with the real engine and links in memory instead of sockets. The flood always has as many
requests outstanding, at a few instances; the slots of the link are never enough. The other agent gets one request at a
time.
"""

from __future__ import annotations

import asyncio
import time
from itertools import count
from tempfile import TemporaryDirectory

from amx.v1 import agent_pb2, link_pb2
from amx_server.core.config import load_config
from amx_server.runtime.engine import Engine
from benchmarks import child
from benchmarks.link_peer import Peer
from benchmarks.load import Figures, payloads

FLOODED, QUIET = "Flooded", "Quiet"
SLOTS = 32  # handlers that may run at a time
INSTANCES = 64  # of the flooded agent
_CONTENT = payloads(1)[0]


async def _work(worker: Peer) -> None:
    """Ends every handler at once."""
    while True:
        completions = []
        for item in await worker.hear():
            if item.HasField("invoke"):
                done = link_pb2.LinkItem(id=item.id)
                done.complete.attempt, done.complete.epoch = item.invoke.attempt, item.invoke.epoch
                done.complete.result.data = _CONTENT
                completions.append(done)
        await worker.say(completions)


def _request(id: int, agent: str, key: str) -> link_pb2.LinkItem:
    item = link_pb2.LinkItem(id=id)
    message = item.call.request
    item.call.timeout_ms = 600_000
    message.agent, message.key, message.handler = agent, key, "work"
    message.payload.data = _CONTENT
    return item


class _Flood:
    """Asks again at once for every answer. answered: how many there were."""

    def __init__(self, client: Peer) -> None:
        self._client = client
        self._ids = count(1)
        self.answered = 0

    async def run(self, in_flight: int) -> None:
        await self._client.say([self._next() for _ in range(in_flight)])
        while True:
            replies = [item.reply for item in await self._client.hear() if item.HasField("reply")]
            for reply in replies:
                if not reply.HasField("result"):
                    raise RuntimeError(f"the flood was refused: {reply}")
            self.answered += len(replies)
            await self._client.say([self._next() for _ in replies])

    def _next(self) -> link_pb2.LinkItem:
        id = next(self._ids)
        return _request(id, FLOODED, f"k{id % INSTANCES}")


async def _ask(client: Peer, seconds: float) -> list[float]:
    """Seconds that each of the quiet agent's callers waited, in order of size."""
    waited: list[float] = []
    until = time.perf_counter() + seconds
    for id in count(1):
        began = time.perf_counter()
        if began > until:
            break
        await client.say([_request(id, QUIET, "q")])
        while not any(item.HasField("reply") for item in await client.hear()):
            pass
        waited.append(time.perf_counter() - began)
    return sorted(waited)


async def measure(in_flight: int, warmup_s: float, seconds: float) -> Figures:
    """p50_ms, p99_ms: how long callers of the quiet agent wait. rate: requests of the flood answered a second."""
    agents = [agent_pb2.AgentDefinition(name=name, version="1.0.0") for name in (FLOODED, QUIET)]
    for agent in agents:
        agent.handlers.add(name="work")
    with TemporaryDirectory(prefix="bench-flood-") as directory:
        changes = {
            "storage.path": f"{directory}/amx.db",
            "logging.level": "error",
            "admission.enabled": "false",  # a standing queue is what is looked at here
        }
        async with Engine(load_config(None, changes)) as engine:
            worker, flooding, asking = (Peer(engine.open_link()) for _ in range(3))
            await worker.say_hello("worker", agents, SLOTS)
            await flooding.say_hello("flood", [], 0)
            await asking.say_hello("quiet", [], 0)
            flood = _Flood(flooding)
            tasks = [asyncio.create_task(_work(worker)), asyncio.create_task(flood.run(in_flight))]
            await asyncio.sleep(warmup_s)
            before, began = flood.answered, time.perf_counter()
            waited = await _ask(asking, seconds)
            rate = (flood.answered - before) / (time.perf_counter() - began)
            for task in tasks:
                if task.done():
                    task.result()  # raises what ended it
                task.cancel()
    return {
        "p50_ms": waited[len(waited) // 2] * 1000,
        "p99_ms": waited[int(len(waited) * 0.99)] * 1000,
        "rate": rate,
    }


async def _main() -> None:
    await child.obey({"measure": measure})


if __name__ == "__main__":
    asyncio.run(_main())
