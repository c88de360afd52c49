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


class Stuck(Exception):
    """Content should move down, and cannot; the text says why."""


class Demotion:
    """Any thread may call it. Content leaves a tier only when a copy of it lies in another."""

    def __init__(self, contents: Contents, writer: Writer) -> None:
        self._contents = contents
        self._writer = writer
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
        hot = contents.hot
        background = contents.options.background
        if hot.bytes + size <= hot.budget or not hot.bytes:
            return
        try:
            self._make_room(size, patient=not background)
        except Stuck:
            if not background or hot.bytes + size > hot.budget * OVERSHOOT:
                try:
                    self._make_room(size, patient=True)
                except Stuck as stuck:
                    budget = hot.budget + contents.warm.budget
                    raise memory_full(hot.bytes + contents.warm.bytes, budget, str(stuck)) from None

    def _make_room(self, size: int, *, patient: bool) -> None:
        hot, warm = self._contents.hot, self._contents.warm
        for _ in range(_INLINE_MOVES + size // 1024):
            if hot.bytes + size <= hot.budget or not hot.bytes:
                return
            if not self.relieve_once(hot.budget - size, warm.budget, patient=patient, may_wait=False):
                return  # another thread made room, and others may take it again: each of them pays as well
        if hot.bytes + size > hot.budget and hot.bytes:
            raise Stuck("it is filled faster than it is emptied")

    def relieve_once(self, hot_target: int, warm_target: int, *, patient: bool = True, may_wait: bool = True) -> bool:
        """Moves some content down while a tier holds more bytes than its target; False: there is none to move.

        patient: waiting for another thread that does the same, and splitting a large value, is acceptable. may_wait:
        so is an fsync. Raises Stuck where content should move and cannot.
        """
        warm, hot = self._contents.warm, self._contents.hot
        moved = False
        stuck: Stuck | None = None
        if warm.bytes > warm_target:
            try:
                moved = self._chill(patient, may_wait)
            except Stuck as error:
                stuck = error
        if hot.bytes > max(hot_target, 0) and (warm.bytes <= warm.budget or moved or self._droppable(patient)):
            moved = self._cool(patient) or moved
        if stuck is not None and not moved:
            raise stuck
        return moved

    def settle(self) -> None:
        """Brings the tiers back within their budgets as far as a few moves can; never an error."""
        hot, warm = self._contents.hot, self._contents.warm
        patient = not self._contents.options.background
        try:
            for _ in range(4):
                if not self.relieve_once(hot.budget, warm.budget, patient=patient, may_wait=False):
                    return
        except Stuck:
            pass  # whoever puts next will be told

    def _make_room_for_pieces(self) -> None:
        warm = self._contents.warm
        try:
            while warm.bytes > warm.budget and self._chill(patient=True, may_wait=True):
                pass
        except Stuck as stuck:
            raise memory_full(warm.bytes, warm.budget, str(stuck)) from None

    def _victim(self, patient: bool) -> tuple[bytes, bytes] | None:
        """What should leave the hot tier next. What takes long is left to the background, where there is one."""
        contents = self._contents
        with contents.lock:
            for address, data in contents.hot.victims(_BATCH):
                entry = contents.index.get(address)
                if patient or entry is None or entry.size < _LONG or not self.packer.is_too_large(entry):
                    return address, data
        return None

    def _droppable(self, patient: bool) -> bool:
        """Whether what should leave the hot tier needs no room in the warm one."""
        contents = self._contents
        victim = self._victim(patient)
        if victim is None:
            return False
        entry = contents.index.get(victim[0])
        return entry is None or entry.cold != NOWHERE or entry.kind == CHUNKED or victim[0] in contents.warm

    def _cool(self, patient: bool) -> bool:
        """One object from hot to warm."""
        contents = self._contents
        victim = self._victim(patient)
        if victim is None:
            if contents.hot.bytes:
                raise Stuck("large values are still being split")
            return False
        address, data = victim
        entry = contents.index.get(address)
        packed = None
        if entry is not None and entry.cold == NOWHERE and entry.kind != CHUNKED and address not in contents.warm:
            if self.packer.is_too_large(entry):
                try:
                    self.packer.split(address, entry)
                except AmxError as error:
                    raise Stuck(error.message) from error
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

    def _chill(self, patient: bool, may_wait: bool) -> bool:
        """Some objects out of warm: without more ado where they lie on disk already, or after writing them."""
        if self._drop():
            return True
        if self._contents.log is None:
            raise Stuck("the store keeps everything in memory")
        if not self._chilling.acquire(blocking=patient):
            raise Stuck("another thread is at it, and may be waiting for the disk")
        try:
            return self._drop() or self._write(may_wait)
        finally:
            self._chilling.release()

    def _drop(self) -> bool:
        contents = self._contents
        dropped = False
        with contents.lock:
            for address, _ in contents.warm.victims(_BATCH):
                entry = contents.index.get(address)
                if entry is None or entry.cold != NOWHERE:
                    contents.warm.discard(address)
                    dropped = True
        return dropped

    def _write(self, may_wait: bool) -> bool:
        contents = self._contents
        with contents.lock:
            chosen = [
                Object(address, entry, packed)
                for address, packed in contents.warm.victims(_BATCH)
                if (entry := contents.index.get(address)) is not None
            ]
        try:
            self._writer.write(chosen, may_wait=may_wait)
        except AmxError as error:
            raise Stuck(error.message) from error
        with contents.lock:
            for address, entry, _ in chosen:
                if entry.cold != NOWHERE:
                    contents.warm.discard(address)
        return bool(chosen)
