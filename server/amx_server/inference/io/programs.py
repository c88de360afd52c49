"""Runs one program as a tool: input, bounded output, and an end for it and everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from amx_server.inference.io import errors

_READ_BYTES = 64 << 10
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is a tool. argv: as it is executed, without a shell. cwd: None: the engine's.

    environment: added to PATH, HOME, language, time zone and temporary folder of the engine's own; nothing else of
    the engine's environment, where its secrets may be, is passed on.
    timeout: seconds. grace: seconds between being asked to end (SIGTERM) and being ended (SIGKILL).
    max_output_bytes: of standard output; of standard error the last `max_error_bytes` are kept.
    """

    name: str
    argv: tuple[str, ...]
    timeout: float = 60.0
    grace: float = 2.0
    cwd: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    max_output_bytes: int = 4 << 20
    max_error_bytes: int = 64 << 10


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """How a program ended. exit_code: negative: minus the number of the signal that ended it."""

    exit_code: int
    output: bytes
    errors: bytes


async def run_program(program: Program, stdin: bytes, emit: Callable[[bytes], Awaitable[None]]) -> ProgramResult:
    """Runs it to its end. emit: gets standard output as it comes.

    Raises AmxError TOOL_UNSTARTABLE, TOOL_TIMEOUT, TOOL_OUTPUT_TOO_LARGE. However this ends, also when cancelled, the
    program and whatever it started and left in its process group is gone when it returns.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | dict(program.environment)
    try:
        process = await asyncio.create_subprocess_exec(
            *program.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=program.cwd,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise errors.tool_unstartable(program.name, str(error)) from error
    timeout = asyncio.timeout(program.timeout)
    try:
        async with timeout:
            _, output, last_errors, exit_code = await _together(
                _write(process, stdin),
                _read_output(program, process, emit),
                _read_errors(program, process),
                process.wait(),
            )
            return ProgramResult(exit_code, output, last_errors)
    except TimeoutError as error:
        if not timeout.expired():
            raise
        await _end(process, program.grace)
        raise errors.tool_timeout(program.name, program.timeout, "it was ended") from error
    finally:
        await _end(process, program.grace)


async def _together(
    write: Awaitable[None], output: Awaitable[bytes], last: Awaitable[bytes], ended: Awaitable[int]
) -> tuple[None, bytes, bytes, int]:
    """All four; when one raises the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in (write, output, last, ended)]
    try:
        return await asyncio.gather(*tasks)  # type: ignore[return-value]
    finally:
        for task in tasks:
            task.cancel()


async def _write(process: asyncio.subprocess.Process, stdin: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read what it is given
        process.stdin.write(stdin)
        await process.stdin.drain()
    process.stdin.close()


async def _read_output(
    program: Program, process: asyncio.subprocess.Process, emit: Callable[[bytes], Awaitable[None]]
) -> bytes:
    assert process.stdout is not None
    pieces: list[bytes] = []
    size = 0
    while piece := await process.stdout.read(_READ_BYTES):
        size += len(piece)
        if size > program.max_output_bytes:
            raise errors.tool_output_too_large(program.name, program.max_output_bytes)
        pieces.append(piece)
        await emit(piece)
    return b"".join(pieces)


async def _read_errors(program: Program, process: asyncio.subprocess.Process) -> bytes:
    assert process.stderr is not None
    kept = b""
    while piece := await process.stderr.read(_READ_BYTES):
        kept = (kept + piece)[-program.max_error_bytes :]
    return kept


async def _end(process: asyncio.subprocess.Process, grace: float) -> None:
    """Ends the process group: politely while its leader lives, then for certain."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await process.wait()
        except TimeoutError:
            pass
    _signal(process, signal.SIGKILL)  # also what a leader that ended by itself has left behind
    await process.wait()
    # Pipes that were not read to their end stay open otherwise, until the garbage collector finds them. A process has
    # no public way to close them.
    process._transport.close()  # type: ignore[attr-defined]
    await asyncio.sleep(0)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
