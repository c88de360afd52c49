"""The plain items of a LinkFrame as bytes: requests, invocations, results, replies and what carries events, with
nothing unusual in them.

What is only passed on is not parsed, and no message object is made of it. Every other item is left to the generated
classes: scans hand it over as a frame of its own, and a `Frame` takes both kinds. ../compile_wire.py compiles this
module with mypyc; scans of the uncompiled one do the same, but more slowly than the generated classes (see `COMPILED`).
"""

from __future__ import annotations

import os
from typing import Any, Final

from mypy_extensions import i64

from amx.v1 import link_pb2

COMPILED: Final = not __file__.endswith(".py") and not os.environ.get("AMX_PURE_PYTHON")
"""Whether scans are faster than the generated classes. AMX_PURE_PYTHON=1 in the environment says no."""

# First elements of the tuples that scans return.
OTHER: Final = 0
REQUEST: Final = 1
RESULT: Final = 2
INVOKE: Final = 3
REPLY: Final = 4
DELIVERED: Final = 5


class _Reader:
    """A position in bytes. Answers -1 where what follows is not what was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at: i64 = 0
        self.content_type = ""  # of the last payload

    def varint(self, end: i64) -> i64:
        """A number of at most 63 bits."""
        data = self.data
        at = self.at
        value: i64 = 0
        shift: i64 = 0
        while at < end and shift < 63:
            byte: i64 = data[at]
            at += 1
            if byte < 128:
                self.at = at
                return value | (byte << shift)
            value |= (byte & 127) << shift
            shift += 7
        return -1

    def number(self, tag: i64, end: i64) -> i64:
        """A number field, 0 if it is not there."""
        at = self.at
        if at >= end or self.data[at] != tag:
            return 0
        self.at = at + 1
        return self.varint(end)

    def span(self, tag: i64, end: i64) -> i64:
        """Goes to the beginning of a text, bytes or message field; where it ends."""
        at = self.at
        if at >= end or self.data[at] != tag:
            return -1
        self.at = at + 1
        length = self.varint(end)
        if length < 0 or length > end - self.at:
            return -1
        return self.at + length

    def text(self, tag: i64, end: i64) -> str | None:
        """A text field, empty if it is not there; None if it is not well-formed."""
        at = self.at
        if at >= end or self.data[at] != tag:
            return ""
        stop = self.span(tag, end)
        if stop < 0:
            return None
        try:
            text = self.data[self.at : stop].decode()
        except UnicodeDecodeError:
            return None
        self.at = stop
        return text

    def payload(self, end: i64) -> i64:
        """A Payload that ends at `end`: where its data begins. Its content type is in `content_type`."""
        kind = self.text(0x0A, end)
        if kind is None:
            return -1
        self.content_type = kind
        if self.at == end:
            return end
        if self.span(0x12, end) != end:
            return -1
        return self.at


def scan(data: bytes, from_sdk: bool) -> tuple[int, int, int, list[tuple[Any, ...]]] | None:
    """Reads a frame: (seq, ack, number of items, entries); None if it is not a frame as it is usually written.

    from_sdk: an SDK sent it, not the engine. Entries are in the order of the items:
    from an SDK (REQUEST, id, timeout_ms, agent, key, handler, type, priority, Message bytes), (RESULT, id, attempt,
    epoch, Payload bytes) and (DELIVERED, id), without targets; from the engine (INVOKE, id, attempt, epoch, timeout_ms,
    memory_version, agent, key, handler, Message bytes, content type, data) and (REPLY, id, content type, data); from
    both (OTHER, frame of the next items).
    What an entry gives as bytes is well-formed, except in (OTHER, ...).
    """
    reader = _Reader(data)
    size: i64 = len(data)
    seq: i64 = 0
    ack: i64 = 0
    items: i64 = 0
    others: i64 = -1  # where the latest run of other items began
    entries: list[tuple[Any, ...]] = []
    while reader.at < size:
        began = reader.at
        tag: i64 = data[began]
        reader.at = began + 1
        value = reader.varint(size)
        if value < 0:
            return None
        if tag == 0x0A:
            end = reader.at + value
            if value > size - reader.at:
                return None
            items += 1
            entry = _item_from_sdk(reader, end) if from_sdk else _item_from_engine(reader, end)
            reader.at = end
            if entry is None:
                if others < 0:
                    others = began
                continue
            if others >= 0:
                entries.append((OTHER, data[others:began]))
                others = -1
            entries.append(entry)
            continue
        if others >= 0:
            entries.append((OTHER, data[others:began]))
            others = -1
        if tag == 0x10:
            seq = value
        elif tag == 0x18:
            ack = value
        else:
            return None
    if others >= 0:
        entries.append((OTHER, data[others:]))
    return seq, ack, items, entries


def _item_from_sdk(reader: _Reader, end: i64) -> tuple[Any, ...] | None:
    data = reader.data
    id = reader.number(0x08, end)
    at = reader.at
    if id <= 0 or at >= end:
        return None
    if data[at] == 0x42:  # a Call
        if reader.span(0x42, end) != end:
            return None
        timeout = reader.number(0x10, end)
        if timeout < 0 or reader.span(0x22, end) != end:
            return None
        return _request(reader, end, id, timeout)
    if data[at] == 0x5A:  # a Delivered
        return (DELIVERED, id) if reader.span(0x5A, end) == end == reader.at else None
    if reader.span(0x32, end) != end:  # a Complete
        return None
    attempt = reader.number(0x08, end)
    epoch = reader.number(0x10, end)
    if attempt < 0 or epoch < 0:
        return None
    stop = reader.span(0x1A, end)
    began = reader.at
    if stop < 0 or reader.payload(stop) < 0:
        return None
    reader.at = stop
    if reader.number(0x30, end) < 0 or reader.at != end:
        return None
    return (RESULT, id, attempt, epoch, data[began:stop])


def _request(reader: _Reader, end: i64, id: i64, timeout: i64) -> tuple[Any, ...] | None:
    """A Message with nothing in it that the engine must act on, but its address and priority."""
    data = reader.data
    began = reader.at
    agent = reader.text(0x0A, end)
    key = reader.text(0x12, end)
    handler = reader.text(0x1A, end)
    kind = reader.text(0x22, end)
    if not agent or key is None or not handler or kind is None:
        return None
    if reader.at < end and data[reader.at] == 0x2A:
        stop = reader.span(0x2A, end)
        if stop < 0 or reader.payload(stop) < 0:
            return None
        reader.at = stop
    priority = reader.number(0x38, end)
    if priority < 0 or priority > 5 or not _origin(reader, end) or reader.at != end:
        return None
    return (REQUEST, id, timeout, agent, key, handler, kind, priority, data[began:end])


def _origin(reader: _Reader, end: i64) -> bool:
    """Passes over the last fields of a Message: source, traceparent, sent_at_ms. Whether they are well-formed."""
    if reader.text(0x5A, end) is None or reader.text(0x6A, end) is None:
        return False
    data = reader.data
    at = reader.at
    if end - at > 2 and data[at] == 0x80 and data[at + 1] == 0x01:
        reader.at = at + 2
        return reader.varint(end) >= 0
    return True


def _item_from_engine(reader: _Reader, end: i64) -> tuple[Any, ...] | None:
    data = reader.data
    id = reader.number(0x08, end)
    at = reader.at
    if id <= 0 or at >= end:
        return None
    if data[at] == 0x4A:  # a Reply
        if reader.span(0x4A, end) != end or reader.span(0x0A, end) != end:
            return None
        began = reader.payload(end)
        if began < 0:
            return None
        return (REPLY, id, reader.content_type, data[began:end])
    if reader.span(0x2A, end) != end:  # an Invoke
        return None
    stop = reader.span(0x0A, end)
    if stop < 0:
        return None
    first = reader.at
    agent = reader.text(0x0A, stop)
    key = reader.text(0x12, stop)
    handler = reader.text(0x1A, stop)
    if agent is None or key is None or handler is None or reader.text(0x22, stop) is None:
        return None
    reader.content_type = ""
    began = last = reader.at
    if reader.at < stop and data[reader.at] == 0x2A:
        last = reader.span(0x2A, stop)
        if last < 0:
            return None
        began = reader.payload(last)
        if began < 0:
            return None
        reader.at = last
    if reader.number(0x38, stop) < 0 or not _origin(reader, stop):
        return None
    added = reader.text(0x12, stop)  # the engine puts what it adds behind: the default key, the sender
    if added is None or reader.text(0x62, stop) is None or reader.at != stop:
        return None
    attempt = reader.number(0x10, end)
    epoch = reader.number(0x18, end)
    timeout = reader.number(0x20, end)
    version = reader.number(0x28, end)
    if attempt < 0 or epoch < 0 or timeout < 0 or version < 0 or reader.at != end:
        return None
    return (
        INVOKE, id, attempt, epoch, timeout, version, agent, added or key, handler, data[first:stop],
        reader.content_type, data[began:last],
    )  # fmt: skip


def _pairs(more: int) -> bytes:
    """The wire forms of the numbers below 2^14, two bytes each. more: 128 if another byte follows."""
    pairs = bytearray(2 << 14)
    pairs[0::2] = bytes(range(128, 256)) * 128
    pairs[1::2] = b"".join([bytes((high | more,)) * 128 for high in range(128)])
    return bytes(pairs)


_ENDS: Final = _pairs(0)
_MORE: Final = _pairs(128)
_ONES: Final = bytes(range(128))


def varint(value: i64) -> bytes:
    """The wire form of a number of at most 63 bits."""
    if value < 1 << 7:
        return _ONES[value : value + 1]
    if value < 1 << 14:
        return _ENDS[2 * value : 2 * value + 2]
    low = (value & 16383) * 2
    return _MORE[low : low + 2] + varint(value >> 14)


def field(tag: i64, text: str) -> bytes:
    """A text field. tag: its number times eight plus two, below 128."""
    data = text.encode()
    return b"".join((varint(tag), varint(len(data)), data))


def invoke_item(
    id: i64, message: bytes, added: bytes, attempt: i64, epoch: i64, timeout_ms: i64, memory_version: i64
) -> bytes:
    """An Invoke. message: the Message as it came; added: fields of it that come behind its own, or replace them."""
    body: i64 = len(message) + len(added)
    length = varint(body)
    first = varint(attempt)
    second = varint(epoch)
    third = varint(timeout_ms)
    fourth = varint(memory_version)  # 0, the default, is written too
    number = varint(id)
    inner: i64 = 5 + len(length) + body + len(first) + len(second) + len(third) + len(fourth)
    size = varint(inner)
    whole = varint(2 + len(number) + len(size) + inner)
    return b"".join(
        (
            b"\x0a", whole, b"\x08", number, b"\x2a", size, b"\x0a", length, message, added,
            b"\x10", first, b"\x18", second, b"\x20", third, b"\x28", fourth,
        )
    )  # fmt: skip


def reply_item(id: i64, payload: bytes) -> bytes:
    """A Reply with a result. payload: a Payload as it came."""
    number = varint(id)
    body: i64 = len(payload)
    length = varint(body)
    inner: i64 = 1 + len(length) + body
    size = varint(inner)
    whole = varint(2 + len(number) + len(size) + inner)
    return b"".join((b"\x0a", whole, b"\x08", number, b"\x4a", size, b"\x0a", length, payload))


def published_item(id: i64, event_id: str, subscribers: i64) -> bytes:
    """A Reply to a publish."""
    number = varint(id)
    name = field(0x0A, event_id)
    count = varint(subscribers)
    body: i64 = len(name) + 1 + len(count)
    length = varint(body)
    inner: i64 = 1 + len(length) + body
    size = varint(inner)
    whole = varint(2 + len(number) + len(size) + inner)
    return b"".join((b"\x0a", whole, b"\x08", number, b"\x4a", size, b"\x22", length, name, b"\x10", count))


def deliver_item(id: i64, event: bytes, receiver: bytes, epochs: list[int]) -> bytes:
    """A Deliver. receiver: its agent and handler as `field` gives them."""
    number = varint(id)
    length = varint(len(event))
    targets = b"".join([varint(epoch) for epoch in epochs])
    count = varint(len(targets))
    inner: i64 = 1 + len(length) + len(event) + len(receiver) + 1 + len(count) + len(targets)
    size = varint(inner)
    whole = varint(2 + len(number) + len(size) + inner)
    return b"".join(
        (b"\x0a", whole, b"\x08", number, b"\x52", size, b"\x0a", length, event, receiver, b"\x22", count, targets)
    )


def delivered_item(id: i64) -> bytes:
    """A Delivered without targets."""
    number = varint(id)
    return b"".join((b"\x0a", varint(3 + len(number)), b"\x08", number, b"\x5a\x00"))


def call_item(id: i64, invocation_id: i64, timeout_ms: i64, tag: i64, message: bytes) -> bytes:
    """A Call. tag: of the field of its operation, which is `message`. 0: no invocation, no time limit."""
    number = varint(id)
    head = b"\x08" + varint(invocation_id) if invocation_id else b""
    if timeout_ms:
        head += b"\x10" + varint(timeout_ms)
    kind = varint(tag)
    length = varint(len(message))
    inner: i64 = len(head) + len(kind) + len(length) + len(message)
    size = varint(inner)
    whole = varint(2 + len(number) + len(size) + inner)
    return b"".join((b"\x0a", whole, b"\x08", number, b"\x42", size, head, kind, length, message))


def _payload_head(content_type: str, size: i64) -> bytes:
    """A Payload up to its data, of `size` bytes."""
    head = field(0x0A, content_type) if content_type else b""
    return head + b"\x12" + varint(size) if size else head


def complete_item(id: i64, attempt: i64, epoch: i64, content_type: str, data: bytes, duration_us: i64) -> bytes:
    """A Complete with a result and no effects."""
    number = varint(id)
    first = varint(attempt)
    second = varint(epoch)
    head = _payload_head(content_type, len(data))
    body: i64 = len(head) + len(data)
    length = varint(body)
    last = varint(duration_us)
    inner: i64 = 4 + len(first) + len(second) + len(length) + body + len(last)
    size = varint(inner)
    whole = varint(2 + len(number) + len(size) + inner)
    return b"".join(
        (
            b"\x0a", whole, b"\x08", number, b"\x32", size, b"\x08", first, b"\x10", second,
            b"\x1a", length, head, data, b"\x30", last,
        )
    )  # fmt: skip


def request_item(id: i64, timeout_ms: i64, address: bytes, content_type: str, data: bytes) -> bytes:
    """A Call of a request with nothing but a payload. address: its agent, key and handler as `field` gives them."""
    number = varint(id)
    head = _payload_head(content_type, len(data))
    body: i64 = len(head) + len(data)
    length = varint(body)
    message: i64 = len(address) + 1 + len(length) + body
    around = varint(message)
    time = varint(timeout_ms)
    inner: i64 = 2 + len(time) + len(around) + message
    size = varint(inner)
    whole = varint(2 + len(number) + len(size) + inner)
    return b"".join(
        (
            b"\x0a", whole, b"\x08", number, b"\x42", size, b"\x10", time,
            b"\x22", around, address, b"\x2a", length, head, data,
        )
    )  # fmt: skip


class Frame:
    """Items on their way into one LinkFrame: message objects and ready bytes, in the order in which they came."""

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._add: Any = None  # makes an item in the last part, if that is a LinkFrame
        self.count = 0
        """Items."""
        self.size = 0
        """Bytes, about."""

    def add(self, size: int) -> Any:
        """A new LinkItem, to be filled by the caller. size: what it will have, in bytes, about."""
        add = self._add
        if add is None:
            part = link_pb2.LinkFrame()
            self._parts.append(part)
            add = self._add = part.items.add
        self.count += 1
        self.size += size
        return add()

    def append(self, item: bytes) -> None:
        """Takes an item as one of the functions above has made it."""
        self._parts.append(item)
        self._add = None
        self.count += 1
        self.size += len(item)

    def take_back(self) -> None:
        """Removes the LinkItem that `add` has returned last."""
        del self._parts[-1].items[-1]
        self.count -= 1

    def items(self) -> list[Any]:
        """Every item as a LinkItem."""
        return list(link_pb2.LinkFrame.FromString(self._items()).items)

    def serialize(self, seq: int, ack: int) -> bytes:
        """The frame as it travels. ack: 0 for none."""
        if ack:
            return b"".join((self._items(), b"\x10", varint(seq), b"\x18", varint(ack)))
        return b"".join((self._items(), b"\x10", varint(seq)))

    def _items(self) -> bytes:
        # Frames that follow each other are one frame with the items of all of them: that is how protobuf merges.
        parts = self._parts
        for index, part in enumerate(parts):
            if type(part) is not bytes:
                parts[index] = part.SerializeToString()
        self._add = None
        return b"".join(parts)
