"""What waits to be written to one link: items gathered into frames, frames kept until the peer has them.

There is no timer: whatever was added while the last write ran is the next frame.
"""

from __future__ import annotations

import asyncio
from collections import deque

from amx.v1 import link_pb2
from amx.wire import Frame


class Outbox:
    """Items in, frames out. `add` never blocks; `next` waits until there is something to send.

    Frames that carry items are numbered and kept until `acknowledge`, so that a resumed link can repeat them.
    """

    __slots__ = (
        "_ack_sent",
        "_closed",
        "_frame",
        "_max_bytes",
        "_max_items",
        "_repeat",
        "_sealed",
        "_seq",
        "_turn",
        "_unacked",
        "_waiter",
        "_wanted",
        "keep",
        "queued_bytes",
        "received",
        "unacked_bytes",
    )

    ACK_EVERY = 32  # frames received after which an acknowledgement is sent even if there is nothing else to say

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._frame = Frame()
        self._sealed: deque[Frame] = deque()
        self._repeat: deque[bytes] = deque()
        self._unacked: deque[tuple[int, bytes]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._turn = 0  # grows when the connection changes hands: who waited before gets nothing more
        self._wanted = False  # an acknowledgement is due
        self._seq = 0
        self._ack_sent = 0
        self._closed = False
        self.received = 0  # highest seq received from the peer
        self.keep = True  # the peer can resume: keep frames until acknowledged
        self.unacked_bytes = 0
        self.queued_bytes = 0  # estimate of what waits in sealed frames

    def add(self, size: int = 64) -> link_pb2.LinkItem:
        """A new item at the end of the queue, to be filled at once by the caller. size: its estimated bytes."""
        frame = self._frame
        if frame.count and (frame.count >= self._max_items or frame.size + size > self._max_bytes):
            frame = self._seal()
        if self._waiter is not None:
            self._wake()
        item: link_pb2.LinkItem = frame.add(size)
        return item

    def append(self, item: bytes) -> None:
        """An item at the end of the queue, as `amx.wire` has written it."""
        frame = self._frame
        if frame.count and (frame.count >= self._max_items or frame.size + len(item) > self._max_bytes):
            frame = self._seal()
        if self._waiter is not None:
            self._wake()
        frame.append(item)

    def _seal(self) -> Frame:
        self._sealed.append(self._frame)
        self.queued_bytes += self._frame.size
        frame = self._frame = Frame()
        return frame

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def next(self) -> bytes | None:
        """The next frame, serialised; None once closed and empty, or released while waiting."""
        turn = self._turn
        while self._turn == turn:
            if self._repeat:
                return self._repeat.popleft()
            if self._sealed:
                frame = self._sealed.popleft()
                self.queued_bytes -= frame.size
                return self._finish(frame)
            if self._frame.count:
                frame = self._frame
                self._frame = Frame()
                return self._finish(frame)
            if self._wanted:
                self._wanted = False
                self._ack_sent = self.received
                return link_pb2.LinkFrame(ack=self.received).SerializeToString()
            if self._closed:
                return None
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                if self._waiter is waiter:
                    self._waiter = None
        return None

    def _finish(self, frame: Frame) -> bytes:
        self._seq += 1
        self._ack_sent = self.received
        self._wanted = False
        data = frame.serialize(self._seq, self.received)
        if self.keep:
            self._unacked.append((self._seq, data))
            self.unacked_bytes += len(data)
        return data

    def note_received(self, seq: int) -> None:
        """The peer's frame `seq` has been taken in."""
        self.received = seq
        if seq - self._ack_sent >= self.ACK_EVERY:
            self.acknowledge_soon()

    def acknowledge_soon(self) -> None:
        """Sends an acknowledgement with the next frame, or alone if there is none."""
        if self.received > self._ack_sent:
            self._wanted = True
            self._wake()

    def acknowledge(self, seq: int) -> None:
        """The peer has every frame up to `seq`."""
        unacked = self._unacked
        while unacked and unacked[0][0] <= seq:
            self.unacked_bytes -= len(unacked.popleft()[1])

    @property
    def last_seq(self) -> int:
        """Highest number given to a frame so far."""
        return self._seq

    def repeat_after(self, seq: int) -> bool:
        """Queues every kept frame after `seq` again. False if some of them are no longer kept."""
        self.acknowledge(seq)
        expected = self._unacked[0][0] if self._unacked else self._seq + 1
        if seq > self._seq or expected != seq + 1:
            return False
        self._repeat = deque(data for _, data in self._unacked)
        return True

    def release(self) -> None:
        """Ends a waiting `next` with None: the connection is over or changes hands."""
        self._turn += 1
        self._wake()

    def close(self) -> None:
        """Nothing will be added; `next` answers None when what is queued has been taken."""
        self._closed = True
        self._wake()

    @property
    def pending_bytes(self) -> int:
        """Estimate of bytes not yet acknowledged or not yet sent."""
        return self.unacked_bytes + self.queued_bytes + self._frame.size
