"""What the engine lends the agents of its own process: its I/O manager and its content store, as one invocation sees
them. The SDK's side is `amx_engine._services`; errors are the SDK's, so that agents can catch them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from amx_engine._errors import AmxError as AgentError
from amx_engine._services import Services
from amx_server.core.errors import AmxError, invalid
from amx_server.inference.io import IoManager, Operation, Provider, Stream, Waiter
from amx_server.memory.content import Chains, ContentStore
from amx_server.runtime.scheduling.waits import WaitReason, Waits

if TYPE_CHECKING:
    from amx_engine._context import Context
    from amx_server.runtime.engine import Engine
    from amx_server.runtime.namespaces import Namespace


def services(engine: Engine, namespace: str = "default") -> Services:
    """What `engine` lends agents of `namespace`; for the EmbeddedConnector that their link goes through."""
    content = LentContent(engine.content)
    agents = engine.namespace(namespace).agents
    turns = engine.steps.of(namespace, lambda agent: agents[agent].share)
    now = engine.clock.monotonic
    return Services(
        io=partial(InvocationIo, engine.io, namespace, now),
        content=lambda _: content,
        turns=turns,
        waiting=partial(_waiting, engine.waits, engine.namespace(namespace), now),
    )


@contextmanager
def _waiting(
    waits: Waits, namespace: Namespace, now: Callable[[], float], context: Context, reason: str, detail: str
) -> Iterator[None]:
    """The instance of an invocation waits for a reason while this is entered."""
    instance = namespace.instance(context.agent, context.key)
    if instance is None:  # the engine gave it up, and the handler has not noticed yet
        yield
        return
    wait = waits.began(instance, WaitReason(reason), detail, now())
    try:
        yield
    finally:
        waits.ended(wait, now())


class InvocationIo:
    """`context.io`: the I/O manager on behalf of one invocation. Nothing waits longer than its deadline."""

    __slots__ = ("_deadline", "_io", "_now", "_waiter")

    def __init__(self, io: IoManager, namespace: str, now: Callable[[], float], context: Context) -> None:
        # It does not keep the context, which keeps it: together they would wait for the garbage collector.
        self._io = io
        self._now = now
        self._deadline = context.deadline
        self._waiter = Waiter(f"{context.agent}/{context.key}", namespace, int(context.message.priority) or 3)

    def provider(self, name: str) -> Provider:
        """The provider of that name, which makes operations. Raises AmxError PROVIDER_UNKNOWN."""
        with _as_agents_know_them():
            return self._io.provider(name)

    def call(self, operation: Operation[Any, Any], *, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        """The answer to an operation, as IoManager.call."""
        return self._io.call(operation, self._waiter, timeout=self._patience(timeout), errors_as=_agents_error)

    def stream(self, operation: Operation[Any, Any], *, timeout: float | None = None) -> InvocationStream:
        """The parts of an answer as they come, as IoManager.stream."""
        with _as_agents_know_them():
            return InvocationStream(self._io.stream(operation, self._waiter, timeout=self._patience(timeout)))

    def _patience(self, timeout: float | None) -> float | None:
        if self._deadline is None:
            return timeout
        left = max(0.0, self._deadline - self._now())
        return left if timeout is None else min(timeout, left)


class InvocationStream:
    """`inference.io.Stream` whose errors are the SDK's."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream[Any, Any]) -> None:
        self._stream = stream

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except AmxError as error:
            raise _agents_error(error) from error.__cause__

    @property
    def result(self) -> Any:
        """The whole answer. Raises RuntimeError before the last part was read."""
        return self._stream.result


class LentContent:
    """`context.content`: the content store, with addresses as memory values have them."""

    __slots__ = ("_chains", "_store")

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._chains = Chains(store)

    def put(self, data: bytes) -> str:
        """Stores `data` once; returns its address."""
        try:
            return _name(self._store.put(data))
        except AmxError as error:
            raise _agents_error(error) from error.__cause__

    def get(self, address: str) -> bytes:
        """The bytes at an address."""
        try:
            return self._store.get(_address(address))
        except AmxError as error:
            raise _agents_error(error) from error.__cause__

    def append(self, conversation: str, message: bytes) -> str:
        """The address of a conversation (empty: a new one) with one more message."""
        try:
            return _name(self._chains.append(_address(conversation) if conversation else None, message))
        except AmxError as error:
            raise _agents_error(error) from error.__cause__

    def messages(self, conversation: str, last: int = 0) -> list[bytes]:
        """The messages of a conversation, oldest first; the newest `last` only, if that is given."""
        try:
            return self._chains.messages(_address(conversation) if conversation else None, last)
        except AmxError as error:
            raise _agents_error(error) from error.__cause__


def _name(address: bytes) -> str:
    return "content:" + address.hex()


def _address(name: str) -> bytes:
    if len(name) == 72 and name.startswith("content:"):
        try:
            return bytes.fromhex(name[8:])
        except ValueError:
            pass
    raise invalid(
        "CONTENT_ADDRESS_INVALID",
        f"{name[:100]!r} is no address of content; give what put or append returned (content: and 64 hex digits)",
    )


@contextmanager
def _as_agents_know_them() -> Iterator[None]:
    try:
        yield
    except AmxError as error:
        raise _agents_error(error) from error.__cause__


def _agents_error(error: AmxError) -> AgentError:
    """The same error as the SDK has it: what a handler lets through becomes its failure, reason and all."""
    return AgentError(
        error.code,
        error.reason,
        error.message,
        retryable=error.retryable,
        retry_delay_ms=error.retry_delay_ms,
        metadata=error.metadata,
    )
