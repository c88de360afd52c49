"""What an engine lends the agents that run in its own process. Agents of other processes have none of it.

The SDK knows only the shapes; the engine fills them in (`amx_server.runtime.services`) and passes them with the
EmbeddedConnector.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from amx_engine._errors import FAILED_PRECONDITION, AmxError

if TYPE_CHECKING:
    from amx_engine._context import Context
    from amx_engine._runs import Run


class Io(Protocol):
    """The engine's I/O manager on behalf of one invocation; see docs/io.md for what it guarantees.

    Operations come from providers (`amx_server.inference.io`). Whoever waits counts as this instance, with the
    priority of the message it handles. timeout: seconds; at most what is left of the invocation in any case.
    """

    def provider(self, name: str) -> Any:
        """A provider of the engine's configuration, which makes operations. Raises AmxError PROVIDER_UNKNOWN."""
        ...

    async def call(self, operation: Any, *, timeout: float | None = None) -> Any:
        """The answer to an operation. Raises AmxError with the provider's reason, or OPERATION_DEADLINE."""
        ...

    def stream(
        self, operation: Any, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """The parts of an answer as they come."""
        ...


class Content(Protocol):
    """The engine's content store on behalf of one instance; see docs/memory.md for what it guarantees.

    Addresses are text, `content:` and 64 hexadecimal digits. A memory value that is an address keeps what is there;
    what no memory value of any instance refers to goes with the collection after the next. Nothing here does input or
    output except reading what has left memory.
    """

    def put(self, data: bytes) -> str:
        """Stores `data` once, whoever has put it before; returns its address."""
        ...

    def get(self, address: str) -> bytes:
        """The bytes at an address. Raises AmxError CONTENT_NOT_FOUND, CONTENT_CORRUPTED."""
        ...

    def append(self, conversation: str, message: bytes) -> str:
        """The address of a conversation (empty: a new one) with one more message; the one before stays as it is."""
        ...

    def messages(self, conversation: str, last: int = 0) -> Sequence[bytes]:
        """The messages of a conversation, oldest first; the newest `last` only, if that is given."""
        ...


class Turns(Protocol):
    """Whose turn it is among the handlers of this process."""

    def ready(self, run: Run) -> asyncio.Future[None] | None:
        """Asked each time a suspended handler could go on. None: at once. A future: when it is done."""
        ...

    def ran(self, run: Run, seconds: float) -> None:
        """The step that waited for the future of `ready` has taken so long."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What the engine lends; each is optional.

    io, content: make what `context.io` and `context.content` are, once an invocation, when first asked for.
    turns: whose turn it is among the handlers of this process. waiting: an invocation waits for a reason, in words of
    its own, while what this returns is entered.
    """

    io: Callable[[Context], Io] | None = None
    content: Callable[[Context], Content] | None = None
    turns: Turns | None = None
    waiting: Callable[[Context, str, str], AbstractContextManager[None]] | None = None


NO_SERVICES = Services()


def not_lent(name: str) -> AmxError:
    """Why `context.<name>` is not there."""
    return AmxError(
        FAILED_PRECONDITION,
        "NOT_IN_ENGINE",
        f"context.{name} is lent to agents inside the engine's own process, and this one is hosted elsewhere;"
        " load it into the engine with `amx dev --load MODULE`, or bring a client of your own",
    )
