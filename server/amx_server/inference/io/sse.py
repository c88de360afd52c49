"""Server-sent events: bytes in, events out. No sockets. As the WHATWG HTML standard has it (9.2.6), without retry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. event: its type; `message` where the stream names none."""

    data: bytes
    event: str = "message"
    id: str = ""


class EventTooLarge(ValueError):
    """An event outgrew its bound."""


class EventParser:
    """`feed` what arrives, in pieces of any size. What has no blank line after it at the end was no event."""

    __slots__ = ("_buffer", "_data", "_event", "_first", "_id", "_max_bytes", "_size")

    def __init__(self, max_event_bytes: int = 1 << 20) -> None:
        self._max_bytes = max_event_bytes
        self._buffer = b""
        self._first = True
        self._data: list[bytes] = []
        self._size = 0
        self._event = ""
        self._id = ""

    @property
    def pending(self) -> bool:
        """Whether an event has begun and not ended."""
        return bool(self._buffer or self._data)

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that `data` completes. Raises EventTooLarge."""
        buffer = self._buffer + data if self._buffer else data
        if self._first and buffer:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._buffer = buffer
                return []
            buffer = buffer.removeprefix(b"\xef\xbb\xbf")
            self._first = False
        # A carriage return at the very end may be half of a line's end.
        held = b"\r" if buffer.endswith(b"\r") else b""
        if held:
            buffer = buffer[:-1]
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = buffer.split(b"\n")
        self._buffer = lines.pop() + held
        events: list[ServerEvent] = []
        for line in lines:
            if line:
                self._line(line)
            elif self._data:
                events.append(ServerEvent(b"\n".join(self._data), self._event or "message", self._id))
                self._data, self._size, self._event = [], 0, ""
            else:
                self._event = ""
        if self._size + len(self._buffer) > self._max_bytes:
            raise EventTooLarge(f"an event of more than {self._max_bytes} bytes")
        return events

    def _line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1
            if self._size > self._max_bytes:
                raise EventTooLarge(f"an event of more than {self._max_bytes} bytes")
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")
