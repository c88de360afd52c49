"""One end of a link in memory, with raw frames: for figures about the engine alone."""

from __future__ import annotations

import asyncio

from amx.v1 import agent_pb2, link_pb2
from amx_server.runtime.links import LinkConnection

FRAME_ITEMS = 100


class Peer:
    """One end of a link that sends what is asked of it, some items in each frame."""

    def __init__(self, connection: LinkConnection) -> None:
        self._connection = connection
        self._sent = 0
        self._received = 0

    async def say_hello(self, link_id: str, agents: list[agent_pb2.AgentDefinition], slots: int) -> None:
        """Opens the link. slots: handlers that may run at a time."""
        hello = link_pb2.Hello(link_id=link_id, protocol_min=1, protocol_max=1, agents=agents, credit=slots)
        self._connection.feed(link_pb2.LinkFrame(items=[link_pb2.LinkItem(hello=hello)]).SerializeToString())
        await self.hear()

    async def say(self, items: list[link_pb2.LinkItem]) -> None:
        """Sends items, with a turn of the loop after each frame."""
        for start in range(0, len(items), FRAME_ITEMS):
            self._sent += 1
            frame = link_pb2.LinkFrame(items=items[start : start + FRAME_ITEMS], seq=self._sent, ack=self._received)
            self._connection.feed(frame.SerializeToString())
            await asyncio.sleep(0)  # in turns, or ten thousand answers would come as one wave

    async def hear(self) -> list[link_pb2.LinkItem]:
        """The items of the next frame. Raises RuntimeError when the link is over."""
        data = await self._connection.next_frame()
        if data is None:
            raise RuntimeError(f"the engine closed the link: {self._connection.error}")
        frame = link_pb2.LinkFrame.FromString(data)
        self._received = frame.seq or self._received
        return list(frame.items)
