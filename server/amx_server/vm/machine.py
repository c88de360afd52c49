"""The machine: one process with an engine and all agents in it, which talk to a model until the time is over.

Run as a process (see `running`), it reports in JSON, one object a line; see `Report`. It
has no terminal, and what it takes is measured from outside.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from amx.v1 import memory_pb2
from amx_engine._definition import HostedAgent
from amx_engine._link import Link
from amx_engine._message import outgoing
from amx_engine._transport import EmbeddedConnector
from amx_server.core.collector import tuned_collector
from amx_server.core.config import EngineConfig
from amx_server.inference.io import HttpRequest, Operation, WaitReason
from amx_server.runtime.engine import Engine
from amx_server.runtime.scheduling.waits import WaitReason as Waiting
from amx_server.runtime.services import LentContent, services
from amx_server.vm.agent import NAME, Assistant, Step
from amx_server.vm.conversation import prompt_of, tool_set
from amx_server.vm.options import VmOptions
from amx_server.vm.pauses import Pauses

_REPORT_SECONDS = 1.0
_SENT_AT_ONCE = 10
_SETTLING_SECONDS = 0.02
# Agents wait for a model that takes seconds. Measured with 1,000 of them: 2, 5, 10, 20 and 50 ms save 14, 20, 27, 33
# and 34 % of the processor (medians of three runs each).
_COMMIT_DELAY_S = 0.02
_FOREVER = 10 * 365 * 86_400.0
PROVIDER = "model"


@dataclass(slots=True)
class Report:
    """What the machine says of itself. Times in seconds, sizes in bytes; rates and latencies since the last report, in
    the one that is `ended` since the agents began.

    event: `engine` (it runs, without agents), `spawned`, `running`, `ended`. cpu: of the process since its start.
    active: agents that compute, or are about to. waiting: agents by what they wait for. latency: of the model's
    answers, mean. steps: model calls answered so far. pause: 99.9 % of the pauses of the loop are shorter.
    plain: content, each object once, plain. retained: as often as it is referred to. stored: as it lies in memory,
    without the index. disk: of all files. packed: plain size over size, of what lies on disk.
    """

    event: str
    at: float
    cpu: float
    agents: int = 0
    engine_start: float = 0.0
    spawn: float = 0.0
    active: int = 0
    waiting: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    failures: int = 0
    rate: float = 0.0
    latency: float = 0.0
    pause: float = 0.0
    pause_longest: float = 0.0
    objects: int = 0
    plain: int = 0
    retained: int = 0
    stored: int = 0
    disk: int = 0
    packed: float = 1.0


class Machine:
    """An engine with a thousand agents in its process. An async context manager; entered, its engine runs."""

    def __init__(self, options: VmOptions, provider: str) -> None:
        """provider: base address of the model."""
        self.options = options
        concurrency = {"initial": options.agents, "maximum": options.agents}
        model = {"base_url": provider, "connections": options.agents, "concurrency": concurrency}
        self._config = EngineConfig.read(
            {
                "storage": {
                    "path": str(Path(options.folder) / "vm.db"),
                    "cache_bytes": 256 << 10,
                    "commit_delay": _COMMIT_DELAY_S,
                },
                "memory": {"budget": options.memory},
                "io": {"cache_bytes": 0, "providers": {PROVIDER: model}},
                "logging": {"level": "error"},
            }
        )
        self.engine = Engine(self._config)
        self.pauses = Pauses()
        self._stack = AsyncExitStack()
        self._began = time.monotonic()
        self._engine_start = self._spawn = 0.0
        self._taught = 0  # calls that were no steps
        self._first = self._last = (self._began, 0, 0.0, 0)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.engine)
            await stack.enter_async_context(tuned_collector(self.engine.work_done))
            # Every agent may wait for the model at once.
            connector = EmbeddedConnector(self.engine.open_link, services=services(self.engine))
            self._link = Link(connector, [HostedAgent.of(Assistant)], concurrency=self.options.agents + 64)
            stack.push_async_callback(self._link.close, 0.0)
            await self._link.open(0.0)
            await stack.enter_async_context(self.pauses)
            self._stack = stack.pop_all()
        self._engine_start = time.monotonic() - self._began
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def spawn(self) -> float:
        """Makes the agents, each with prompt, tools and memory, and returns how many seconds that took.

        The model gets the prompt once: from then on its address says it, here as in the processes compared with.
        """
        prompt = prompt_of(self.options.prompt_bytes)
        tools = json.dumps(tool_set()).encode()
        engine = self.engine
        began = time.perf_counter()
        content = LentContent(engine.content)
        written = {"prompt": content.put(prompt), "tools": content.put(tools)}
        memory = [_put(name, address) for name, address in written.items()]
        keys = (str(number) for number in range(self.options.agents))
        await engine.population.spawn(engine.namespace("default"), NAME, keys, memory)
        self._spawn = time.perf_counter() - began
        path = f"/prompts/{written['prompt'].removeprefix('content:')}"
        request = HttpRequest("PUT", path, prompt, content_type="text/plain")
        await engine.io.call(Operation(PROVIDER, "prompt", request, WaitReason.MODEL))
        self._taught = 1
        return self._spawn

    async def start(self) -> None:
        """Tells every agent to begin."""
        until = time.time() + (self.options.seconds or _FOREVER)
        self._first = self._last = (time.monotonic(), self._steps(), *self._model_waits())

        async def begin(number: int) -> None:
            step = Step(number=1, last=self.options.steps, until=until)
            await self._link.send(outgoing(NAME, step, str(number), handler="step", durable=False))

        for first in range(0, self.options.agents, _SENT_AT_ONCE):
            last = min(first + _SENT_AT_ONCE, self.options.agents)
            await asyncio.gather(*(begin(number) for number in range(first, last)))

    async def settled(self) -> None:
        """Returns when no agent has anything to do any more, not even once what it wrote last is stored."""
        while True:
            while self._busy():
                await asyncio.sleep(_SETTLING_SECONDS)
            work = self.engine.work_done()
            await self.engine.store.flush()
            await asyncio.sleep(_SETTLING_SECONDS)
            if not self._busy() and self.engine.work_done() == work:
                return

    def report(self, event: str) -> Report:
        """The machine now."""
        now, cpu, steps = time.monotonic(), time.process_time(), self._steps()
        seconds, waits = self._model_waits()
        since, steps_before, seconds_before, waits_before = self._first if event == "ended" else self._last
        self._last = (now, steps, seconds, waits)
        elapsed, answered = max(1e-9, now - since), waits - waits_before
        waiting = {str(reason): count for reason, count in self.engine.waits.counts.items() if count}
        stats = self.engine.content.stats()
        return Report(
            event,
            now - self._began,
            cpu,
            agents=self.engine.placement.instances,
            engine_start=self._engine_start,
            spawn=self._spawn,
            active=max(0, self._busy() - sum(waiting.values())),
            waiting=waiting,
            steps=steps,
            failures=sum(self.engine.io.stats().failures.values()),
            rate=(steps - steps_before) / elapsed,
            latency=(seconds - seconds_before) / answered if answered else 0.0,
            pause=self.pauses.quantile(0.999),
            pause_longest=self.pauses.longest,
            objects=stats.objects,
            plain=stats.plain_bytes,
            retained=stats.retained_bytes,
            stored=stats.hot.bytes + stats.warm.bytes,
            disk=stats.disk_bytes,
            packed=stats.compression_ratio,
        )

    def _busy(self) -> int:
        return self._link.runner.slots_in_use

    def _steps(self) -> int:
        return self.engine.io.stats().providers[PROVIDER].succeeded - self._taught

    def _model_waits(self) -> tuple[float, int]:
        histogram = self.engine.waits.seconds[Waiting.MODEL]
        return histogram.total_seconds, sum(histogram.counts)


def _put(name: str, value: str) -> memory_pb2.MemoryChange:
    change = memory_pb2.MemoryChange(name=name)
    change.put.value = json.dumps(value).encode()
    return change


@asynccontextmanager
async def model(options: VmOptions) -> AsyncIterator[str]:
    """A model provider in a process of its own; gives its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "amx_server.inference.local_provider",
        f"--latency-min={options.latency_min}", f"--latency-max={options.latency_max}",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        found = re.search(r"http://\S+", line)
        if found is None:
            raise RuntimeError(f"the model provider did not start: {line!r}")
        yield found[0]
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def serve(options: VmOptions, say: Callable[[Report], None]) -> None:
    """Runs a machine until its time is over, or SIGTERM, SIGINT, or the end of its input; reports all the while.

    After the last report it waits for the end of its input: until then it can be looked at from outside.
    """
    stop, parted = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await loop.connect_read_pipe(lambda: _Input(stop, parted), sys.stdin)
    async with model(options) as provider, Machine(options, provider) as machine:
        say(machine.report("engine"))
        await machine.spawn()
        say(machine.report("spawned"))
        await machine.start()
        over = asyncio.create_task(machine.settled())
        stopped = asyncio.create_task(stop.wait())
        while True:
            done, _ = await asyncio.wait({over, stopped}, timeout=_REPORT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if done:
                break
            say(machine.report("running"))
        for task in (over, stopped):
            task.cancel()
        say(machine.report("ended"))
        await parted.wait()


class _Input(asyncio.Protocol):
    """Waits for the end of input: whoever started the machine is gone, or has seen enough."""

    def __init__(self, *ended: asyncio.Event) -> None:
        self._ended = ended

    def eof_received(self) -> None:
        for event in self._ended:
            event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.eof_received()


def _say(report: Report) -> None:
    print(json.dumps(asdict(report)), flush=True)


def main() -> None:
    """The process."""
    _run(serve(VmOptions.from_json(sys.argv[1]), _say))


def _run(program: Coroutine[None, None, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(program)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(program)


if __name__ == "__main__":
    main()
