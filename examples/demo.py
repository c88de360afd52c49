"""`make demo`: 28,000 real records through a pipeline and two agents, while engine and worker are killed.

The agents are in airports.py. Everything they counted is compared with what the file says; any difference ends the
program with exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import grpc.aio
from rich.console import Console
from rich.table import Table

from amx.v1 import engine_pb2, engine_pb2_grpc
from amx_engine import AmxEngine, AmxError, run
from examples.airports import HIGH_FT, LOW_FT, CountrySummary

Row = dict[str, str]

IN_FLIGHT = 256
# Seconds: for a process to start, for a send that a restart interrupts, and for what is queued to be worked off.
START_TIMEOUT, SEND_TIMEOUT, IDLE_TIMEOUT = 20.0, 60.0, 120.0

console = Console(highlight=False, soft_wrap=True)


# --- what the file says ----------------------------------------------------------------------------------------------


def read_rows(limit: int | None) -> list[Row]:
    """The rows of the data set; with a limit, that many from all over the file."""
    spec = find_spec("airportsdata")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("demo: the data set is missing; install it: pip install 'amx-engine[demo]'")
    with (Path(spec.submodule_search_locations[0]) / "airports.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return rows if limit is None or limit >= len(rows) else [rows[i * len(rows) // limit] for i in range(limit)]


@dataclass
class Account:
    """What there is to count. The demo makes one from the file and one from the agents, and compares them."""

    tally: Counter[str] = field(default_factory=Counter)
    countries: dict[str, CountrySummary] = field(default_factory=dict)
    extremes: dict[str, list[int]] = field(default_factory=dict)

    def differences(self, other: Account) -> Iterator[str]:
        """One line for everything in which `other` differs from this."""
        for name, mine, theirs in (
            ("intake", self.tally, other.tally),
            ("countries", self.countries, other.countries),
            ("extremes", self.extremes, other.extremes),
        ):
            for key in sorted({*mine, *theirs}):
                if mine.get(key) != theirs.get(key):
                    yield f"{name}, {key}: the file says {mine.get(key)}, the agents say {theirs.get(key)}"


def count_file(rows: list[Row]) -> Account:
    """Counts without any agent, in one pass over the file."""
    account = Account()
    elevations: dict[str, dict[str, int]] = defaultdict(dict)
    zones: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if not row["iata"] or not row["name"]:
            account.tally["skipped"] += 1
            continue
        account.tally["passed_on"] += 1
        feet = round(float(row["elevation"] or 0))
        elevations[row["country"]][row["iata"]] = feet
        zones[row["country"]].add(row["tz"])
        if feet >= HIGH_FT or feet < LOW_FT:
            account.extremes[row["iata"]] = [feet, 1]
    for country, by_code in elevations.items():
        highest = min(by_code, key=lambda code: (-by_code[code], code))
        account.countries[country] = CountrySummary(
            len(by_code), sum(by_code.values()), highest, sorted(zones[country])
        )
    return account


# --- processes -------------------------------------------------------------------------------------------------------


class Process:
    """A child process that can be killed and started again. Its output goes to a file."""

    def __init__(self, name: str, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.command = command
        self.log = folder / f"{name}.log"
        self._environment = {**os.environ, **environment}
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process; its log begins anew."""
        with self.log.open("wb") as log:
            self._running = subprocess.Popen(
                [sys.executable, *self.command], stdout=log, stderr=log, env=self._environment
            )

    async def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in what the process says. Ends the program if it stops before, or says it too late."""
        assert self._running is not None
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._running.poll() is None:
            if match := re.search(pattern, self.log.read_text(errors="replace")):
                return match
            await asyncio.sleep(0.02)
        ended = self._running.returncode
        state = f"after {START_TIMEOUT:.0f} s it still runs" if ended is None else f"it ended with exit code {ended}"
        said = self.log.read_text(errors="replace") or "(nothing)"
        raise SystemExit(f"demo: the {self.name} did not start: {state}; it said:\n{said}")

    async def end(self, number: signal.Signals) -> int | None:
        """Sends a signal and waits for the end; returns the process id, None if it was not running."""
        process, self._running = self._running, None
        if process is None:
            return None
        process.send_signal(number)
        await asyncio.to_thread(process.wait)
        return process.pid


class Machines:
    """One engine and one worker, as processes of their own, with everything they store in one folder."""

    def __init__(self, folder: Path) -> None:
        storage = f"storage.path={folder / 'amx.db'}"
        # A killed worker's messages go to another one after the time in which it might have come back.
        settings = (storage, "http.enabled=false", "logging.level=warning", "links.resume_window=2s")
        self._settings = [part for setting in settings for part in ("--set", setting)]
        self._folder = folder
        self.address = ""
        self.engine = Process("engine", [], folder, {})
        self.worker = Process("worker", [], folder, {})

    async def start(self) -> None:
        """Starts both; afterwards `address` says where the engine is."""
        await self._start_engine(0)
        self.worker = Process("worker", ["-m", "examples.airports"], self._folder, {"AMX_ADDRESS": self.address})
        await self._start_worker()

    async def kill_engine(self) -> None:
        """SIGKILL, then the same engine on the same store and port."""
        pid = await self.engine.end(signal.SIGKILL)
        say(f"engine (process {pid}) killed with SIGKILL", "red")
        began = time.monotonic()
        await self._start_engine(int(self.address.rpartition(":")[2]))
        say(f"engine serves again after {time.monotonic() - began:.1f} s, from what it had stored", "green")

    async def kill_worker(self) -> None:
        """SIGKILL, then a new worker."""
        pid = await self.worker.end(signal.SIGKILL)
        say(f"worker (process {pid}) killed with SIGKILL", "red")
        await self._start_worker()
        say("another worker started", "green")

    async def stop(self) -> None:
        """Ends both politely."""
        await self.worker.end(signal.SIGTERM)
        await self.engine.end(signal.SIGTERM)

    async def _start_worker(self) -> None:
        self.worker.start()
        await self.worker.wait_for("hosting")

    async def _start_engine(self, port: int) -> None:
        command = ["-m", "amx_server.cli", "serve", "--set", f"grpc.port={port}", *self._settings]
        self.engine = Process("engine", command, self._folder, {})
        self.engine.start()
        self.address = (await self.engine.wait_for(r"gRPC on (\S+:\d+)"))[1].rstrip(",")


# --- the demonstration -----------------------------------------------------------------------------------------------


def say(text: str, style: str = "") -> None:
    console.print(f"[dim]{time.monotonic() - BEGAN:5.1f} s[/dim]  {f'[{style}]{text}[/{style}]' if style else text}")


def intake_key(row: Row) -> str:
    """Which of the pipeline's instances takes a row: hundreds of them, so that they work side by side."""
    return row["icao"][-2:]


class Sender:
    """Sends rows to the pipeline, durably, under ids that make a repeated row recognisable."""

    def __init__(self, engine: AmxEngine) -> None:
        self._engine = engine
        self.acknowledged = 0
        self.duplicates = 0
        self._progress = asyncio.Event()

    async def send(self, rows: list[Row]) -> None:
        """Returns when every row is acknowledged, that is, stored."""
        remaining = iter(rows)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(IN_FLIGHT):
                tasks.create_task(self._send_from(remaining))

    async def _send_from(self, rows: Iterator[Row]) -> None:
        for row in rows:
            receipt = await self._engine.send(
                "AirportIntake", row, key=intake_key(row), message_id=f"airport-{row['icao']}", timeout=SEND_TIMEOUT
            )
            self.acknowledged += 1
            self.duplicates += receipt.duplicate
            self._progress.set()

    async def reached(self, count: int) -> None:
        """Returns when that many rows are acknowledged."""
        while self.acknowledged < count:
            self._progress.clear()
            await self._progress.wait()


UNFINISHED = (
    engine_pb2.INVOCATION_STATE_QUEUED,
    engine_pb2.INVOCATION_STATE_RUNNING,
    engine_pb2.INVOCATION_STATE_BACKING_OFF,
)


async def wait_until_idle(address: str) -> None:
    """Returns when no message waits, runs or is about to be repeated. Ends the program if that takes too long."""
    deadline = time.monotonic() + IDLE_TIMEOUT
    async with grpc.aio.insecure_channel(address) as channel:
        stub = engine_pb2_grpc.EngineServiceStub(channel)
        while time.monotonic() < deadline:
            if not any([await has_invocations(stub, state) for state in UNFINISHED]):
                return
            await asyncio.sleep(0.1)
        left = (await stub.GetEngine(engine_pb2.GetEngineRequest())).queued_messages
    raise SystemExit(f"demo: after {IDLE_TIMEOUT:.0f} s {left:,} messages still wait; is this machine very busy?")


async def has_invocations(stub: engine_pb2_grpc.EngineServiceAsyncStub, state: engine_pb2.InvocationState) -> bool:
    """Whether any invocation is in this state. A page may be empty and still have a next one."""
    request = engine_pb2.ListInvocationsRequest(state=state, page_size=1000)
    while True:
        page = await stub.ListInvocations(request)
        if page.invocations or not page.next_page_token:
            return bool(page.invocations)
        request.page_token = page.next_page_token


async def ask_agents(engine: AmxEngine, rows: list[Row]) -> Account:
    """What the agents have counted, asked of every instance there can be."""
    account = Account()
    limit = asyncio.Semaphore(IN_FLIGHT)

    async def intake(key: str) -> None:
        async with limit:
            account.tally.update(await engine.memory("AirportIntake", key).get("tally", default={}))

    async def country(code: str) -> None:
        async with limit:
            summary = await engine.request(
                "Country", key=code, handler="summary", output=CountrySummary, timeout=SEND_TIMEOUT
            )
        if summary.airports:
            account.countries[code] = summary

    async with asyncio.TaskGroup() as tasks:
        for key in {intake_key(row) for row in rows}:
            tasks.create_task(intake(key))
        for code in {row["country"] for row in rows}:
            tasks.create_task(country(code))
    account.extremes = await engine.request("Extremes", handler="report", timeout=SEND_TIMEOUT)
    return account


def first_error(errors: BaseException) -> BaseException:
    """One of possibly many nested errors; the others are rarely news."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors


def show(expected: Account, counted: Account) -> None:
    """The largest countries, and everything together, beside what the file says."""
    table = Table(title="Airports with an IATA code, counted by one agent per country")
    table.add_column("country")
    for column in ("airports", "in file", "sum of feet", "in file", "zones"):
        table.add_column(column, justify="right")
    table.add_column("highest")
    nothing = CountrySummary(0, 0, "", [])
    largest = sorted(expected.countries, key=lambda code: -expected.countries[code].airports)
    for code in largest[:8]:
        mine, theirs = counted.countries.get(code, nothing), expected.countries[code]
        table.add_row(
            code, f"{mine.airports:,}", f"{theirs.airports:,}", f"{mine.elevation_sum_ft:,}",
            f"{theirs.elevation_sum_ft:,}", str(len(mine.zones)), mine.highest,
        )  # fmt: skip
    table.add_section()
    mine_all, theirs_all = counted.countries.values(), expected.countries.values()
    table.add_row(
        f"all {len(counted.countries)}",
        f"{sum(one.airports for one in mine_all):,}", f"{sum(one.airports for one in theirs_all):,}",
        f"{sum(one.elevation_sum_ft for one in mine_all):,}", f"{sum(one.elevation_sum_ft for one in theirs_all):,}",
        str(len({zone for one in mine_all for zone in one.zones})), "",
    )  # fmt: skip
    console.print(table)


@contextlib.asynccontextmanager
async def machines() -> AsyncIterator[Machines]:
    """An engine and a worker in a folder that goes when they go."""
    with tempfile.TemporaryDirectory(prefix="amx-demo-") as folder:
        running = Machines(Path(folder))
        try:
            await running.start()
            yield running
        finally:
            await running.stop()


async def demonstrate(rows: list[Row]) -> int:
    """Runs the demonstration and returns the exit code."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)  # no process outlives the demo
    expected = count_file(rows)
    async with machines() as running:
        say(f"engine at {running.address}, worker with a pipeline and two agents, each a process of its own")
        async with AmxEngine.builder().with_address(running.address).build() as engine:
            sender = Sender(engine)
            say(f"sending {len(rows):,} rows to the pipeline; each is stored before it is acknowledged")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(sender.send(rows))
                await sender.reached(len(rows) * 2 // 5)
                say(f"{sender.acknowledged:,} rows acknowledged")
                await running.kill_engine()
                await sender.reached(len(rows) * 4 // 5)
                say(f"{sender.acknowledged:,} rows acknowledged")
                await running.kill_worker()
            say(f"all {sender.acknowledged:,} rows acknowledged; {sender.duplicates:,} of them had been sent twice")
            again = rows[:: max(1, len(rows) // 1000)]
            before = sender.duplicates
            await sender.send(again)
            recognised = sender.duplicates - before
            say(f"sent {len(again):,} rows once more on purpose: {recognised:,} recognised as repeats")
            await wait_until_idle(running.address)
            say("nothing waits any more; asking the agents what they counted")
            counted = await ask_agents(engine, rows)
    show(expected, counted)
    different = list(expected.differences(counted))
    if recognised != len(again):
        different.append(f"{len(again) - recognised} repeated rows were not recognised as repeats")
    for line in different[:20]:
        console.print(f"[red]different:[/red] {line}")
    if different:
        console.print(f"[red]{len(different)} differences: not everything was processed exactly once in effect[/red]")
        return 1
    seen = sum(counted.tally.values())
    console.print(
        f"[green]{seen:,} rows seen, {counted.tally['passed_on']:,} passed on, {len(counted.extremes)} extremes noted:"
        " every number equals the file's. Processed exactly once in effect, through two kills.[/green]"
    )
    return 0


BEGAN = time.monotonic()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--records", type=int, help="how many rows of the file to take; all of them unless given")
    arguments = parser.parse_args()
    logging.getLogger("amx_engine").addHandler(logging.NullHandler())  # what happens to the link is told in our words
    if arguments.records is not None and arguments.records < 10:
        parser.error("--records must be at least 10")
    code = 1
    try:
        code = run(demonstrate(read_rows(arguments.records)))
    except* AmxError as errors:
        console.print(f"[red]demo: {first_error(errors)!r}[/red]")
    except* (KeyboardInterrupt, asyncio.CancelledError):
        console.print("demo: interrupted")
    return code


if __name__ == "__main__":
    sys.exit(main())
