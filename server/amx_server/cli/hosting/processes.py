"""Helper processes of an engine: started, linked over a socket, started again when they die, stopped with the engine.

What a helper does is in `helper`. To the engine it is a link like any other, whose process is known to live or not, and
whose log is the engine's, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from amx_server.cli.hosting.frames import FrameStream
from amx_server.cli.hosting.log_lines import LogReceiver
from amx_server.core import errors
from amx_server.core.errors import AmxError
from amx_server.telemetry.logs import LogEntry, get_logger

if TYPE_CHECKING:
    from amx_server.cli.hosting.helper import HelperTask
    from amx_server.runtime.links import LinkConnection

log = get_logger(__name__)

# A helper imports its modules and says Hello in this time, or something is wrong with it.
START_SECONDS = 60.0
# After its patience a helper has this long to say goodbye before it is killed.
_GRACE_SECONDS = 2.0
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 30.0

OpenLink = Callable[[], "LinkConnection"]
TakeLine = Callable[[LogEntry], None]


class Helper:
    """One helper process and its link."""

    def __init__(self, task: HelperTask, open_link: OpenLink, take_line: TakeLine) -> None:
        """open_link: makes the engine's end of its link, as one whose process is watched. take_line: gets each line of
        its log.
        """
        self._task = task
        self._open_link = open_link
        self._take_line = take_line
        self._process: asyncio.subprocess.Process | None = None
        self._link: asyncio.Task[None] | None = None
        self._ended: asyncio.Task[int] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Returns when it hosts its agents. Raises AmxError if the engine refuses them, HELPER_FAILED if it ends before
        or takes longer than START_SECONDS; it is gone then.
        """
        mine, its = socket.socketpair()
        lines, its_lines = socket.socketpair()
        with its, its_lines:
            try:
                process = self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",  # the folder of the modules must not shadow what the helper itself imports
                    "-m",
                    "amx_server.cli.hosting.helper",
                    self._task.to_argument(),
                    str(its_lines.fileno()),
                    stdin=its.fileno(),
                    pass_fds=(its_lines.fileno(),),
                    cwd=self._task.folder,
                )
            except BaseException as error:
                mine.close()
                lines.close()
                if isinstance(error, OSError):
                    raise self._failed(f"it could not be started: {error}") from error
                raise
        self._ended = asyncio.create_task(_end(process, LogReceiver(lines, process.pid, self._take_line)))
        hosted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._link = asyncio.create_task(self._carry(mine, hosted))
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.wait((hosted, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if hosted.done():
                hosted.result()
                return
            why = f"it ended with {_ending(self._ended.result())}; what it printed says why"
        except TimeoutError:
            why = f"it did not say anything within {START_SECONDS:g} s; its modules may wait for something"
        except BaseException:
            await self.kill()
            raise
        await self.kill()
        raise self._failed(why)

    async def ended(self) -> str:
        """Returns when the process has ended and its link with it: how, in words."""
        assert self._ended is not None
        assert self._link is not None
        await asyncio.wait((self._ended, self._link), return_when=asyncio.FIRST_COMPLETED)
        if not self._ended.done():
            # Its link is over: it can do nothing any more, and may be stuck.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    await asyncio.shield(self._ended)
        await self.kill()
        return _ending(self._ended.result())

    async def stop(self) -> None:
        """Asks it to finish what runs within its patience; kills it if it does not."""
        assert self._ended is not None
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):
                self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._task.patience + _GRACE_SECONDS):
                    await asyncio.shield(self._ended)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL; returns when process and link are gone. Does nothing more to one that has ended."""
        if self._ended is not None:
            if not self._ended.done():
                with contextlib.suppress(ProcessLookupError):
                    self._signal(signal.SIGKILL)
            await asyncio.wait((self._ended,))
        if self._link is not None:
            await asyncio.wait((self._link,))

    def _failed(self, why: str) -> AmxError:
        modules = ", ".join(self._task.modules)
        message = f"a helper process for {modules} could not host its agents: {why}"
        return AmxError(errors.FAILED_PRECONDITION, "HELPER_FAILED", message)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def _carry(self, end: socket.socket, hosted: asyncio.Future[None]) -> None:
        """Carries frames both ways until either end is over. hosted: done when the handshake is."""
        frames = await FrameStream.over(end)
        connection = self._open_link()
        writer = asyncio.create_task(_write(connection, frames, hosted))
        reader = asyncio.create_task(_read(connection, frames))
        try:
            await asyncio.wait((writer, reader), return_when=asyncio.FIRST_COMPLETED)
        finally:
            connection.process_ended()
            frames.abort()
            for task in (writer, reader):
                task.cancel()
            await asyncio.wait((writer, reader))


async def _read(connection: LinkConnection, frames: FrameStream) -> None:
    while (frame := await frames.read()) is not None and not connection.over.is_set():
        connection.feed(frame)


async def _write(connection: LinkConnection, frames: FrameStream, hosted: asyncio.Future[None]) -> None:
    while (frame := await connection.next_frame()) is not None and await frames.write(frame):
        if not hosted.done():
            if connection.error is not None:
                hosted.set_exception(connection.error)
                return
            hosted.set_result(None)


async def _end(process: asyncio.subprocess.Process, lines: LogReceiver) -> int:
    """The exit status, when the process has ended and all that it logged is here."""
    status = await process.wait()
    lines.close()
    return status


def _ending(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit code {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


class Helpers:
    """Some helper processes that do the same. An async context manager: entered, all host their agents; left, none is
    there. One that dies is started again, after a wait that doubles from 0.1 s to 30 s while it keeps dying.
    """

    def __init__(self, task: HelperTask, open_link: OpenLink, take_line: TakeLine, count: int) -> None:
        """count: how many. The others are for each `Helper`."""
        self._new_helper = functools.partial(Helper, task, open_link, take_line)
        self._modules = list(task.modules)
        self._count = count
        self._running: list[Helper] = []
        self._keepers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Raises AmxError as `Helper.start` does; none is left then."""
        helpers = [self._new_helper() for _ in range(self._count)]
        outcomes = await asyncio.gather(*(helper.start() for helper in helpers), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            for helper in helpers:
                await helper.kill()
            raise failures[0]
        for helper in helpers:
            log.info("helper_started", pid=helper.pid, modules=self._modules)
        self._running = helpers
        self._keepers = [asyncio.create_task(self._keep(place)) for place in range(self._count)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        if self._keepers:
            await asyncio.wait(self._keepers)
        await asyncio.gather(*(helper.stop() for helper in self._running))

    @property
    def pids(self) -> list[int]:
        """Process ids of those there are now."""
        return [helper.pid for helper in self._running]

    async def _keep(self, place: int) -> None:
        """Puts a new helper in the place of one that has died, again and again."""
        loop = asyncio.get_running_loop()
        wait = _FIRST_WAIT_SECONDS
        while True:
            began = loop.time()
            how = await self._running[place].ended()
            lived = loop.time() - began
            if lived > _LONGEST_WAIT_SECONDS:
                wait = _FIRST_WAIT_SECONDS
            log.warning(
                "helper_ended",
                pid=self._running[place].pid,
                how=how,
                lived_s=round(lived, 1),
                started_again_in_s=wait,
            )
            while True:
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
                helper = self._new_helper()
                try:
                    await helper.start()
                except AmxError as error:
                    log.error("helper_failed", reason=error.reason, error=error.message, started_again_in_s=wait)
                else:
                    break
            self._running[place] = helper
            log.info("helper_started", pid=helper.pid, modules=self._modules)


def default_count() -> int:
    """One for each core that the process may use, but for the engine's own; at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)
