"""A process that works on a content store and kills itself with SIGKILL in the middle of what it is told to.

Reads one order a line: folder, journal, phase, seed. For each it forks a child, which writes what it has made durable
into the journal and ends at a disk operation that the seed chooses, half way through it if it is a write.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from amx_server.memory.content import ContentStore, segment
from tests.memory.content.conftest import SMALL, prose

OPTIONS = replace(SMALL, hot_bytes=30_000, warm_bytes=30_000, segment_bytes=40_000)
SIZES = (100, 1500, 6000, 90_000)


def value(number: int) -> bytes:
    """The content with this number."""
    return prose(number, SIZES[number % len(SIZES)])


class Journal:
    """What is known to be durable, in a file that a kill does not touch. `+n`: retained, `?n`: may go, `-n`: gone."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._write = os.write

    def note(self, mark: str, numbers: list[int]) -> None:
        self._write(self._descriptor, "".join(f"{mark}{number}\n" for number in numbers).encode())


class Countdown:
    """Ends this process at a disk operation to come."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._left = -1
        self._write, self._sync, self._unlink = os.write, segment._sync_data, Path.unlink
        countdown: Any = self
        os.write, segment._sync_data = countdown.write, countdown.sync
        Path.unlink = lambda path, missing_ok=False: countdown.unlink(path, missing_ok)  # type: ignore[assignment]

    def start(self, operations: int) -> None:
        self._left = self._source.randrange(operations)

    def _over(self) -> bool:
        self._left -= 1
        return self._left == -1

    def write(self, descriptor: int, data: bytes) -> int:
        if self._left >= 0 and self._over():
            self._write(descriptor, bytes(data)[: self._source.randrange(len(data) + 1)])
            die()
        return self._write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        if self._left >= 0 and self._over():
            if self._source.random() < 0.5:
                self._sync(descriptor)
            die()
        self._sync(descriptor)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        if self._left >= 0 and self._over():
            if self._source.random() < 0.5:
                self._unlink(path, missing_ok)
            die()
        self._unlink(path, missing_ok)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Work:
    """Puts, retains and releases, and writes down what is durable."""

    def __init__(self, folder: Path, journal: Journal, phase: str, seed: int, held: list[int]) -> None:
        self.source = random.Random(seed)
        self.journal = journal
        self.store = ContentStore(folder, replace(OPTIONS, background=phase == "background"))
        self.held = held
        self.next = seed * 1000

    def fill(self, count: int) -> None:
        """Some more content, durable at the end."""
        new = list(range(self.next, self.next + count))
        self.next += count
        for number in new:
            self.journal.note("?", [number])
            self.store.retain([self.store.put(value(number))])
        self.store.flush()
        self.journal.note("+", new)
        self.held += new

    def drop(self, count: int) -> None:
        """Some less."""
        gone = self.source.sample(self.held, min(count, len(self.held)))
        self.journal.note("?", gone)
        self.store.release([self.store.put(value(number)) for number in gone])
        self.held = [number for number in self.held if number not in gone]
        self.store.flush()
        self.journal.note("-", gone)


def work(folder: Path, journal: Journal, phase: str, seed: int, held: list[int]) -> None:
    """One child: prepares in peace, then does what it is told with the countdown running."""
    countdown = Countdown(random.Random(seed + 1))
    work = Work(folder, journal, phase, seed, held)
    if phase == "flush":
        work.fill(10)
        countdown.start(8)
        for _ in range(4):
            work.fill(8)
    elif phase == "demotion":
        work.fill(5)
        countdown.start(25)
        for number in range(work.next + 500, work.next + 600):
            work.store.put(value(number))
            work.store.maintain(0.0)
    elif phase == "compaction":
        work.fill(25)
        work.drop(20)
        work.store.collect()
        work.store.collect()
        countdown.start(14)
        work.store.compact(0.05)
    else:
        countdown.start(120)
        while True:
            work.fill(10)
            work.drop(9)
            work.store.collect()
    die()


def main() -> None:
    for line in sys.stdin:
        folder, journal, phase, seed, held = line.rstrip("\n").split("\t")
        child = os.fork()
        if not child:
            try:
                work(Path(folder), Journal(Path(journal)), phase, int(seed), [int(one) for one in held.split()])
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
