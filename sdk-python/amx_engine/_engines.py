"""Links to several engines that share one address: agents are hosted on all, each call goes to the owner.

To the rest of the SDK it looks like one Link.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from amx.v1 import common_pb2, link_pb2, memory_pb2, message_pb2
from amx_engine._calls import SubscriptionCall
from amx_engine._errors import AmxError
from amx_engine._link import Link
from amx_engine._ownership import owner_of

if TYPE_CHECKING:
    from amx_engine._definition import HostedAgent

_DEFAULT_KEY = "default"
_MAX_REMEMBERED = 65_536  # owners
_AGAIN_SECONDS = 0.05
_LONGEST_MOVE_SECONDS = 30.0

T = TypeVar("T")


class EngineLinks:
    """One link to each engine, in order of their numbers.

    Calls for an instance go to the engine that owns it; what concerns no single instance (events, broadcasts, messages
    for a router) to one of them, which sees to the others. Calls that handlers make go over the handler's own link. An
    engine that moves to another process takes nothing in meanwhile: what it refused is said again until it does.
    """

    def __init__(self, links: Sequence[Link], namespace: str) -> None:
        self._links = list(links)
        self._namespace = namespace or "default"
        self._owners: dict[tuple[str, str], Link] = {}
        self._any = random.choice(self._links)  # so that many processes spread what any engine can do
        self._closing = False

    def _owner(self, agent: str, key: str) -> Link:
        link = self._owners.get((agent, key))
        if link is None:
            if not agent:
                return self._any
            if len(self._owners) >= _MAX_REMEMBERED:
                self._owners.clear()
            number = owner_of(self._namespace, agent, key or _DEFAULT_KEY, len(self._links))
            link = self._owners[agent, key] = self._links[number]
        return link

    # Life

    async def open(self, patience: float) -> None:
        """Returns when every engine has said Welcome. Raises as `Link.open`; nothing is left running then."""
        try:
            await asyncio.gather(*(link.open(patience) for link in self._links))
        except BaseException:
            await self.close(0.0)
            raise

    async def close(self, deadline: float) -> None:
        """Ends every link, as `Link.close`."""
        self._closing = True
        await asyncio.gather(*(link.close(deadline) for link in self._links))

    async def wait_closed(self) -> None:
        """Returns when the links were closed; raises AmxError if an engine refused to have one back."""
        waiting = [asyncio.ensure_future(link.wait_closed()) for link in self._links]
        try:
            await asyncio.gather(*waiting)
        finally:
            for task in waiting:
                task.cancel()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to every engine now."""
        return all(link.connected for link in self._links)

    # Calls, as those of Link

    async def request_bytes(
        self, agent: str, data: bytes, key: str, handler: str, content_type: str, timeout: float
    ) -> bytes:
        link = self._owner(agent, key)
        moving = _Moving(timeout)
        while True:
            try:
                return await link.request_bytes(agent, data, key, handler, content_type, timeout)
            except AmxError as error:
                await self._moved(error, moving)

    async def request(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> common_pb2.Payload:
        link = self._owner(message.agent, message.key)
        return await self._kept(lambda: link.request(message, timeout_ms=timeout_ms), timeout_ms)

    async def send(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> link_pb2.Accepted:
        link = self._owner(message.agent, message.key)
        return await self._kept(lambda: link.send(message, timeout_ms=timeout_ms), timeout_ms)

    async def memory(
        self, operation: memory_pb2.MemoryOperation, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> memory_pb2.MemoryOperationResult:
        link = self._owner(operation.instance.agent, operation.instance.key)
        return await self._kept(lambda: link.memory(operation, timeout_ms=timeout_ms), timeout_ms)

    async def publish(
        self, event: message_pb2.Event, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> link_pb2.Published:
        return await self._kept(lambda: self._any.publish(event, timeout_ms=timeout_ms), timeout_ms)

    async def broadcast(
        self, broadcast: link_pb2.Broadcast, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> message_pb2.BroadcastResult:
        return await self._kept(lambda: self._any.broadcast(broadcast, timeout_ms=timeout_ms), timeout_ms)

    async def stream(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> AsyncGenerator[common_pb2.Payload, None]:
        moving = _Moving(timeout_ms / 1000)
        while True:
            chunks = self._owner(message.agent, message.key).stream(message, timeout_ms=timeout_ms)
            begun = False
            try:
                async for chunk in chunks:
                    begun = True
                    yield chunk
                return
            except AmxError as error:
                if begun:
                    raise
                await self._moved(error, moving)
            finally:
                await chunks.aclose()

    async def subscribe(self, subscription: message_pb2.Subscription, *, invocation_id: int = 0) -> SubscriptionCall:
        return await self._any.subscribe(subscription)

    def unsubscribe(self, call: SubscriptionCall) -> None:
        self._any.unsubscribe(call)

    async def register(self, agents: Iterable[HostedAgent], removed: Iterable[str] = ()) -> None:
        """Hosts more agents, or fewer, on every engine. Raises AmxError if one refuses them; those asked before it
        have taken them then.
        """
        joined, left = list(agents), list(removed)
        for link in self._links:
            await link.register(joined, left)

    async def _kept(self, call: Callable[[], Awaitable[T]], timeout_ms: int) -> T:
        """The outcome of a call, made again while its engine moves."""
        moving = _Moving(timeout_ms / 1000)
        while True:
            try:
                return await call()
            except AmxError as error:
                await self._moved(error, moving)

    async def _moved(self, error: AmxError, moving: _Moving) -> None:
        """Returns when a call may be made again that ended so; raises `error` if it may not."""
        if error.reason != "SHUTTING_DOWN" or self._closing or moving.over():
            raise error
        await asyncio.sleep(_AGAIN_SECONDS)


class _Moving:
    """How long a call may wait for an engine that moves. The time runs from the first refusal."""

    __slots__ = ("_seconds", "_until")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds or _LONGEST_MOVE_SECONDS
        self._until = 0.0

    def over(self) -> bool:
        now = monotonic()
        if not self._until:
            self._until = now + self._seconds
        return now >= self._until
