"""What agents that crash in loops cost those that do not: their throughput with and without such neighbours.

Runs in a process of its own, with the real engine and links in memory instead of sockets. Every agent always has one
request under way, asked again at once when it is answered. A supervisor restarts those that fail.
"""

from __future__ import annotations

import asyncio
import time
from tempfile import TemporaryDirectory

from amx.v1 import agent_pb2, link_pb2
from amx_server.core.config import load_config
from amx_server.runtime.engine import Engine
from benchmarks import child
from benchmarks.link_peer import Peer
from benchmarks.load import Figures, payloads

AGENT = "Worker"
SLOTS = 256  # handlers that may run at a time
_CONTENT = payloads(1)[0]


class _Neighbours:
    """The agents, some of which crash once they are told to. answered: requests of those that never do."""

    def __init__(self, worker: Peer, client: Peer, agents: int) -> None:
        self._worker = worker
        self._client = client
        self._bad = {f"k{number}" for number in range(0, agents, 4)}
        self._keys = [f"k{number}" for number in range(agents)]
        self._asked: dict[int, str] = {}
        self._calls = 0
        self.crashing = False
        self.answered = 0
        self.crashes = 0

    async def begin(self) -> None:
        await self._client.say([self._request(key) for key in self._keys])

    def _request(self, key: str) -> link_pb2.LinkItem:
        self._calls += 1
        self._asked[self._calls] = key
        item = link_pb2.LinkItem(id=self._calls)
        message = item.call.request
        item.call.timeout_ms = 3_600_000
        message.agent, message.key, message.handler = AGENT, key, "work"
        message.payload.data = _CONTENT
        return item

    async def work(self) -> None:
        while True:
            completions = []
            for item in await self._worker.hear():
                if not item.HasField("invoke"):
                    continue
                done = link_pb2.LinkItem(id=item.id)
                done.complete.attempt, done.complete.epoch = item.invoke.attempt, item.invoke.epoch
                if self.crashing and item.invoke.message.key in self._bad:
                    self.crashes += 1
                    done.complete.failure.code, done.complete.failure.reason = 13, "CRASHED"
                else:
                    done.complete.result.data = _CONTENT
                completions.append(done)
            await self._worker.say(completions)

    async def ask(self) -> None:
        while True:
            again = []
            for item in await self._client.hear():
                if not item.HasField("reply"):
                    continue
                key = self._asked.pop(item.id)
                if key not in self._bad:
                    if item.reply.result.data != _CONTENT:
                        raise RuntimeError(f"an agent that does not crash failed: {item.reply}")
                    self.answered += 1
                again.append(self._request(key))
            await self._client.say(again)

    async def rate(self, seconds: float) -> float:
        """Requests answered a second, of those that never crash. A second is one of this process's CPU time: it does
        nothing else, so what else the machine does matters little.
        """
        before, started = self.answered, time.process_time()
        while time.process_time() - started < seconds:
            await asyncio.sleep(0.02)
        return (self.answered - before) / (time.process_time() - started)


async def measure(agents: int, warmup_s: float, seconds: float) -> Figures:
    """ratio: throughput of the agents that never crash, while a quarter of all crash in loops, to that before.

    From the first crash on: what most of them cost is at the beginning, when all of them crash at once.
    """
    supervised = agent_pb2.AgentDefinition(name=AGENT, version="1.0.0")
    supervised.handlers.add(name="work")
    supervisor = agent_pb2.AgentDefinition(name="Supervisor", version="1.0.0")
    supervisor.handlers.add(name="status")
    supervisor.supervisor.children.add(agent=AGENT, key="*")
    with TemporaryDirectory(prefix="bench-crashes-") as directory:
        changes = {
            "storage.path": f"{directory}/amx.db",
            "logging.level": "error",
            "limits.max_calls_in_flight": str(agents),
            "admission.enabled": "false",  # 10,000 callers in one process make it late; that is not the question here
        }
        async with Engine(load_config(None, changes)) as engine:
            worker, client = Peer(engine.open_link()), Peer(engine.open_link())
            await worker.say_hello("worker", [supervised, supervisor], SLOTS)
            await client.say_hello("client", [], SLOTS)
            neighbours = _Neighbours(worker, client, agents)
            tasks = [asyncio.create_task(neighbours.work()), asyncio.create_task(neighbours.ask())]
            await neighbours.begin()
            await neighbours.rate(warmup_s)
            undisturbed = await neighbours.rate(seconds)
            neighbours.crashing = True
            beside_crashes = await neighbours.rate(seconds)
            for task in tasks:
                if task.done():
                    task.result()  # raises what ended it
                task.cancel()
            if not neighbours.crashes:
                raise RuntimeError("nothing crashed")
    return {"ratio": beside_crashes / undisturbed, "rate": beside_crashes}


async def _main() -> None:
    await child.obey({"measure": measure})


if __name__ == "__main__":
    asyncio.run(_main())
