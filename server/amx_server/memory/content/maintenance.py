"""Upkeep of a store in small steps: room in the tiers, dictionaries, compaction; and a thread that does them."""

from __future__ import annotations

import threading
import time
from typing import Final

from amx_server.core.errors import AmxError
from amx_server.memory.content.codec import FIRST_DICTIONARY, LAST_DICTIONARY, ZSTD
from amx_server.memory.content.compaction import Compacted, Compactor
from amx_server.memory.content.contents import Contents
from amx_server.memory.content.demotion import Demotion, Stuck
from amx_server.memory.content.steps import STEP_S, Steps

LOW_SHARE: Final = 0.9
"""The tiers are relieved down to this part of their budgets, so that a put finds room."""
_WAIT_S: Final = 0.5
_PAUSE_S: Final = 0.000_2  # between two steps: others get the interpreter's lock
_BACK_OFF_S: Final = 10.0  # after a compaction that the disk did not allow


class Maintenance:
    """One thread at a time may call `step`."""

    def __init__(self, contents: Contents, demotion: Demotion, compactor: Compactor) -> None:
        self._contents = contents
        self._demotion = demotion
        self._compactor = compactor
        self._compaction: Steps[Compacted] | None = None
        self._not_before = 0.0
        self.compacted_bytes = 0
        self.failure = ""  # of the latest step; empty: none

    def step(self, seconds: float = STEP_S) -> bool:
        """Works for about that long, more where an fsync or a training takes more; True: there is more to do."""
        return self._relieve(seconds) or self._train() or self._compact(seconds)

    @property
    def needed(self) -> bool:
        """Whether a tier is above what it is relieved to."""
        hot, warm = self._contents.hot, self._contents.warm
        return hot.bytes > hot.budget * LOW_SHARE or warm.bytes > warm.budget * LOW_SHARE

    def _relieve(self, seconds: float) -> bool:
        hot, warm = self._contents.hot, self._contents.warm
        deadline = time.perf_counter() + seconds
        try:
            while self.needed:
                if not self._demotion.relieve_once(int(hot.budget * LOW_SHARE), int(warm.budget * LOW_SHARE)):
                    break
                if time.perf_counter() >= deadline:
                    return True
        except Stuck:
            pass  # whoever puts more than there is room for is told
        return False

    def _train(self) -> bool:
        codec, trainer = self._contents.codec, self._contents.trainer
        if not trainer.due or codec.current >= LAST_DICTIONARY:
            return False
        current = codec.current
        trained = trainer.train(None if current == ZSTD else codec.dictionary(current))
        if trained is not None:
            codec.add_dictionary(max(current + 1, FIRST_DICTIONARY), trained)
        return True

    def _compact(self, seconds: float) -> bool:
        log = self._contents.log
        if log is None or time.monotonic() < self._not_before:
            return False
        if self._compaction is None:
            victim = self._compactor.due(log)
            if victim is None:
                return False
            self._compaction = self._compactor.segment(victim)
        try:
            if self._compaction.step(seconds):
                self.compacted_bytes += self._compaction.result.bytes
                self._compaction = None
                self.failure = ""
        except (AmxError, OSError) as error:
            self._compaction = None
            self._not_before = time.monotonic() + _BACK_OFF_S
            self.failure = str(error)
            return False
        return True


class MaintenanceThread:
    """Steps whenever there is something to do, and lets others run in between."""

    def __init__(self, maintenance: Maintenance) -> None:
        self._maintenance = maintenance
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="amx-content", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There may be something to do now."""
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Returns when the thread has ended."""
        self._stop = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait(_WAIT_S)
            self._wake.clear()
            try:
                while not self._stop and self._maintenance.step():
                    time.sleep(_PAUSE_S)
            except Exception as error:  # a defect must not end the upkeep; it is told in `stats`
                self._maintenance.failure = f"{type(error).__name__}: {error}"
                time.sleep(_WAIT_S)
