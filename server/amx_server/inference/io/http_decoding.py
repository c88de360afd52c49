"""Content that came compressed: gzip and deflate, a bounded amount at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

ACCEPTED = "gzip, deflate"
"""What is asked for (Accept-Encoding)."""
_PART_BYTES = 256 << 10


class UndecodableError(ValueError):
    """Content is not what its encoding says, or the encoding was not asked for."""


class Decoder:
    """`feed` what arrives. Gives plain parts of at most 256 KiB, so that whoever counts them can stop in time."""

    __slots__ = ("_inflating", "_raw_allowed")

    def __init__(self, encoding: str) -> None:
        """encoding: of Content-Encoding. Raises UndecodableError for one that was not asked for."""
        if encoding.lower() not in ("gzip", "x-gzip", "deflate"):
            raise UndecodableError(f"content encoded as '{encoding}', which was not asked for")
        self._raw_allowed = encoding.lower() == "deflate"  # some servers mean deflate without the frame of zlib
        self._inflating: zlib._Decompress | None = None

    @property
    def pending(self) -> bool:
        """Whether what was fed ends in the middle."""
        return self._inflating is not None and not self._inflating.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The plain parts that `data` completes. Raises UndecodableError."""
        try:
            while data:
                if self._inflating is None or self._inflating.eof:
                    framed = not self._raw_allowed or data[0] & 0x0F == 8
                    self._inflating = zlib.decompressobj(47 if framed else -zlib.MAX_WBITS)
                if part := self._inflating.decompress(data, _PART_BYTES):
                    yield part
                data = self._inflating.unused_data if self._inflating.eof else self._inflating.unconsumed_tail
            inflating = self._inflating
            while inflating is not None and not inflating.eof and (part := inflating.decompress(b"", _PART_BYTES)):
                yield part
        except zlib.error as error:
            raise UndecodableError(f"content that cannot be decompressed: {error}") from error
