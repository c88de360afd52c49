"""The log of a helper process on its way to the engine that started it, for `amx logs`: one JSON object a line.

Only a copy travels here. Helpers write to standard error themselves: it has every line, whatever the engine does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable

import msgspec

from amx_server.core.clock import SystemClock
from amx_server.telemetry.logs import LEVELS, LogEntry

# What a helper holds when the socket is full; no line is longer. Beyond it lines are lost, and counted.
CAPACITY_BYTES = 1 << 20
# Taken in one turn of the engine's event loop: others want it, too.
_READ_BYTES = 1 << 14

_lines = msgspec.json.Decoder(LogEntry)


class LogSender:
    """A helper's end. Safe to use from any thread. Sending neither waits nor raises."""

    def __init__(self, end: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        """loop: sends what the socket did not take at once, as soon as it does."""
        end.setblocking(False)
        self._end = end
        self._number = end.fileno()
        self._loop = loop
        self._waiting = bytearray()
        self._lost = 0
        self._watched = False
        self._sending = False
        self._lock = threading.RLock()  # what the garbage collector runs may log in the middle of it
        os.register_at_fork(after_in_child=self._forked)

    def send(self, entry: LogEntry) -> None:
        """What was lost is said as soon as everything before it has left."""
        line = msgspec.json.encode(entry) + b"\n"
        with self._lock:
            if self._lost or len(self._waiting) + len(line) > CAPACITY_BYTES:
                self._lost += 1
            else:
                self._waiting += line
            if not self._send() and not self._watched:
                self._watched = True
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._send_again)

    def close(self) -> None:
        """Waits until the engine has what was sent, or is gone. The loop must still be open."""
        with self._lock:
            self._end.setblocking(True)
            self._send()
            self._loop.remove_writer(self._number)
            self._end.close()

    def _forked(self) -> None:
        """A copy of the process, made by an agent, logs here, too; what waits and what is locked is its parent's."""
        self._waiting = bytearray()
        self._lost = 0
        self._watched = True  # by nobody: its loop does not run
        self._sending = False
        self._lock = threading.RLock()

    def _send_again(self) -> None:
        with self._lock:
            self._watched = not self._send()
            if self._watched:
                self._loop.add_writer(self._number, self._send_again)
            else:
                self._loop.remove_writer(self._number)

    def _send(self) -> bool:
        """Returns whether nothing waits any more."""
        if self._sending:
            return True
        self._sending = True
        try:
            while self._waiting or self._lost:
                if not self._waiting:
                    self._waiting += msgspec.json.encode(_lost(self._lost, os.getpid())) + b"\n"
                    self._lost = 0
                del self._waiting[: self._end.send(self._waiting)]
        except BlockingIOError:
            return False
        except OSError:  # the engine has gone
            self._waiting.clear()
        finally:
            self._sending = False
        return True


class LogReceiver:
    """The engine's end: takes lines on the running event loop until it is closed."""

    def __init__(self, end: socket.socket, pid: int, take: Callable[[LogEntry], None]) -> None:
        """end: belongs to the receiver from now on. pid: of the helper. take: gets what comes, in its order."""
        end.setblocking(False)
        self._end = end
        self._pid = pid
        self._take = take
        self._begun = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end.fileno(), self._readable)

    def close(self) -> None:
        """For when the helper has ended: takes what it had still sent. A line that it did not finish is lost."""
        self._loop.remove_reader(self._end.fileno())
        # Bounded, because programs that the helper leaves behind may hold its end, and go on.
        for _ in range(CAPACITY_BYTES // _READ_BYTES):
            if not self._receive():
                break
        if self._begun:
            self._parse([self._begun])
        self._end.close()

    def _readable(self) -> None:
        if self._receive() == b"":
            self._loop.remove_reader(self._end.fileno())

    def _receive(self) -> bytes | None:
        """Takes some of what is there. Returns it; None when there is nothing, b"" when there will not be any more."""
        try:
            data = self._end.recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        *lines, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) > CAPACITY_BYTES:  # nothing that a helper logs
            lines.append(self._begun)
            self._begun = b""
        self._parse(lines)
        return data

    def _parse(self, lines: list[bytes]) -> None:
        lost = 0
        for line in lines:
            try:
                entry = _lines.decode(line)
                if entry.level not in LEVELS or not 0 <= entry.at_ms < 1 << 63:
                    raise ValueError(line)
            except (ValueError, RecursionError):
                lost += 1
            else:
                self._take(entry)
        if lost:
            self._take(_lost(lost, self._pid))


def _lost(count: int, helper: int) -> LogEntry:
    fields = {"count": str(count), "helper": str(helper)}
    return LogEntry(SystemClock().now_ms(), "warning", "log_lines_lost", fields)
