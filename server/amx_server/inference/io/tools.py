"""Tools that agents call: coroutines, blocking functions in threads, and programs; each with its timeout."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from amx_server.core.errors import AmxError
from amx_server.inference.io import errors
from amx_server.inference.io.flights import Call
from amx_server.inference.io.operations import Operation, Response, WaitReason, address, canonical_json
from amx_server.inference.io.programs import Program, ProgramResult, run_program
from amx_server.inference.io.providers import Provider
from amx_server.telemetry.logs import get_logger

log = get_logger(__name__)

_GRACE_SECONDS = 1.0  # that a cancelled coroutine has to end
_UNKNOWN_BYTES = 1024  # of a result that cannot be measured


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that is a tool; called with its arguments by name.

    run: a coroutine function, or a blocking one, which runs in a thread.
    timeout: seconds. pure: equal arguments (as JSON) give equal results, so that one run may serve everybody who asks
    meanwhile, and for `ttl` seconds after.
    """

    name: str
    run: Callable[..., Any]
    timeout: float = 60.0
    pure: bool = False
    ttl: float = 0.0

    def __post_init__(self) -> None:
        if self.ttl and not self.pure:
            raise ValueError(f"tool '{self.name}' has a ttl and is not pure; only what is pure can be kept")


@dataclass(frozen=True, slots=True)
class _Run:
    tool: Tool | Program
    arguments: Mapping[str, Any]
    stdin: bytes = b""


class Tools(Provider):
    """Runs tools. A tool that fails is never run again by itself: only who called it knows whether that is safe."""

    def __init__(self, name: str = "tools", *, max_threads: int = 32) -> None:
        """max_threads: blocking tools that may run at a time, those past their time included."""
        self.name = name
        self._max_threads = max_threads
        self.threads = 0
        """Blocking tools that run."""
        self.overdue = 0
        """Of these, those that nobody waits for any more: past their timeout, or left."""

    def call(self, tool: Tool, arguments: Mapping[str, Any]) -> Operation[Any, Any]:
        """Runs a function. Raises TypeError if it is pure and the arguments are not JSON.

        Errors: TOOL_FAILED, TOOL_TIMEOUT, TOOL_THREADS_FULL, and AmxErrors that the tool itself raises.
        """
        key = address("tool", tool.name, canonical_json(dict(arguments))) if tool.pure else b""
        run = _Run(tool, arguments)
        return Operation(self.name, tool.name, run, WaitReason.TOOL, key, tool.ttl, idempotent=False)

    def run(self, program: Program, stdin: bytes = b"") -> Operation[ProgramResult, bytes]:
        """Runs a program; its standard output comes in parts. An exit code other than 0 is a result, not an error.

        Errors: see `run_program`.
        """
        return Operation(self.name, program.name, _Run(program, {}, stdin), WaitReason.TOOL, idempotent=False)

    async def perform(self, call: Call) -> Response[Any]:
        """See Provider."""
        run: _Run = call.operation.request
        tool = run.tool
        if isinstance(tool, Program):
            result = await run_program(tool, run.stdin, lambda piece: call.emit(piece, len(piece)))
            return Response(result, len(result.output) + len(result.errors))
        try:
            if inspect.iscoroutinefunction(tool.run):
                value = await self._run_coroutine(tool, run.arguments)
            else:
                value = await self._run_thread(tool, run.arguments)
        except (AmxError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise errors.tool_failed(tool.name, f"{type(error).__name__}: {error}") from error
        return Response(value, _size(value) if call.operation.ttl else 0)

    async def _run_coroutine(self, tool: Tool, arguments: Mapping[str, Any]) -> Any:
        task = asyncio.ensure_future(tool.run(**arguments))
        try:
            done, _ = await asyncio.wait((task,), timeout=tool.timeout)
        except asyncio.CancelledError:
            await self._cancel(tool, task)
            raise
        if done:
            return task.result()
        ended = await self._cancel(tool, task)
        after = "it was cancelled" if ended else "it was cancelled and does not end"
        raise errors.tool_timeout(tool.name, tool.timeout, after)

    async def _cancel(self, tool: Tool, task: asyncio.Future[Any]) -> bool:
        """Whether it ended when told so. One that does not is left to itself, and named in the log."""
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=_GRACE_SECONDS)
        if done:
            if not task.cancelled():
                task.exception()  # what it says in the end interests nobody
            return True
        log.warning("tool_ignores_cancellation", tool=tool.name, grace_seconds=_GRACE_SECONDS)
        self.overdue += 1
        task.add_done_callback(self._no_longer_overdue)
        return False

    def _no_longer_overdue(self, task: asyncio.Future[Any]) -> None:
        self.overdue -= 1
        if not task.cancelled():
            task.exception()

    async def _run_thread(self, tool: Tool, arguments: Mapping[str, Any]) -> Any:
        if self.threads >= self._max_threads:
            raise errors.tool_threads_full(tool.name, self.threads, self.overdue)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()
        given_up = False

        def ended(value: Any, error: BaseException | None) -> None:
            self.threads -= 1
            self.overdue -= given_up
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        def report(value: Any, error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(ended, value, error)
            except RuntimeError:
                pass  # the loop has ended, and with it everybody who could be told

        def work() -> None:
            try:
                value = context.run(partial(tool.run, **arguments))
            except StopIteration as error:  # a future cannot carry this one
                report(None, RuntimeError(f"StopIteration: {error}"))
            except BaseException as error:
                report(None, error if isinstance(error, Exception) else RuntimeError(repr(error)))
            else:
                report(value, None)

        self.threads += 1
        # A daemon: a thread that never ends must not keep the process from ending. Pools do not have such threads.
        threading.Thread(target=work, name=f"amx-tool-{tool.name}", daemon=True).start()
        try:
            async with asyncio.timeout(tool.timeout) as timeout:
                return await future
        except TimeoutError as error:
            if not timeout.expired():
                raise
            given_up = True
            self.overdue += 1
            raise errors.tool_timeout(
                tool.name,
                tool.timeout,
                "its thread cannot be ended and still runs; make it a program if it must be ended",
            ) from error
        except asyncio.CancelledError:
            given_up = True
            self.overdue += 1
            raise


def _size(value: Any) -> int:
    if isinstance(value, bytes | str):
        return len(value)
    try:
        return len(canonical_json(value))
    except TypeError:
        return _UNKNOWN_BYTES
