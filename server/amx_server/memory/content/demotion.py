"""Making room in memory: hot content is compressed, warm content goes to disk, what has a copy below is dropped."""

from __future__ import annotations

import threading
from typing import Final

from amx_server.core.errors import AmxError
from amx_server.memory.content.contents import Contents
from amx_server.memory.content.entry import CHUNKED, NOWHERE
from amx_server.memory.content.errors import memory_full
from amx_server.memory.content.options import ENTRY_BYTES
from amx_server.memory.content.packing import Packer
from amx_server.memory.content.writing import Object, Writer

_BATCH: Final = 32
_LONG: Final = 1 << 20  # splitting a value of this size takes some 10 ms
OVERSHOOT: Final = 1.5
"""With a background thread, the hot tier may hold this many times its budget until the thread has caught up."""
_INLINE_MOVES: Final = 64  # and one for each KiB: what a caller of `put` does at most before it is refused


class Demotion:
    """Any thread may call it. Content leaves a tier only when a copy of it lies in another."""

    def __init__(self, contents: Contents, writer: Writer) -> None:
        self._contents = contents
        self._writer = writer
        self._stuck = ""
        self._chilling = threading.Lock()
        self.packer = Packer(contents, self._make_room_for_pieces)

    def admit(self, size: int) -> None:
        """Returns when there is room in memory for one more object. Raises AmxError CONTENT_MEMORY_FULL.

        May compress and write some older content first, so that whoever fills memory pays for it.
        """
        contents = self._contents
        entries = len(contents.index) * ENTRY_BYTES
        if entries >= contents.options.index_bytes:
            raise memory_full(entries, contents.options.index_bytes, "the index of content is at its budget")
        hot, warm = contents.hot, contents.warm
        for _ in range(_INLINE_MOVES + size // 1024):
            if hot.bytes + size <= hot.budget or not hot.bytes:
                return
            if not self.relieve_once(hot.budget - size, warm.budget, may_wait=False):
                break
        if hot.bytes + size > hot.budget * (OVERSHOOT if contents.options.background else 1) and hot.bytes:
            raise memory_full(hot.bytes + warm.bytes, hot.budget + warm.budget, self._stuck)

    def relieve_once(self, hot_target: int, warm_target: int, *, may_wait: bool) -> bool:
        """Moves some content down while a tier holds more bytes than its target; False: none could or need be.

        may_wait: an fsync is acceptable.
        """
        warm, hot = self._contents.warm, self._contents.hot
        moved = warm.bytes > warm_target and self._chill(may_wait)
        if hot.bytes > max(hot_target, 0) and (warm.bytes <= warm.budget or moved or self._droppable(may_wait)):
            moved = self._cool(may_wait) or moved
        return moved

    def settle(self) -> None:
        """Makes room for what came in beyond the budgets: a few moves, never an error."""
        contents = self._contents
        for _ in range(4):
            if not self.relieve_once(contents.hot.budget, contents.warm.budget, may_wait=False):
                return

    def _make_room_for_pieces(self) -> None:
        warm = self._contents.warm
        while warm.bytes > warm.budget:
            if not self._chill(may_wait=True):
                raise memory_full(warm.bytes, warm.budget, self._stuck)

    def _victim(self, may_wait: bool) -> tuple[bytes, bytes] | None:
        """What should leave the hot tier next. What takes long is left to the background, where there is one."""
        contents = self._contents
        patient = may_wait or not contents.options.background
        with contents.lock:
            for address, data in contents.hot.victims(_BATCH):
                entry = contents.index.get(address)
                if patient or entry is None or entry.size < _LONG or not self.packer.is_too_large(entry):
                    return address, data
        return None

    def _droppable(self, may_wait: bool) -> bool:
        """Whether what should leave the hot tier needs no room in the warm one."""
        contents = self._contents
        victim = self._victim(may_wait)
        if victim is None:
            return False
        entry = contents.index.get(victim[0])
        return entry is None or entry.cold != NOWHERE or entry.kind == CHUNKED or victim[0] in contents.warm

    def _cool(self, may_wait: bool) -> bool:
        """One object from hot to warm."""
        contents = self._contents
        victim = self._victim(may_wait)
        if victim is None:
            return False
        address, data = victim
        entry = contents.index.get(address)
        packed = None
        if entry is not None and entry.cold == NOWHERE and entry.kind != CHUNKED and address not in contents.warm:
            if self.packer.is_too_large(entry):
                try:
                    self.packer.split(address, entry)
                except AmxError as error:
                    self._stuck = error.message
                    return False
            else:
                contents.trainer.offer(data)
                packed = contents.codec.pack(data)
        with contents.lock:
            if address not in contents.hot.old:
                return True  # it was used or collected meanwhile
            if entry is not None and contents.index.get(address) is entry:
                if packed is not None:
                    contents.warm.add(address, packed)
                elif entry.cold == NOWHERE and entry.kind != CHUNKED and address not in contents.warm:
                    return True  # its copy below is gone: look again
                entry.used = False
            contents.hot.discard(address)
        return True

    def _chill(self, may_wait: bool) -> bool:
        """Some objects from warm to disk, or only out of warm where they lie on disk already."""
        patient = may_wait or not self._contents.options.background
        if not self._chilling.acquire(blocking=patient):
            return False  # another thread is at it, and may be waiting for the disk
        try:
            return self._chill_batch(may_wait)
        finally:
            self._chilling.release()

    def _chill_batch(self, may_wait: bool) -> bool:
        contents = self._contents
        dropped = False
        chosen: list[Object] = []
        with contents.lock:
            for address, packed in contents.warm.victims(_BATCH):
                entry = contents.index.get(address)
                if entry is None or entry.cold != NOWHERE:
                    contents.warm.discard(address)
                    dropped = True
                else:
                    chosen.append(Object(address, entry, packed))
        if dropped:
            return True
        if contents.log is None:
            self._stuck = "the store keeps everything in memory"
            return False
        try:
            self._writer.write(chosen, may_wait=may_wait)
        except AmxError as error:
            self._stuck = error.message
            return False
        with contents.lock:
            for address, entry, _ in chosen:
                if entry.cold != NOWHERE:
                    contents.warm.discard(address)
        return bool(chosen)
