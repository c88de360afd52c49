"""`python -m conformance matrix`: every language's client asks every language's agents, through one engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from amx.v1 import common_pb2, engine_pb2, engine_pb2_grpc, message_pb2
from conformance.probes import Probe, decode, difference, probes, wanted
from conformance.runner.engine_client import hosted
from conformance.runner.engine_process import EngineProcess
from conformance.runner.grpc_testee import ConnectingTestee
from conformance.runner.grpc_wire import OPTIONS
from conformance.runner.peer import Broken
from conformance.runner.testees import ENGINE, Testee

AGENTS = ("Echo", "Counter", "Failing", "Slow", "Stream", "Interpreter")
_PROBE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one client at one agent's host. problems: name of the probe, and what was wrong."""

    client: str
    agent: str
    asked: int
    problems: tuple[tuple[str, str], ...]


async def run(testees: Sequence[Testee]) -> list[Cell]:
    """Starts an engine and every testee, each with its own prefix, and lets every one ask every other, and itself.

    Raises Broken if one of them cannot be started or does not host its agents.
    """
    engine = EngineProcess()
    running: list[ConnectingTestee] = []
    try:
        # Handlers that fail on purpose must not open the circuit for the next probe.
        await engine.start({"breaker.failure_threshold": 1_000_000})
        for testee in testees:
            command = [*testee.start, "--prefix", f"{testee.name}.", "--agents", ",".join(AGENTS)]
            running.append(ConnectingTestee(await ConnectingTestee.launch(command, engine.address)))
        for testee, process in zip(testees, running, strict=True):
            await hosted(engine.address, [f"{testee.name}.{agent}" for agent in AGENTS], process)
        async with grpc.aio.insecure_channel(engine.address, options=OPTIONS) as channel:
            stub = engine_pb2_grpc.EngineServiceStub(channel)
            return [await _cell(stub, client, agent) for client in testees for agent in testees]
    finally:
        for process in running:
            await process.kill()
        await engine.close()


def table(cells: Sequence[Cell]) -> str:
    """The cells as a table for people: what was right of what was asked; what was wrong, below."""
    names = list(dict.fromkeys(cell.client for cell in cells))
    by_pair = {(cell.client, cell.agent): cell for cell in cells}
    rows = [["client \\ agent", *names]]
    for client in names:
        row = [client]
        for agent in names:
            cell = by_pair[client, agent]
            row.append(f"{cell.asked - len(cell.problems)}/{cell.asked}")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for cell in cells:
        for name, problem in cell.problems:
            lines.append(f"FAIL {cell.client} asks {cell.agent}: {name}\n  {problem}")
    return "\n".join(lines)


async def _cell(stub: Any, client: Testee, agent: Testee) -> Cell:
    problems = []
    chosen = wanted(probes(f"{client.name}.", f"{agent.name}."), (client.features, agent.features))
    for probe in chosen:
        if problem := await _ask(stub, f"{client.name}.Interpreter", probe):
            problems.append((probe.name, problem))
    return Cell(client.name, agent.name, len(chosen), tuple(problems))


async def _ask(stub: Any, interpreter: str, probe: Probe) -> str:
    """What is wrong with the outcome of a probe; empty if nothing is."""
    payload = common_pb2.Payload(data=json.dumps([probe.operation], ensure_ascii=False).encode())
    message = message_pb2.Message(agent=interpreter, handler="run", payload=payload)
    try:
        response = await stub.Request(engine_pb2.RequestRequest(message=message), timeout=_PROBE_SECONDS)
        (outcome,) = decode(response.result.data)
    except grpc.aio.AioRpcError as error:
        return f"the client failed: {error.code().name} {error.details()}"
    except (ValueError, TypeError) as error:
        return f"the client answers with what is no list of one outcome: {error}"
    if outcome == {} and probe.outcome == {"ok": None}:
        return ""  # no value
    return difference(probe.outcome, outcome, ordered=probe.ordered)


def main(testees: Sequence[Testee], *, build: bool = True) -> int:
    """Prints the matrix. 1 if anything is wrong in it, or if a language cannot be built."""
    return asyncio.run(_main([testee for testee in testees if testee.name != ENGINE], build))


async def _main(testees: Sequence[Testee], build: bool) -> int:
    ready = []
    for testee in testees:
        if why := await testee.available():
            print(f"SKIPPED {testee.name}: {why}")
        elif build and (why := await testee.built()):
            print(f"{testee.name} cannot be built: {why}")
            return 1
        else:
            ready.append(testee)
    try:
        cells = await run(ready)
    except Broken as broken:
        print(f"ERROR {broken}")
        return 1
    print(table(cells))
    return 0 if is_good(cells) else 1


def is_good(cells: Sequence[Cell]) -> bool:
    """Whether something was asked everywhere, and everything was answered as it must be."""
    return bool(cells) and all(cell.asked and not cell.problems for cell in cells)
