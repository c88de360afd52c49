"""Compression of content: zstd, with dictionaries trained from the store's own small objects.

Measured with `python -m benchmarks.content_store --codecs` on 4 KiB of JSON messages, us to pack, to unpack, ratio, on
a busy machine: lz4 12 / 2.2 / 1.3, zstd level 3 28 / 9.2 / 1.9, with a 64 KiB dictionary 20 / 7.0 / 3.8 (ratios at 1
KiB: 1.1, 1.6, 3.4). lz4 unpacks faster but holds a third as much in the same budget, and what it packed would have to
be packed again for the disk: warm and cold content are the same zstd bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import zstandard

PLAIN: Final = 0
ZSTD: Final = 1
FIRST_DICTIONARY: Final = 16
"""A codec of this number or above is zstd with the dictionary of that number."""
LAST_DICTIONARY: Final = 0xFFFF
_WORTH: Final = 0.9  # packed content that takes more of its plain size than this is kept plain


class Packed:
    """Content as the warm and the cold tier hold it. used: it was read once since it lies in the warm one."""

    __slots__ = ("body", "codec", "used")

    def __init__(self, codec: int, body: bytes, used: bool = False) -> None:
        self.codec = codec
        self.body = body
        self.used = used

    @property
    def plain_size(self) -> int:
        """Bytes of the plain content: zstd frames begin with it."""
        return len(self.body) if self.codec == PLAIN else zstandard.frame_content_size(self.body)


class _Contexts(threading.local):
    """What one thread compresses with: zstd contexts are not to be shared between threads."""

    def __init__(self) -> None:
        self.pack: dict[int, Callable[[bytes], bytes]] = {}
        self.unpack: dict[int, Callable[[bytes | memoryview], bytes]] = {PLAIN: bytes}


class Codec:
    """Packs with the latest dictionary and unpacks with any that was added. Methods may be called by any thread.

    contexts: what the calling thread has ready, by codec, for callers that count every microsecond.
    """

    def __init__(self, level: int) -> None:
        self._level = level
        self._dictionaries: dict[int, zstandard.ZstdCompressionDict] = {}
        self.contexts = _Contexts()
        self.current = ZSTD

    def add_dictionary(self, codec: int, data: bytes) -> None:
        """Makes a dictionary known under its number; the highest number packs from now on.

        The dictionary is never precomputed: doing that while a compressor uses it ends the process.
        """
        self._dictionaries[codec] = zstandard.ZstdCompressionDict(data)
        self.current = max(self.current, codec)

    def dictionary(self, codec: int) -> bytes:
        """The bytes of a dictionary. Raises KeyError where it is unknown."""
        return self._dictionaries[codec].as_bytes()

    def knows(self, codec: int) -> bool:
        """Whether content of this codec can be unpacked."""
        return codec in (PLAIN, ZSTD) or codec in self._dictionaries

    def pack(self, data: bytes | memoryview) -> Packed:
        """Compresses, unless that gains less than a tenth."""
        codec = self.current
        pack = self.contexts.pack.get(codec)
        if pack is None:
            pack = self._compressor(codec).compress
            self.contexts.pack = {codec: pack}  # half a megabyte for a dictionary: none is kept that packs no more
        body = pack(data)  # type: ignore[arg-type] # any buffer will do
        if len(body) >= len(data) * _WORTH:
            return Packed(PLAIN, bytes(data))
        return Packed(codec, bytes(memoryview(body)))  # a copy: the compressor's own takes as much as the plain bytes

    def unpack(self, codec: int, body: bytes | memoryview) -> bytes:
        """The plain bytes. Raises KeyError for an unknown dictionary, zstandard.ZstdError for a damaged body."""
        unpack = self.contexts.unpack.get(codec)
        if unpack is None:
            unpack = self.contexts.unpack[codec] = self._decompressor(codec).decompress
        return unpack(body)

    def _compressor(self, codec: int) -> zstandard.ZstdCompressor:
        dictionary = None if codec == ZSTD else self._dictionaries[codec]
        return zstandard.ZstdCompressor(level=self._level, dict_data=dictionary, write_dict_id=False)

    def _decompressor(self, codec: int) -> zstandard.ZstdDecompressor:
        return zstandard.ZstdDecompressor(dict_data=None if codec == ZSTD else self._dictionaries[codec])
