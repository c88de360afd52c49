"""Reading content that is not in the young part of the hot tier, and moving it up when it is read again."""

from __future__ import annotations

from typing import Final

import zstandard

from amx_server.core.errors import AmxError
from amx_server.memory.content.address import address_of, node_address_of
from amx_server.memory.content.codec import PLAIN, Packed
from amx_server.memory.content.contents import Contents, Damage
from amx_server.memory.content.demotion import Demotion
from amx_server.memory.content.entry import CHUNKED, LEAF, NODE, NOWHERE, Entry, Location
from amx_server.memory.content.errors import content_corrupted, content_not_found, disk_failed
from amx_server.memory.content.quarantine import Quarantine
from amx_server.memory.content.records import links_bytes
from amx_server.memory.content.tier import Tier

_ATTEMPTS: Final = 8  # content may move from tier to tier and from segment to segment while it is looked for
_HOT_SHARE: Final = 4  # a value larger than this part of the hot tier is not promoted into it


class Reader:
    """Any thread may call it. hits and misses count approximately: threads may overwrite each other's."""

    def __init__(self, contents: Contents, demotion: Demotion, quarantine: Quarantine) -> None:
        self._contents = contents
        self._hot = contents.hot
        self._warm = contents.warm
        self._codec = contents.codec
        self._demotion = demotion
        self._quarantine = quarantine
        self.hot_hits = 0
        self.warm_hits = 0
        self.cold_hits = 0

    def load(self, address: bytes) -> bytes:
        """The plain bytes, from wherever they are. Raises AmxError CONTENT_NOT_FOUND or CONTENT_CORRUPTED."""
        data = self._hot.old.get(address)
        if data is not None:
            self._use(self._hot, address)
            self.hot_hits += 1
            return data
        packed = self._warm.young.get(address)
        if packed is None:
            packed = self._warm.old.get(address)
            if packed is None:
                return self._load_cold(address)
            self._use(self._warm, address)
        try:
            data = self._codec.contexts.unpack[packed.codec](packed.body)
        except KeyError:
            data = self._codec.unpack(packed.codec, packed.body)
        self.warm_hits += 1
        if packed.used:
            packed.used = False
            self._promote(address, self._contents.index.get(address), data)
        else:
            packed.used = True
        return data

    def view(self, address: bytes) -> memoryview:
        """The plain bytes without a copy where possible: in memory, or mapped from disk where they lie there plain."""
        contents = self._contents
        data = contents.hot.peek(address)
        if data is None and address not in contents.warm:
            entry = contents.index.get(address)
            if entry is not None and entry.kind == LEAF and entry.cold != NOWHERE:
                where = Location.unpack(entry.cold)
                if where.codec == PLAIN and contents.log is not None:
                    try:
                        mapped = contents.log.read(where)
                    except (KeyError, OSError):
                        mapped = None
                    if mapped is not None and address_of(mapped) == address:
                        self.cold_hits += 1
                        return mapped
        return memoryview(self.load(address) if data is None else data).toreadonly()

    def promote(self, address: bytes, data: bytes) -> None:
        """Takes the plain bytes of known content into the hot tier, if there is room."""
        self._promote(address, self._contents.index.get(address), data)

    def check(self, address: bytes, entry: Entry, location: int) -> bytes | None:
        """The plain bytes at a location; None: they are damaged, which was noted, or lie elsewhere by now."""
        try:
            data, why = self._read(address, entry, location)
        except KeyError:
            return None
        if data is None and entry.cold == location:
            self._damaged(address, entry, location, why)
        return data

    def is_whole(self, address: bytes, entry: Entry, location: int) -> bool:
        """Whether what lies at a location has its address; where it has not, that is noted."""
        if entry.kind == CHUNKED:
            try:
                self._joined(address, entry)
            except AmxError:
                return False  # noted for the piece
            return True
        return self.check(address, entry, location) is not None

    def _load_cold(self, address: bytes) -> bytes:
        contents = self._contents
        for _ in range(_ATTEMPTS):
            with contents.lock:
                entry = contents.entry(address)
                data = contents.hot.peek(address)
                packed = contents.warm.peek(address) if data is None else None
                location = entry.cold
            if data is not None:
                return data
            if packed is not None:
                return contents.codec.unpack(packed.codec, packed.body)
            if entry.kind == CHUNKED:
                return self._join(address, entry)
            if location == NOWHERE:
                continue
            try:
                data, why = self._read(address, entry, location)
            except KeyError:
                continue  # its segment was compacted away, it lies in another
            if data is not None:
                self.cold_hits += 1
                self._warm_up(address, entry, location, data)
                return data
            if entry.cold == location:
                self._damaged(address, entry, location, why)
        raise content_not_found(address)

    def _read(self, address: bytes, entry: Entry, location: int) -> tuple[bytes | None, str]:
        """The verified plain bytes, or None and what is wrong. Raises KeyError if the segment is gone."""
        contents = self._contents
        where = Location.unpack(location)
        if contents.log is None:
            raise KeyError(where.segment)
        try:
            payload = contents.log.read(where)
        except OSError as error:
            raise disk_failed(str(contents.log.folder), error.strerror or str(error)) from error
        body = payload[links_bytes(len(entry.links)) :]
        try:
            data = contents.codec.unpack(where.codec, body)
        except KeyError:
            return None, f"its compression dictionary {where.codec} is lost"
        except (zstandard.ZstdError, MemoryError) as error:
            return None, f"it cannot be decompressed: {error}"
        found = node_address_of(entry.links, data) if entry.kind == NODE else address_of(data)
        return (data, "") if found == address else (None, "its bytes do not have this address")

    def _damaged(self, address: bytes, entry: Entry, location: int, why: str) -> None:
        """Takes damaged content out of use."""
        contents = self._contents
        where = self._quarantine.keep(address, location)
        with contents.lock:
            if entry.cold == location:
                contents.lose(address, entry, Damage(address, where, why))

    def _join(self, address: bytes, entry: Entry) -> bytes:
        data = self._joined(address, entry)
        self.cold_hits += 1
        if entry.used or entry.cold == NOWHERE:
            self._promote(address, entry, data)
        else:
            entry.used = True
        return data

    def _joined(self, address: bytes, entry: Entry) -> bytes:
        try:
            data = b"".join(map(self._piece, entry.links))
        except AmxError as error:
            raise content_corrupted(address, "one of its pieces", error.message) from error
        if address_of(data) != address:
            raise content_corrupted(address, "its list of pieces", "together they do not have this address")
        return data

    def _piece(self, address: bytes) -> bytes:
        contents = self._contents
        for _ in range(_ATTEMPTS):
            data = contents.hot.peek(address)
            if data is not None:
                return data
            packed = contents.warm.peek(address)
            if packed is not None:
                return contents.codec.unpack(packed.codec, packed.body)
            with contents.lock:
                entry = contents.entry(address)
                location = entry.cold
            if location != NOWHERE:
                try:
                    data, why = self._read(address, entry, location)
                except KeyError:
                    continue
                if data is not None:
                    return data
                if entry.cold == location:
                    self._damaged(address, entry, location, why)
        raise content_not_found(address)

    def _promote(self, address: bytes, entry: Entry | None, data: bytes) -> None:
        hot = self._hot
        if entry is None or len(data) > hot.budget // _HOT_SHARE or not self._has_room(hot):
            return
        with self._contents.lock:
            if self._contents.index.get(address) is entry:
                hot.add(entry.address, data)
                entry.used = False
        self._demotion.settle()

    def _warm_up(self, address: bytes, entry: Entry, location: int, data: bytes) -> None:
        """Read from disk once: its packed bytes stay in memory. Twice: so do its plain ones."""
        contents, warm = self._contents, self._warm
        where = Location.unpack(location)
        if entry.used or where.codec == PLAIN:
            self._promote(address, entry, data)
            return
        entry.used = True
        if where.stored > warm.budget // _HOT_SHARE or contents.log is None or not self._has_room(warm):
            return
        try:
            body = bytes(contents.log.read(where)[links_bytes(len(entry.links)) :])
        except (KeyError, OSError):
            return
        with contents.lock:
            if contents.index.get(address) is entry:
                warm.add(entry.address, Packed(where.codec, body, used=True))
        self._demotion.settle()

    def _use(self, tier: Tier[bytes] | Tier[Packed], address: bytes) -> None:
        contents = self._contents
        with contents.lock:
            entry = contents.index.get(address)
            if entry is not None:
                tier.use(entry.address)

    def _has_room(self, tier: Tier[bytes] | Tier[Packed]) -> bool:
        """Whether a tier is within its budget, or can be brought there at once: reading never waits for that."""
        if tier.bytes > tier.budget:
            self._demotion.settle()
        return tier.bytes <= tier.budget
