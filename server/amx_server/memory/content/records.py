"""The format of a segment file: a header, then records, each with checksums over its own header and its payload.

A segment begins with its header twice (24 bytes each): magic `AMXCSEG1`, number (u64), nonce (u32), CRC. A record is a
60-byte header (see `_HEADER`: magic, CRC of the header, CRC of the payload, bytes stored, bytes plain, number of links,
codec, kind, address) and its payload. CRCs of headers begin with the segment's random nonce, so that content that looks
like a record is never taken for one. All numbers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from amx_server.memory.content.address import ADDRESS_BYTES
from amx_server.memory.content.entry import CHUNKED, LEAF, NODE
from amx_server.memory.content.options import Owner

# Kinds of records beside LEAF, CHUNKED and NODE.
COUNTS: Final = 8  # addresses and how often each is retained from here on
OWNERS: Final = 9  # owners and how many bytes each retains from here on
DICTIONARY: Final = 10  # a compression dictionary; `codec` is its number
OBJECTS: Final = frozenset((LEAF, CHUNKED, NODE))

_MAGIC: Final = b"\xa7AMX"
_HEADER: Final = struct.Struct("<4sIIIIIHBx32s")
_CHECKED_FROM: Final = 8  # the magic and the CRC itself are not under the CRC
HEADER_BYTES: Final = _HEADER.size
_SEGMENT_MAGIC: Final = b"AMXCSEG1"
_SEGMENT: Final = struct.Struct("<8sQII")
SEGMENT_HEADER_BYTES: Final = 2 * _SEGMENT.size
_WEIGHT: Final = struct.Struct("<Q")
_COUNT: Final = struct.Struct("<32sI")
_OWNER: Final = struct.Struct("<HHQ")
COUNT_BYTES: Final = _COUNT.size
NO_ADDRESS: Final = bytes(ADDRESS_BYTES)


class Record(NamedTuple):
    """A record to be written. links and weight: of chunked values and nodes."""

    kind: int
    address: bytes
    codec: int
    plain: int
    body: bytes | memoryview
    links: tuple[bytes, ...] = ()
    weight: int = 0


class Found(NamedTuple):
    """A record as it lies in a segment. offset: of its header."""

    kind: int
    address: bytes
    codec: int
    plain: int
    links: int
    offset: int
    stored: int
    payload_crc: int

    @property
    def payload(self) -> int:
        """Where the payload begins."""
        return self.offset + HEADER_BYTES

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + HEADER_BYTES + self.stored


class Hole(NamedTuple):
    """Bytes that are no record. `torn`: nothing readable follows, as an interrupted write leaves it."""

    offset: int
    end: int
    torn: bool


def segment_header(number: int, nonce: int) -> bytes:
    """The first bytes of a segment file."""
    fields = _SEGMENT.pack(_SEGMENT_MAGIC, number, nonce, 0)[:-4]
    return (fields + struct.pack("<I", zlib.crc32(fields))) * 2


def read_segment_header(data: bytes) -> tuple[int, int] | None:
    """Number and nonce, from whichever copy is whole; None: neither is."""
    for offset in (0, _SEGMENT.size):
        copy = data[offset : offset + _SEGMENT.size]
        if len(copy) == _SEGMENT.size:
            magic, number, nonce, crc = _SEGMENT.unpack(copy)
            if magic == _SEGMENT_MAGIC and crc == zlib.crc32(copy[:-4]):
                return number, nonce
    return None


def links_bytes(links: int) -> int:
    """How many bytes of a payload lie before the body."""
    return _WEIGHT.size + ADDRESS_BYTES * links if links else 0


def encode(record: Record, nonce: int) -> bytes:
    """The record as it is written."""
    body = record.body
    payload = b"".join((_WEIGHT.pack(record.weight), *record.links, body)) if record.links else body
    header = _HEADER.pack(
        _MAGIC,
        0,
        zlib.crc32(payload),
        len(payload),
        record.plain,
        len(record.links),
        record.codec,
        record.kind,
        record.address,
    )
    crc = zlib.crc32(header[_CHECKED_FROM:], nonce)
    return b"".join((_MAGIC, crc.to_bytes(4, "little"), header[_CHECKED_FROM:], payload))


def read_links(payload: memoryview, links: int) -> tuple[tuple[bytes, ...], int]:
    """Links and weight from the payload of a chunked value or node."""
    if not links:
        return (), 0
    addresses = bytes(payload[_WEIGHT.size : links_bytes(links)])
    split = tuple(addresses[at : at + ADDRESS_BYTES] for at in range(0, len(addresses), ADDRESS_BYTES))
    return split, _WEIGHT.unpack(payload[: _WEIGHT.size])[0]


def scan(view: memoryview, nonce: int, *, payloads: bool) -> Iterator[Found | Hole]:
    """Everything in a segment, in order. payloads: check those of leaves, too; others are always checked."""
    offset = SEGMENT_HEADER_BYTES
    while offset < len(view):
        found = _record_at(view, offset, nonce, payloads)
        if found is None:
            end = _next_record(view, offset + 1, nonce)
            yield Hole(offset, end, torn=end == len(view))
            offset = end
        else:
            yield found
            offset = found.end


def payload_is_whole(view: memoryview, found: Found) -> bool:
    """Whether a record's payload is what was written."""
    return zlib.crc32(view[found.payload : found.end]) == found.payload_crc


def _record_at(view: memoryview, offset: int, nonce: int, payloads: bool) -> Found | None:
    header = view[offset : offset + HEADER_BYTES]
    if len(header) < HEADER_BYTES or bytes(header[:4]) != _MAGIC:
        return None
    _, crc, payload_crc, stored, plain, links, codec, kind, address = _HEADER.unpack(header)
    if crc != zlib.crc32(header[_CHECKED_FROM:], nonce) or offset + HEADER_BYTES + stored > len(view):
        return None
    found = Found(kind, address, codec, plain, links, offset, stored, payload_crc)
    if (payloads or kind != LEAF) and not payload_is_whole(view, found):
        return None
    return found


def _next_record(view: memoryview, start: int, nonce: int) -> int:
    """Where the next whole record begins, or the end of the segment."""
    step = 1 << 20
    for begin in range(start, len(view), step):
        window = bytes(view[begin : begin + step + len(_MAGIC)])
        at = window.find(_MAGIC)
        while at >= 0:
            if _record_at(view, begin + at, nonce, payloads=True) is not None:
                return begin + at
            at = window.find(_MAGIC, at + 1)
    return len(view)


def counts_records(counts: Sequence[tuple[bytes, int]]) -> Iterator[Record]:
    """Records that say how often each address is retained."""
    for start in range(0, len(counts), 4096):
        body = b"".join(_COUNT.pack(*pair) for pair in counts[start : start + 4096])
        yield Record(COUNTS, NO_ADDRESS, 0, len(body), body)


def read_counts(payload: memoryview) -> Iterator[tuple[bytes, int]]:
    """What `counts_records` wrote."""
    return _COUNT.iter_unpack(payload)


def owners_record(owners: Iterable[tuple[Owner, int]]) -> Record:
    """A record that says how many bytes each owner retains."""
    body = bytearray()
    for owner, size in owners:
        namespace, agent = owner.namespace.encode(), owner.agent.encode()
        body += _OWNER.pack(len(namespace), len(agent), size) + namespace + agent
    return Record(OWNERS, NO_ADDRESS, 0, len(body), bytes(body))


def read_owners(payload: memoryview) -> Iterator[tuple[Owner, int]]:
    """What `owners_record` wrote."""
    offset = 0
    while offset < len(payload):
        namespace, agent, size = _OWNER.unpack(payload[offset : offset + _OWNER.size])
        offset += _OWNER.size
        name = bytes(payload[offset : offset + namespace]).decode()
        offset += namespace
        yield Owner(name, bytes(payload[offset : offset + agent]).decode()), size
        offset += agent
