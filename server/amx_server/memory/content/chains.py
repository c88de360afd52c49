"""Transcripts as chains of shared messages: a new message is a node that names the chain before it.

Appending stores the new message only. A fork is the same head retained once more; what two conversations have in common
is stored once, whoever appended it first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from amx_server.core.errors import invalid
from amx_server.memory.content.address import Data
from amx_server.memory.content.store import ContentStore

_BODY: Final = struct.Struct("<cBI")  # mark, flags, messages in the chain
_MARK: Final = b"C"
_HAS_PARENT: Final = 1
_IS_LINKED: Final = 2
INLINE_BYTES: Final = 1024
"""Messages up to this size lie in their node: an object and a record less for each. Larger ones are values of their
own, shared with every other use of the same bytes."""


class Chains:
    """Reads and appends to chains in a store. A chain is named by its head, the address of its last node.

    Heads are content like any other: retain those that matter, release the one that an append has replaced.
    """

    def __init__(self, store: ContentStore) -> None:
        self._store = store

    def append(self, head: bytes | None, message: Data) -> bytes:
        """The head of the chain with one message more; None: of a new chain. `head` stays what it was.

        Raises as ContentStore.put_node; INVALID_CHAIN where `head` is no chain.
        """
        links: tuple[bytes, ...] = ()
        flags, length = 0, 1
        if head is not None:
            length = self.length(head) + 1
            links, flags = (head,), _HAS_PARENT
        if len(message) > INLINE_BYTES:
            links, flags = (*links, self._store.put(message)), flags | _IS_LINKED
            message = b""
        return self._store.put_node(links, _BODY.pack(_MARK, flags, length) + message)

    def extend(self, head: bytes | None, messages: Iterable[Data]) -> bytes | None:
        """The head after several messages; `head` itself if there are none."""
        for message in messages:
            head = self.append(head, message)
        return head

    def length(self, head: bytes) -> int:
        """Messages in a chain."""
        return self._read(head)[2]

    def newest_first(self, head: bytes | None) -> Iterator[bytes]:
        """The messages from the last to the first, read as they are asked for."""
        while head is not None:
            head, message, _ = self._read(head)
            yield message

    def messages(self, head: bytes | None, last: int = 0) -> list[bytes]:
        """The messages in the order they were appended; last: only that many of the end, 0: all."""
        found = []
        for message in self.newest_first(head):
            found.append(message)
            if len(found) == last:
                break
        found.reverse()
        return found

    def heads(self, head: bytes | None) -> Iterator[bytes]:
        """The head and all heads before it: every state the conversation was in, the latest first."""
        while head is not None:
            yield head
            head = self._read(head)[0]

    def _read(self, head: bytes) -> tuple[bytes | None, bytes, int]:
        links, body = self._store.node(head)
        if len(body) < _BODY.size or body[:1] != _MARK:
            raise invalid("INVALID_CHAIN", f"content {head.hex()} is not the head of a chain; use what append returned")
        _, flags, length = _BODY.unpack_from(body)
        parent = links[0] if flags & _HAS_PARENT else None
        return parent, self._store.get(links[-1]) if flags & _IS_LINKED else body[_BODY.size :], length
