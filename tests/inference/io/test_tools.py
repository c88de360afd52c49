"""Tools: run once, in time or not at all; what they leave behind is ended, and what cannot be ended is counted."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from amx_server.core.errors import AmxError, invalid
from amx_server.inference.io import IoManager
from amx_server.inference.io.programs import Program, run_program
from amx_server.inference.io.tools import Tool, Tools

PATIENCE = 20.0


@asynccontextmanager
async def workshop(**options: Any) -> AsyncIterator[tuple[IoManager, Tools]]:
    tools = Tools(**options)
    async with IoManager() as io:
        await io.add(tools)
        yield io, tools


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def failure(awaitable: Any) -> AmxError:
    with pytest.raises(AmxError) as raised:
        await awaitable
    return raised.value


def python(code: str, **fields: Any) -> Program:
    return Program("script", (sys.executable, "-c", code), **fields)


def alive(pid: int) -> bool:
    """Whether a process is there and has not just not been collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- functions -------------------------------------------------------------------------------------------------------


async def test_coroutine_and_blocking_function_give_their_results() -> None:
    async def double(x: int) -> int:
        return 2 * x

    def name_of_thread(x: int) -> tuple[int, str]:
        return x, threading.current_thread().name

    async with workshop() as (io, tools):
        assert await io.call(tools.call(Tool("double", double), {"x": 21})) == 42
        assert await io.call(tools.call(Tool("where", name_of_thread), {"x": 1})) == (1, "amx-tool-where")
        assert tools.threads == tools.overdue == 0


async def test_blocking_tool_holds_up_nobody_and_sees_the_callers_context() -> None:
    trace = contextvars.ContextVar("trace", default="none")
    trace.set("mine")
    release = threading.Event()

    def wait() -> str:
        release.wait(PATIENCE)
        return trace.get()

    async with workshop() as (io, tools):
        waiting = asyncio.create_task(io.call(tools.call(Tool("wait", wait), {})))
        await until(lambda: tools.threads)
        release.set()
        assert await waiting == "mine"


async def test_tool_that_raises_has_failed_and_its_own_errors_pass_through() -> None:
    async def raises() -> None:
        raise KeyError("a")

    def stops() -> None:
        raise StopIteration

    def exits() -> None:
        sys.exit(3)

    def refuses() -> None:
        raise invalid("TOO_COLD", "no")

    async with workshop() as (io, tools):
        for function, words in ((raises, "KeyError: 'a'"), (stops, "StopIteration"), (exits, "SystemExit")):
            error = await failure(io.call(tools.call(Tool("bad", function), {})))
            assert error.reason == "TOOL_FAILED" and words in error.message and not error.retryable
        assert (await failure(io.call(tools.call(Tool("cold", refuses), {})))).reason == "TOO_COLD"
        wrong = await failure(io.call(tools.call(Tool("cold", refuses), {"x": 1})))
        assert "unexpected keyword argument 'x'" in wrong.message


async def test_coroutine_past_its_time_is_cancelled() -> None:
    cancelled = []

    async def slow() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with workshop() as (io, tools):
        error = await failure(io.call(tools.call(Tool("slow", slow, timeout=0.05), {})))
        assert error.reason == "TOOL_TIMEOUT" and "it was cancelled" in error.message and cancelled
        assert tools.overdue == 0


async def test_coroutine_that_ignores_cancellation_is_left_to_itself_and_counted() -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    async with workshop() as (io, tools):
        error = await failure(io.call(tools.call(Tool("stubborn", stubborn, timeout=0.05), {})))
        assert "does not end" in error.message and tools.overdue == 1
        release.set()
        await until(lambda: tools.overdue == 0)


async def test_blocking_tool_past_its_time_is_counted_until_it_ends_and_threads_are_bounded() -> None:
    release = threading.Event()
    stuck = Tool("stuck", lambda: release.wait(PATIENCE), timeout=0.05)
    async with workshop(max_threads=2) as (io, tools):
        for _ in range(2):
            error = await failure(io.call(tools.call(stuck, {})))
            assert error.reason == "TOOL_TIMEOUT" and "cannot be ended" in error.message
        assert (tools.threads, tools.overdue) == (2, 2)
        error = await failure(io.call(tools.call(stuck, {})))
        assert error.reason == "TOOL_THREADS_FULL" and "2 of them past their time" in error.message
        release.set()
        await until(lambda: tools.threads == tools.overdue == 0)
        assert await io.call(tools.call(stuck, {})) is True


async def test_pure_tool_runs_once_for_everybody_and_others_for_each() -> None:
    runs: list[str] = []

    async def look_up(name: str) -> str:
        runs.append(name)
        await asyncio.sleep(0.01)
        return name.upper()

    pure, plain = Tool("pure", look_up, pure=True, ttl=60), Tool("plain", look_up)
    async with workshop() as (io, tools):
        calls = [tools.call(pure, {"name": "a"}) for _ in range(10)] + [tools.call(plain, {"name": "b"})] * 3
        assert await asyncio.gather(*map(io.call, calls)) == ["A"] * 10 + ["B"] * 3
        assert sorted(runs) == ["a", "b", "b", "b"]
        assert await io.call(tools.call(pure, {"name": "a"})) == "A" and runs.count("a") == 1
    with pytest.raises(ValueError, match="not pure"):
        Tool("kept", look_up, ttl=1)
    with pytest.raises(TypeError):
        tools.call(pure, {"name": object()})


async def test_tool_that_nobody_waits_for_is_cancelled() -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            ended.set()

    async with workshop() as (io, tools):
        task = asyncio.create_task(io.call(tools.call(Tool("slow", slow), {})))
        await until(lambda: io.stats().providers["tools"].in_flight)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait_for(ended.wait(), PATIENCE)


# --- programs --------------------------------------------------------------------------------------------------------


@pytest.mark.process
async def test_program_gets_its_input_and_gives_output_errors_and_exit_code() -> None:
    code = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('oh'); sys.exit(3)"
    async with workshop() as (io, tools):
        result = await io.call(tools.run(python(code), b"hello"))
        assert (result.exit_code, result.output, result.errors) == (3, b"HELLO", b"oh")


@pytest.mark.process
async def test_program_may_ignore_a_large_input() -> None:
    async with workshop() as (io, tools):
        result = await io.call(tools.run(python("print('done')"), b"x" * (4 << 20)))
        assert (result.exit_code, result.output) == (0, b"done\n")


@pytest.mark.process
async def test_program_output_comes_in_parts() -> None:
    code = "import sys\nfor line in sys.stdin:\n print(line.strip()); sys.stdout.flush()\nprint('end')"
    async with workshop() as (io, tools):
        async with io.stream(tools.run(python(code), b"one\ntwo\n")) as stream:
            parts = [part async for part in stream]
        assert b"".join(parts) == b"one\ntwo\nend\n" == stream.result.output


@pytest.mark.process
async def test_program_sees_nothing_of_the_engines_environment_but_the_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMX_TOKEN", "s3cret")
    program = python("import os; print(sorted(os.environ))", environment={"MINE": "1"})
    async with workshop() as (io, tools):
        output = (await io.call(tools.run(program))).output.decode()
        assert "MINE" in output and "PATH" in output and "AMX_TOKEN" not in output


@pytest.mark.process
@pytest.mark.fault
async def test_program_past_its_time_is_ended_with_everything_it_started(tmp_path: Path) -> None:
    code = f"""
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(600)"])
pathlib.Path({str(tmp_path / "pids")!r}).write_text(str(child.pid))
time.sleep(600)
"""
    async with workshop() as (io, tools):
        error = await failure(io.call(tools.run(python(code, timeout=2.0, grace=0.2))))
        assert error.reason == "TOOL_TIMEOUT" and "it was ended" in error.message
        child = int((tmp_path / "pids").read_text())
        await until(lambda: not alive(child))


@pytest.mark.process
@pytest.mark.fault
async def test_program_that_ends_and_leaves_another_behind_leaves_nothing(tmp_path: Path) -> None:
    code = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL)
print(child.pid)
"""
    async with workshop() as (io, tools):
        result = await io.call(tools.run(python(code)))
        await until(lambda: not alive(int(result.output)))


@pytest.mark.process
@pytest.mark.fault
async def test_program_that_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    async with workshop() as (io, tools):
        async with io.stream(tools.run(python(code, grace=0.2))) as stream:
            pid = int(await anext(stream))
            assert alive(pid)
        await until(lambda: not alive(pid))
        await until(lambda: not io.stats().providers["tools"].in_flight)


@pytest.mark.process
async def test_program_that_writes_too_much_is_ended() -> None:
    code = "import sys\nwhile True: sys.stdout.write('x' * 10000)"
    async with workshop() as (io, tools):
        error = await failure(io.call(tools.run(python(code, max_output_bytes=100_000))))
        assert error.reason == "TOOL_OUTPUT_TOO_LARGE"
        loud = python("import sys; sys.stderr.write('x' * 200000 + 'end')", max_error_bytes=1000)
        result = await io.call(tools.run(loud))
        assert len(result.errors) == 1000 and result.errors.endswith(b"end")


@pytest.mark.process
async def test_program_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    async with workshop() as (io, tools):
        for program in (
            Program("absent", ("/nowhere/at/all",)),
            Program("data", (str(tmp_path),)),
            python("", cwd=str(tmp_path / "absent")),
        ):
            error = await failure(io.call(tools.run(program)))
            assert error.reason == "TOOL_UNSTARTABLE" and program.name in error.message


async def test_blocking_tools_run_beside_each_other() -> None:
    meeting = threading.Barrier(16, timeout=PATIENCE)  # nobody passes before all are there
    tool = Tool("meet", meeting.wait)
    async with workshop() as (io, tools):
        results = await asyncio.gather(*(io.call(tools.call(tool, {})) for _ in range(16)))
        assert sorted(results) == list(range(16))


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
async def test_program_that_is_ended_with_output_unread_leaves_no_pipe_open() -> None:
    reached = asyncio.Event()

    async def stuck(_: bytes) -> None:
        reached.set()
        await asyncio.Event().wait()

    before = open_files()
    endless = python("import sys\nwhile True: sys.stdout.write('x' * 65536)")
    run = asyncio.create_task(run_program(endless, b"", stuck))
    await reached.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError) as ended:
        await run
    # The traceback keeps the process from the garbage collector, which would close its pipes.
    assert (open_files(), ended.traceback is not None) == (before, True)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
