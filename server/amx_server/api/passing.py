"""Unary calls and streams at an engine that is one of several: which of them answers, or how all of them do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from enum import Enum
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message as ProtoMessage

from amx.v1 import engine_pb2
from amx_server.api import peer_metrics
from amx_server.api.merging import merge
from amx_server.api.paging import page_token, token_number, token_parts
from amx_server.api.status import error_of
from amx_server.cluster.shards import Shard
from amx_server.cluster.trust import PeerTrust
from amx_server.core.errors import NOT_FOUND, AmxError, invalid
from amx_server.runtime.queries import page_size
from amx_server.security.identity import Identity

_PREFIX = "/amx.v1.EngineService/"
_SCRAPE = 5.0  # seconds for the metrics of another engine
_NOBODY = Identity("metrics", "default")
_TIMEOUT = 30.0  # seconds for an answer, where the caller sets no limit
_ENDLESS = 1e9  # seconds that gRPC gives for a caller without a limit
_PATIENT = frozenset({"WaitInvocation", "StreamRequest", "CollectMemory", "VerifyMemory", "ReadLog"})
_CHANNEL = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # An engine that moves to another process is there again within moments.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class Way(Enum):
    """How several engines answer one call."""

    HERE = "the engine that was asked; it sees to the others itself where need be"
    OWNER = "the engine that owns the instance which the request names"
    FIRST = "whoever knows what the request names"
    ALL = "all of them; their answers are added up"
    PAGES = "one after the other, page by page"


WAYS: Mapping[str, Way] = {
    "Send": Way.OWNER,
    "Request": Way.OWNER,
    "StreamRequest": Way.OWNER,
    "Publish": Way.HERE,
    "Subscribe": Way.HERE,
    "Broadcast": Way.HERE,
    "ListAgents": Way.ALL,
    "GetAgent": Way.ALL,
    "ActivateAgentVersion": Way.ALL,
    "ListInstances": Way.PAGES,
    "GetInstance": Way.OWNER,
    "ListInvocations": Way.PAGES,
    "GetInvocation": Way.FIRST,
    "CancelInvocation": Way.FIRST,
    "WaitInvocation": Way.FIRST,
    "ListSchedules": Way.PAGES,
    "PauseSchedule": Way.FIRST,
    "TriggerSchedule": Way.FIRST,
    "ListDeadLetters": Way.PAGES,
    "RetryDeadLetters": Way.ALL,
    "DropDeadLetters": Way.ALL,
    "GetMemory": Way.OWNER,
    "PutMemory": Way.OWNER,
    "DeleteMemory": Way.OWNER,
    "ListMemory": Way.OWNER,
    "SearchMemory": Way.OWNER,
    "ListMemoryVersions": Way.OWNER,
    "CreateSnapshot": Way.OWNER,
    "DeleteSnapshot": Way.OWNER,
    "ForkInstance": Way.OWNER,
    "RestoreMemory": Way.OWNER,
    "GetMemoryStats": Way.ALL,
    "CollectMemory": Way.ALL,
    "VerifyMemory": Way.ALL,
    "SpawnInstance": Way.OWNER,
    "SuspendInstance": Way.OWNER,
    "ResumeInstance": Way.OWNER,
    "MigrateInstance": Way.OWNER,
    "KillInstance": Way.OWNER,
    "ListSupervisors": Way.ALL,
    "GetScheduler": Way.ALL,
    "SetAllocationPolicy": Way.ALL,
    "ReadLog": Way.ALL,
    "GetEngine": Way.ALL,
}

_METHODS = engine_pb2.DESCRIPTOR.services_by_name["EngineService"].methods_by_name
_LISTS = {
    "ListInstances": "instances",
    "ListInvocations": "invocations",
    "ListSchedules": "schedules",
    "ListDeadLetters": "dead_letters",
}

Local = Callable[[Any], Awaitable[ProtoMessage]]


class Passing:
    """Passes calls on from one engine to the others. Lives as long as the server; `close` ends its connections."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._trust = PeerTrust(shard.secret)
        self._channels: dict[int, grpc.aio.Channel] = {}

    async def close(self) -> None:
        """Ends the connections to the other engines."""
        channels, self._channels = list(self._channels.values()), {}
        await asyncio.gather(*(channel.close() for channel in channels))

    # --- calls with one answer ---------------------------------------------------------------------------------------

    async def unary(
        self, name: str, request: Any, identity: Identity, seconds: float | None, here: Local
    ) -> ProtoMessage:
        """The answer to a call. here: this engine's own way to answer. Raises AmxError as an engine says it."""
        answer: ProtoMessage = await self._answer(name, request, identity, _limit(seconds, name), here)
        return answer

    async def _answer(self, name: str, request: Any, identity: Identity, seconds: float | None, here: Local) -> Any:
        way = WAYS[name]
        if way is Way.OWNER:
            owner = self._owner(name, request, identity)
            return await self._ask(owner, name, request, identity, seconds, here)
        if way is Way.FIRST:
            return await self._first(name, request, identity, seconds, here)
        if way is Way.PAGES:
            return await self._page(name, request, identity, seconds, here)
        if way is Way.ALL:
            everyone = range(self._shard.count)
            answers = await asyncio.gather(
                *(self._ask(number, name, request, identity, seconds, here) for number in everyone),
                return_exceptions=True,
            )
            return self._together(answers)
        return await here(request)

    @staticmethod
    def _together(answers: list[Any]) -> Any:
        """What all have answered. An agent need not be known everywhere; other failures fail the call."""
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        known = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not known or any(not isinstance(each, AmxError) or each.code != NOT_FOUND for each in failures):
            raise failures[0]
        return merge(known)

    async def _first(self, name: str, request: Any, identity: Identity, seconds: float | None, here: Local) -> Any:
        unknown: AmxError | None = None
        for number in (self._shard.number, *self._shard.others):
            try:
                return await self._ask(number, name, request, identity, seconds, here)
            except AmxError as error:
                if error.code != NOT_FOUND:
                    raise
                unknown = unknown or error
        assert unknown is not None
        raise unknown

    async def _page(self, name: str, request: Any, identity: Identity, seconds: float | None, here: Local) -> Any:
        size = page_size(request.page_size)
        at, token = token_parts(request.page_token, 2)
        number = token_number(at)
        whole: Any = None
        found = 0
        while number < self._shard.count:
            part = type(request)()
            part.CopyFrom(request)
            part.page_size, part.page_token = size - found, token
            answer = await self._ask(number, name, part, identity, seconds, here)
            found += len(getattr(answer, _LISTS[name]))
            token = answer.next_page_token
            if whole is None:
                whole = answer
            else:
                whole.MergeFrom(answer)
            if not token:
                number += 1
            if found >= size:
                break
        if whole is None:
            raise invalid("INVALID_PAGE_TOKEN", "the page token names an engine that is not there")
        whole.next_page_token = page_token(str(number), token) if number < self._shard.count else ""
        return whole

    # --- streams -----------------------------------------------------------------------------------------------------

    async def stream(
        self,
        name: str,
        request: Any,
        identity: Identity,
        seconds: float | None,
        here: Callable[[Any], AsyncIterator[ProtoMessage]],
    ) -> AsyncIterator[ProtoMessage]:
        """The parts of a streamed answer. Raises AmxError as an engine says it."""
        way = WAYS[name]
        seconds = _limit(seconds, name)
        numbers = [self._shard.number]
        if way is Way.OWNER:
            numbers = [self._owner(name, request, identity)]
        elif way is Way.ALL:
            numbers = list(range(self._shard.count))
        streams = [
            here(request) if number == self._shard.number else self._stream_of(number, name, request, identity, seconds)
            for number in numbers
        ]
        if len(streams) == 1:
            async for part in streams[0]:
                yield part
        elif name == "ReadLog" and not request.follow:
            for part in await _latest(streams, request.lines or 100):
                yield part
        elif name == "ReadLog":
            async for part in _as_they_come(streams):
                yield part
        else:
            async for part in _one_after_another(streams):
                yield part

    async def _stream_of(
        self, number: int, name: str, request: Any, identity: Identity, seconds: float | None
    ) -> AsyncIterator[ProtoMessage]:
        response = _response(name)
        call = self._channel(number).unary_stream(
            _PREFIX + name, request_serializer=_serialize, response_deserializer=response.FromString
        )(request, metadata=self._trust.metadata(identity), timeout=seconds, wait_for_ready=True)
        try:
            async for part in call:
                yield part
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None
        finally:
            call.cancel()

    async def metrics(self, accept: str, own: str) -> bytes:
        """The metrics of all engines as one page. own: those of this one. An engine that does not answer is left out,
        and its absence shows.
        """

        async def ask(number: int) -> tuple[int, str]:
            if number == self._shard.number:
                return number, own
            call: Any = self._channel(number).unary_unary(peer_metrics.METHOD)
            try:
                page: bytes = await call(accept.encode(), metadata=self._trust.metadata(_NOBODY), timeout=_SCRAPE)
            except grpc.aio.AioRpcError:
                return number, ""
            return number, page.decode()

        pages = await asyncio.gather(*(ask(number) for number in range(self._shard.count)))
        return peer_metrics.together(pages).encode()

    # --- reaching one ------------------------------------------------------------------------------------------------

    def _owner(self, name: str, request: Any, identity: Identity) -> int:
        namespace = identity.namespace
        if name == "ForkInstance":
            source = self._number(namespace, request.source)
            if self._number(namespace, request.target) != source:
                raise self._fork_elsewhere(namespace, request.target.agent, request.target.key, source)
            return source
        if "message" in request.DESCRIPTOR.fields_by_name:
            message = request.message
            return self._number(namespace, message) if message.agent else self._shard.number
        return self._number(namespace, request.instance)

    def _number(self, namespace: str, addressed: Any) -> int:
        return self._shard.owner(namespace, addressed.agent, addressed.key or "default")

    def _fork_elsewhere(self, namespace: str, agent: str, key: str, source: int) -> AmxError:
        suffix = 1
        while self._shard.owner(namespace, agent, f"{key}-{suffix}") != source:
            suffix += 1
        return invalid(
            "FORK_ELSEWHERE",
            f"'{agent}/{key}' belongs to another engine than the instance to fork, and a fork shares its store; choose"
            f" another key, e.g. '{key}-{suffix}'",
            key=f"{key}-{suffix}",
        )

    async def _ask(
        self, number: int, name: str, request: Any, identity: Identity, seconds: float | None, here: Local
    ) -> Any:
        if number == self._shard.number:
            return await here(request)
        call = self._channel(number).unary_unary(
            _PREFIX + name, request_serializer=_serialize, response_deserializer=_response(name).FromString
        )
        try:
            return await call(
                request,
                metadata=self._trust.metadata(identity),
                timeout=seconds,
                wait_for_ready=True,
            )
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None

    def _channel(self, number: int) -> grpc.aio.Channel:
        channel = self._channels.get(number)
        if channel is None:
            address = f"unix:{self._shard.sockets[number]}"
            channel = self._channels[number] = grpc.aio.insecure_channel(address, options=_CHANNEL)
        return channel


async def _one_after_another(streams: list[AsyncIterator[Any]]) -> AsyncIterator[Any]:
    """Progress of work that each does: numbers so far, over all; the last part says that it is done."""
    ended: list[Any] = []
    for position, stream in enumerate(streams):
        last: Any = None
        async for part in stream:
            last = type(part)()
            last.CopyFrom(part)
            if not part.done:
                part.progress = (position + part.progress) / len(streams)
                yield merge([part, *ended]) if ended else part
        if last is not None:
            ended.append(last)
    if ended:
        yield merge(ended)


async def _latest(streams: list[AsyncIterator[Any]], lines: int) -> list[Any]:
    """The last lines of all logs, in the order in which they were written."""
    found = [part for stream in streams async for part in stream]
    found.sort(key=lambda line: line.at_ms)
    return found[-lines:]


async def _as_they_come(streams: list[AsyncIterator[Any]]) -> AsyncIterator[Any]:
    """The parts of several streams as they arrive, until all have ended."""
    arrived: asyncio.Queue[Any] = asyncio.Queue(maxsize=100)

    async def read(stream: AsyncIterator[Any]) -> None:
        try:
            async for part in stream:
                await arrived.put(part)
        except AmxError as error:
            await arrived.put(error)
        finally:
            await arrived.put(None)

    readers = [asyncio.create_task(read(stream)) for stream in streams]
    try:
        missing = len(readers)
        while missing:
            part = await arrived.get()
            if part is None:
                missing -= 1
            elif isinstance(part, AmxError):
                raise part
            else:
                yield part
    finally:
        for reader in readers:
            reader.cancel()


def _limit(seconds: float | None, name: str) -> float | None:
    """How long to wait for another engine: as long as the caller does, where it says so."""
    if seconds is not None and seconds < _ENDLESS:
        return seconds
    return None if name in _PATIENT else _TIMEOUT


def _response(name: str) -> Any:
    return getattr(engine_pb2, _METHODS[name].output_type.name)


def _serialize(message: ProtoMessage) -> bytes:
    return message.SerializeToString()
