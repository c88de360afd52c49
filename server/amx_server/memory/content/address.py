"""Content addresses: the BLAKE3 hash of the bytes, 32 bytes long.

Nodes, which link to other content, are hashed under a key of their own, so that no value that merely looks like a node
can ever take a node's address.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from blake3 import blake3

Data = bytes | bytearray | memoryview
ADDRESS_BYTES: Final = 32
_NODE_KEY: Final = blake3(b"amx content node, version 1").digest()
_COUNT: Final = struct.Struct("<I")


def address_of(data: Data) -> bytes:
    """The address of a value: BLAKE3 of its bytes."""
    return blake3(data).digest()


def node_address_of(links: Sequence[bytes], body: Data) -> bytes:
    """The address of a node: keyed BLAKE3 of the number of links, the links and the body."""
    hasher = blake3(_COUNT.pack(len(links)), key=_NODE_KEY)
    hasher.update(b"".join(links))
    hasher.update(body)
    return hasher.digest()
