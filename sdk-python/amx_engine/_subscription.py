"""A client's subscription, as an async context manager and iterator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amx.v1 import message_pb2
from amx_engine._calls import SubscriptionCall
from amx_engine._message import Message

if TYPE_CHECKING:
    from amx_engine._context import Calls


class Subscription:
    """Events on matching topics, one Message each: topic, content, headers (the attributes), id, sender.

        async with engine.subscribe("orders.*") as events:  # in force from here on
            async for event in events: ...

    `async for event in engine.subscribe(...)` subscribes at the first step; it ends with the process only. A reader
    that is too slow loses the oldest events: see `dropped`. After a restart of the engine it is renewed; what was
    published in between is missed. Raises AmxError if the engine refuses or ends it.
    """

    def __init__(self, link: Calls, subscription: message_pb2.Subscription, invocation_id: int = 0) -> None:
        self._link = link
        self._invocation_id = invocation_id
        self._subscription = subscription
        self._call: SubscriptionCall | None = None

    @property
    def dropped(self) -> int:
        """Events lost because they were not read in time."""
        return 0 if self._call is None else self._call.dropped

    async def __aenter__(self) -> Subscription:
        if self._call is None:
            self._call = await self._link.subscribe(self._subscription, invocation_id=self._invocation_id)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the subscription. Events that have arrived can still be read."""
        call = self._call
        if call is not None and not call.ended:
            self._link.unsubscribe(call)
            call.end()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Message:
        call = self._call
        if call is None:
            call = self._call = await self._link.subscribe(self._subscription, invocation_id=self._invocation_id)
        while not call.events:
            if call.error is not None:
                raise call.error
            if call.ended:
                raise StopAsyncIteration
            await call.wait()
        return Message.from_event(call.events.popleft())
