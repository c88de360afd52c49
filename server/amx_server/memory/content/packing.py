"""Content in memory made ready for the tiers below: compressed, and cut into shared pieces where it is large."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from amx_server.memory.content.address import address_of
from amx_server.memory.content.chunking import MOST, pieces
from amx_server.memory.content.codec import PLAIN, Packed
from amx_server.memory.content.contents import Contents
from amx_server.memory.content.entry import CHUNKED, LEAF, NOWHERE, Entry

_NOTHING: Final = Packed(PLAIN, b"")


class Packer:
    """Any thread may call it; two that pack the same object do the work twice and get the same."""

    def __init__(self, contents: Contents, make_room: Callable[[], None]) -> None:
        """make_room: called between pieces of a large value; may raise, which gives the value up."""
        self._contents = contents
        self._make_room = make_room

    def is_too_large(self, entry: Entry) -> bool:
        """Whether content must be split before it is packed."""
        return entry.kind == LEAF and entry.size > MOST and entry.cold == NOWHERE

    def packed(self, address: bytes, entry: Entry) -> Packed | None:
        """The body as it is stored; None: it is not in memory (any more)."""
        if entry.kind == CHUNKED:
            return _NOTHING
        contents = self._contents
        packed = contents.warm.peek(address)
        if packed is None:
            data = contents.hot.peek(address)
            if data is None:
                with contents.lock:  # it may just have been on its way from one tier to the next
                    return contents.warm.peek(address)
            contents.trainer.offer(data)
            packed = contents.codec.pack(data)
        return packed

    def split(self, address: bytes, entry: Entry) -> None:
        """Turns a large value in the hot tier into pieces in the warm tier, or does nothing if it is gone."""
        contents = self._contents
        data = contents.hot.peek(address)
        if data is None:
            return
        links: list[bytes] = []
        try:
            for piece in pieces(data):
                links.append(self._adopt_piece(piece))
                self._make_room()
        except BaseException:
            with contents.lock:
                contents.orphan(links)
            raise
        with contents.lock:
            if contents.index.get(address) is entry and entry.kind == LEAF:
                entry.links = tuple(links)
                entry.kind = CHUNKED
                contents.plain_bytes -= entry.size
            else:
                contents.orphan(links)  # another thread was faster, or the value was collected

    def restore_pieces(self, data: bytes) -> None:
        """Puts back those pieces of a known large value whose bytes were lost."""
        contents = self._contents
        for piece in pieces(data):
            address = address_of(piece)
            if address in contents.lost:
                packed = contents.codec.pack(piece)
                with contents.lock:
                    if address in contents.lost:
                        contents.insert(address, LEAF, len(piece), len(piece), ())
                        contents.warm.add(address, packed)
                self._make_room()

    def _adopt_piece(self, piece: memoryview) -> bytes:
        contents = self._contents
        address = address_of(piece)
        packed = None
        while True:
            with contents.lock:
                child = contents.index.get(address)
                if child is None and packed is not None:
                    child = contents.insert(address, LEAF, len(piece), len(piece), ())
                    contents.warm.add(address, packed)
                if child is not None:
                    child.parents += 1
                    contents.idle.pop(address, None)
                    return child.address
            packed = contents.codec.pack(piece)
