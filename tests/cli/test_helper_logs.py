"""What helper processes log: in the log of the engine that started them, and once on the standard error."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from amx_server.cli.hosting.log_lines import CAPACITY_BYTES, LogReceiver, LogSender
from amx_server.telemetry.logs import LogEntry
from tests.cli.conftest import EngineProcess, call, running, until

PID = 4711


def entry(event: str | int, **fields: str) -> LogEntry:
    return LogEntry(1_700_000_000_000, "info", str(event), fields)


def events(entries: Iterable[LogEntry]) -> list[str]:
    return [each.event for each in entries]


def lost(entries: Iterable[LogEntry]) -> list[int]:
    """The numbers of lines that were lost, as the log says them."""
    return [int(each.fields["count"]) for each in entries if each.event == "log_lines_lost"]


def in_a_copy(do: Callable[[], None]) -> None:
    """Does something in a copy of this process, and waits for its end."""
    child = os.fork()
    if child == 0:
        try:
            do()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


class Ends:
    """Both ends of a helper's log. The engine reads from `read` on."""

    def __init__(self) -> None:
        self.engine, self.helper = socket.socketpair()
        self.helper.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # far less than what waits beside it
        self.taken: list[LogEntry] = []

    def sender(self) -> LogSender:
        return LogSender(self.helper, asyncio.get_running_loop())

    def read(self) -> LogReceiver:
        return LogReceiver(self.engine, PID, self.taken.append)

    async def until(self, count: int) -> None:
        """Returns when so many lines are here."""
        async with asyncio.timeout(30):
            while len(self.taken) < count:
                await asyncio.sleep(0)


async def test_lines_arrive_as_they_were_written_and_in_their_order() -> None:
    ends = Ends()
    sender, receiver = ends.sender(), ends.read()
    sent = [entry(number, agent="Solver", text="Grüße\n😀\x00") for number in range(1000)]
    for each in sent:
        sender.send(each)
    await ends.until(1000)
    assert ends.taken == sent
    receiver.close()
    sender.close()


async def test_lines_of_threads_arrive_whole_and_each_threads_in_order() -> None:
    ends = Ends()
    sender, receiver = ends.sender(), ends.read()

    def log(name: str) -> None:
        for number in range(500):
            sender.send(entry(number, thread=name))

    threads = [threading.Thread(target=log, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    await ends.until(2000)
    for name in "abcd":
        assert events(each for each in ends.taken if each.fields["thread"] == name) == [str(n) for n in range(500)]
    for thread in threads:
        thread.join()
    receiver.close()
    sender.close()


async def test_flood_that_nobody_reads_waits_for_nobody_and_says_in_its_place_what_was_lost() -> None:
    ends = Ends()
    sender = ends.sender()
    flood = [entry(number, text="x" * 10_000) for number in range(1000)]
    for each in flood:
        sender.send(each)  # the engine does not read: this would not return if it waited
    receiver = ends.read()
    async with asyncio.timeout(30):
        while not lost(ends.taken):
            await asyncio.sleep(0)
    sender.send(entry("after"))
    await ends.until(len(ends.taken) + 1)
    *kept, gap, after = ends.taken
    assert CAPACITY_BYTES < len(kept) * 10_000 < 3 * CAPACITY_BYTES
    assert kept == flood[: len(kept)]
    assert gap.level == "warning"
    assert gap.fields == {"count": str(1000 - len(kept)), "helper": str(os.getpid())}
    assert after.event == "after"
    receiver.close()
    sender.close()


async def test_line_that_is_too_long_is_lost_and_said() -> None:
    ends = Ends()
    sender, receiver = ends.sender(), ends.read()
    for each in (entry("before"), entry("x" * CAPACITY_BYTES), entry("after")):
        sender.send(each)
    await ends.until(3)
    assert events(ends.taken) == ["before", "log_lines_lost", "after"]
    receiver.close()
    sender.close()


async def test_helper_that_ends_politely_waits_until_the_engine_has_its_lines() -> None:
    ends = Ends()
    sender = ends.sender()
    for number in range(100):
        sender.send(entry(number, text="x" * 10_000))  # more than the socket takes
    with ends.engine, ThreadPoolExecutor() as engine:
        reading = engine.submit(lambda: b"".join(iter(lambda: ends.engine.recv(65_536), b"")))
        sender.close()
        lines = reading.result().splitlines()
    assert [json.loads(line)["event"] for line in lines] == [str(number) for number in range(100)]


async def test_helper_whose_engine_has_gone_logs_on() -> None:
    ends = Ends()
    sender = ends.sender()
    sender.send(entry("before"))
    ends.engine.close()
    sender.send(entry("after"))
    sender.close()
    sender.send(entry("from a thread that nobody waits for"))


async def test_helper_killed_in_the_middle_of_a_line_loses_that_line_only() -> None:
    ends = Ends()
    line = msgspec.json.encode(entry("last")) + b"\n"
    ends.helper.sendall(line + line[:20])
    ends.helper.close()
    receiver = ends.read()
    receiver.close()  # at once, as for a process that has ended before the engine has read a line
    assert events(ends.taken) == ["last", "log_lines_lost"]
    assert ends.taken[1].fields == {"count": "1", "helper": str(PID)}


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"\xff\xfe\x00",
        b"{}",
        b"null",
        b"[" * 100_000,
        b'{"at_ms":1,"level":"info","event":"x","more":' + b"[" * 100_000,
        b'{"at_ms":1,"level":"info","event":"\xff","fields":{}}',
        b'{"at_ms":1,"level":"info","event":"\\ud800","fields":{}}',
        b'{"at_ms":1,"level":"info","event":"x","fields":{"a":1}}',
        b'{"at_ms":1,"level":"loud","event":"x","fields":{}}',
        b'{"at_ms":18446744073709551615,"level":"info","event":"x","fields":{}}',
        b'{"at_ms":-1,"level":"info","event":"x","fields":{}}',
        b"x" * CAPACITY_BYTES,
    ],
    ids=lambda noise: repr(noise[:60]),
)
async def test_bytes_that_are_no_line_are_counted_and_cost_no_other_line(noise: bytes) -> None:
    ends = Ends()
    receiver = ends.read()
    line = msgspec.json.encode(entry("line")) + b"\n"
    await asyncio.to_thread(ends.helper.sendall, line + noise + b"\n" + line)
    ends.helper.close()
    await ends.until(3)
    assert sorted(events(ends.taken)) == ["line", "line", "log_lines_lost"]
    receiver.close()


async def test_bytes_without_end_take_no_more_memory_than_a_line_may() -> None:
    ends = Ends()
    receiver = ends.read()
    for _ in range(4):
        await asyncio.to_thread(ends.helper.sendall, b"x" * CAPACITY_BYTES)
    ends.helper.close()
    await ends.until(3)
    receiver.close()
    assert lost(ends.taken) == [1, 1, 1, 1]


async def test_copy_of_the_process_logs_for_itself_and_says_nothing_twice() -> None:
    ends = Ends()
    sender = ends.sender()
    for number in range(200):
        sender.send(entry(number, text="x" * 10_000))  # more than the socket takes, and some is lost
    in_a_copy(lambda: sender.send(entry("this does not arrive: the socket is full")))
    receiver = ends.read()
    async with asyncio.timeout(30):
        while not lost(ends.taken):
            await asyncio.sleep(0)
    in_a_copy(lambda: sender.send(entry("from the copy")))
    sender.send(entry("after"))
    async with asyncio.timeout(30):
        while ends.taken[-1].event != "after":
            await asyncio.sleep(0)
    *kept, _, copied, _ = events(ends.taken)
    assert kept == [str(number) for number in range(len(kept))]
    assert lost(ends.taken) == [200 - len(kept)]
    assert copied == "from the copy"
    receiver.close()
    sender.close()


# --- whole processes -------------------------------------------------------------------------------------------------

AGENTS = """
import logging
import os
import time

from amx_engine import Agent, Context, handler


@Agent
class Solver:
    @handler(execution="process")
    def say(self, what: str, context: Context) -> int:
        print(f"printed {what}", flush=True)
        context.logger.info("solving %s", what)
        logging.getLogger("some.library").warning("careful with %s", what)
        return os.getpid()

    @handler(execution="process")
    def crash(self, what: str, context: Context) -> None:
        context.logger.error("no way out of %s", what)
        os.kill(os.getpid(), 9)

    @handler(execution="process")
    def flood(self, lines: int, context: Context) -> None:
        print("waiting for go", flush=True)
        while not os.path.exists("go"):
            time.sleep(0.01)
        for number in range(lines):
            context.logger.info("line %d %s", number, "x" * 10_000)
        print("flooded", flush=True)


@Agent
class Front:
    @handler
    async def say(self, what: str, context: Context) -> int:
        context.logger.info("passing on %s", what)
        return os.getpid()
"""

SERVE = ("serve", "--load", "solver", "--set", "grpc.port=0", "--set", "http.port=0", "--set", "shutdown_deadline=5")
ONE = ("--set", "scheduler.processes=1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "solver.py").write_text(AGENTS)
    return tmp_path


def ask(engine: EngineProcess, *arguments: str) -> Any:
    answer = call("request", *arguments, "--timeout", "60", environment={"AMX_ADDRESS": engine.address})
    assert answer.code == 0, answer.err
    return answer.json


def logs(engine: EngineProcess, *arguments: str) -> list[Any]:
    """What `amx logs` says."""
    return call("logs", "--json", *arguments, environment={"AMX_ADDRESS": engine.address}).lines


def logged(engine: EngineProcess, event: str, *arguments: str) -> Any:
    """The line of `amx logs` with this event, as soon as there is one. Fails if there are several."""
    until(lambda: any(line["event"] == event for line in logs(engine, *arguments)), repr(event), lambda: engine.output)
    (line,) = (line for line in logs(engine, *arguments) if line["event"] == event)
    return line


def written(engine: EngineProcess, event: str) -> Any:
    """The line of the standard error with this event. Fails if there are none or several."""
    (line,) = (line for line in engine.output.splitlines() if f'"event":"{event}"' in line)
    return json.loads(line)


@pytest.mark.process
def test_what_helpers_log_is_in_the_log_of_their_engine_and_once_on_standard_error(folder: Path) -> None:
    with running(*SERVE, *ONE, folder=folder) as engine:
        assert ask(engine, "Solver/7", '"x"', "--handler", "say") != engine.process.pid
        library = logged(engine, "careful with x", "--level", "warning")
        assert library["fields"] == {"logger": "some.library"}
        agent = logged(engine, "solving x", "--agent", "Solver")
        assert agent["level"] == "info"
        assert agent["fields"].items() >= {"logger": "Solver", "agent": "Solver", "key": "7", "attempt": "1"}.items()
        error = written(engine, "solving x")
        at = datetime.fromisoformat(error["timestamp"])
        assert int(agent["at_ms"]) == round(at.timestamp() * 1000)
        assert error["agent"] == "Solver"
        assert written(engine, "careful with x")["level"] == "warning"
        assert engine.output.count("printed x") == 1
        assert not [line for line in logs(engine) if "printed" in line["event"]]


@pytest.mark.process
def test_agents_of_the_engines_own_process_are_found_in_its_log(folder: Path) -> None:
    with running(*SERVE, *ONE, folder=folder) as engine:
        assert ask(engine, "Front", '"x"', "--handler", "say") == engine.process.pid
        assert logged(engine, "passing on x", "--agent", "Front")["fields"]["agent"] == "Front"
        assert written(engine, "passing on x")["agent"] == "Front"


@pytest.mark.process
def test_last_words_of_a_helper_that_is_killed_arrive_before_the_engine_says_that_it_died(folder: Path) -> None:
    with running(*SERVE, *ONE, "--set", "delivery.redelivery_attempts=1", folder=folder) as engine:
        call("request", "Solver", '"x"', "--handler", "crash", environment={"AMX_ADDRESS": engine.address})
        until(lambda: engine.output.count('"helper_ended"') == 2, "both to be killed", lambda: engine.output)
        said = [line["event"] for line in logs(engine)]
        assert [event for event in said if event in ("no way out of x", "helper_ended")] == [
            "no way out of x",
            "helper_ended",
        ] * 2


@pytest.mark.process
def test_helper_that_floods_its_log_does_not_wait_for_an_engine_that_stands_still(folder: Path) -> None:
    with running(*SERVE, *ONE, folder=folder) as engine:
        environment = {"AMX_ADDRESS": engine.address}
        assert call("send", "Solver", "1000", "--handler", "flood", environment=environment).code == 0
        until(lambda: "waiting for go" in engine.output, "the flood to begin", lambda: engine.output)
        engine.process.send_signal(signal.SIGSTOP)
        try:
            (folder / "go").touch()
            until(lambda: "flooded" in engine.output, "the flood to be over", lambda: engine.output[-1000:])
        finally:
            engine.process.send_signal(signal.SIGCONT)
        gap = int(logged(engine, "log_lines_lost")["fields"]["count"])
        arrived = [line["event"].split()[1] for line in logs(engine, "--agent", "Solver", "--lines", "5000")]
        assert arrived == [str(number) for number in range(1000 - gap)]
        # The standard error has them all.
        assert [int(number) for number in re.findall(r'"event":"line (\d+) ', engine.output)] == list(range(1000))
