"""How the services' parts list their RPCs: by name, with the request they parse and the permission they need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from google.protobuf.message import Message as ProtoMessage

from amx_server.security.identity import Identity

Context = Any  # grpc.aio.ServicerContext

UnaryRpc = tuple[Callable[[Any, Identity, Context], Awaitable[ProtoMessage]], Any, str]
StreamedRpc = tuple[Callable[[Any, Identity, Context], AsyncIterator[ProtoMessage]], Any, str]


class Rpcs(Protocol):
    """The RPCs of one subject."""

    def unary(self) -> dict[str, UnaryRpc]:
        """Those with one answer: (method, class of its request, permission) by name."""
        ...

    def streams(self) -> dict[str, StreamedRpc]:
        """Those with many."""
        ...
