"""EngineService over gRPC: the engine for everyone without an SDK. Authorises, translates, calls the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message as ProtoMessage

from amx.v1 import common_pb2, engine_pb2, message_pb2
from amx_server.api.lifecycle_rpcs import LifecycleRpcs
from amx_server.api.memory_rpcs import MemoryRpcs
from amx_server.api.paging import page_token, token_number, token_parts
from amx_server.api.passing import Passing
from amx_server.api.rpcs import Context, Rpcs, StreamedRpc, UnaryRpc
from amx_server.api.scheduler_rpcs import SchedulerRpcs
from amx_server.api.status import abort
from amx_server.core import errors
from amx_server.core.errors import AmxError, invalid
from amx_server.runtime.instances import Invocation
from amx_server.runtime.queries import page_size
from amx_server.security.identity import Identity
from amx_server.telemetry.logs import get_logger

if TYPE_CHECKING:
    from amx_server.runtime.engine import Engine

log = get_logger(__name__)

SERVICE = "amx.v1.EngineService"
_MAX_BUFFERED_EVENTS = 10_000

Request = TypeVar("Request", bound=ProtoMessage)


class _Outcome:
    """The sink of one unary call."""

    __slots__ = ("future", "invocation")

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.invocation: Invocation | None = None  # what runs for it, once that is known

    @property
    def open(self) -> bool:
        """Whether the caller still waits."""
        return not self.future.done()

    def _set(self, value: object) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def accepted(self, message_id: str, duplicate: bool) -> None:
        self._set((message_id, duplicate))

    def result(self, payload: common_pb2.Payload) -> None:
        copy = common_pb2.Payload()
        copy.CopyFrom(payload)
        self._set(copy)

    def fail(self, failure: common_pb2.Failure) -> None:
        if not self.future.done():
            self.future.set_exception(AmxError.from_failure(failure))

    def chunk(self, payload: common_pb2.Payload) -> None:
        """Unary calls read no chunks."""


class _Parts:
    """The sink of one streamed call: a queue that the handler may run ahead of by the stream's window."""

    __slots__ = ("invocation", "open", "queue")

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.invocation: Invocation | None = None  # what runs for it, once that is known
        self.open = True  # the caller still reads

    def accepted(self, message_id: str, duplicate: bool) -> None:
        """Streamed calls are not answered so."""

    def result(self, payload: common_pb2.Payload) -> None:
        copy = common_pb2.Payload()
        copy.CopyFrom(payload)
        self.queue.put_nowait(("result", copy))

    def chunk(self, payload: common_pb2.Payload) -> None:
        copy = common_pb2.Payload()
        copy.CopyFrom(payload)
        self.queue.put_nowait(("chunk", copy))

    def fail(self, failure: common_pb2.Failure) -> None:
        self.queue.put_nowait(("failure", AmxError.from_failure(failure)))


class _EventQueue:
    """The listener of one Subscribe call."""

    __slots__ = ("overflow", "queue")

    def __init__(self) -> None:
        self.queue: asyncio.Queue[message_pb2.Event | None] = asyncio.Queue()
        self.overflow = False

    def event(self, event: message_pb2.Event) -> bool:
        if self.queue.qsize() >= _MAX_BUFFERED_EVENTS:
            self.overflow = True
            self.queue.put_nowait(None)
            return False
        self.queue.put_nowait(event)
        return True


class EngineService:
    """One method per RPC. Errors are AmxErrors until the last moment, then google.rpc.Status."""

    def __init__(
        self, engine: Engine, authenticate: Callable[[Context], Identity], passing: Passing | None = None
    ) -> None:
        """passing: how calls get to the engines that share the address; None: there is one."""
        self._engine = engine
        self._passing = passing
        self._authenticate = authenticate
        self._parts: tuple[Rpcs, ...] = (MemoryRpcs(engine), LifecycleRpcs(engine), SchedulerRpcs(engine))

    def handler(self) -> grpc.GenericRpcHandler:
        """The service for a gRPC server."""
        pb = engine_pb2
        unary: dict[str, UnaryRpc] = {
            "Send": (self.send, pb.SendRequest, "messages:send"),
            "Request": (self.request, pb.RequestRequest, "messages:send"),
            "Publish": (self.publish, pb.PublishRequest, "events:publish"),
            "Broadcast": (self.broadcast, pb.BroadcastRequest, "broadcast:send"),
            "ListAgents": (self.list_agents, pb.ListAgentsRequest, "agents:read"),
            "GetAgent": (self.get_agent, pb.GetAgentRequest, "agents:read"),
            "ActivateAgentVersion": (self.activate_version, pb.ActivateAgentVersionRequest, "agents:write"),
            "ListInstances": (self.list_instances, pb.ListInstancesRequest, "agents:read"),
            "GetInstance": (self.get_instance, pb.GetInstanceRequest, "agents:read"),
            "ListInvocations": (self.list_invocations, pb.ListInvocationsRequest, "invocations:read"),
            "GetInvocation": (self.get_invocation, pb.GetInvocationRequest, "invocations:read"),
            "CancelInvocation": (self.cancel_invocation, pb.CancelInvocationRequest, "invocations:write"),
            "WaitInvocation": (self.wait_invocation, pb.WaitInvocationRequest, "invocations:read"),
            "ListSchedules": (self.list_schedules, pb.ListSchedulesRequest, "schedules:read"),
            "PauseSchedule": (self.pause_schedule, pb.PauseScheduleRequest, "schedules:write"),
            "TriggerSchedule": (self.trigger_schedule, pb.TriggerScheduleRequest, "schedules:write"),
            "ListDeadLetters": (self.list_dead_letters, pb.ListDeadLettersRequest, "dead-letters:read"),
            "RetryDeadLetters": (self.retry_dead_letters, pb.RetryDeadLettersRequest, "dead-letters:write"),
            "DropDeadLetters": (self.drop_dead_letters, pb.DropDeadLettersRequest, "dead-letters:write"),
            "GetEngine": (self.get_engine, pb.GetEngineRequest, "engine:read"),
        }
        streams: dict[str, StreamedRpc] = {
            "StreamRequest": (self.stream_request, pb.StreamRequestRequest, "messages:send"),
            "Subscribe": (self.subscribe, pb.SubscribeRequest, "events:subscribe"),
            "ReadLog": (self.read_log, pb.ReadLogRequest, "logs:read"),
        }
        for part in self._parts:
            unary |= part.unary()
            streams |= part.streams()
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for name, (call, request, permission) in unary.items():
            methods[name] = grpc.unary_unary_rpc_method_handler(
                self._unary(name, call, permission),
                request_deserializer=_parser(request),
                response_serializer=_serialize,
            )
        for name, (stream, request, permission) in streams.items():
            methods[name] = grpc.unary_stream_rpc_method_handler(
                self._stream(name, stream, permission),
                request_deserializer=_parser(request),
                response_serializer=_serialize,
            )
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _unary(
        self, name: str, call: Callable[[Any, Identity, Context], Awaitable[ProtoMessage]], permission: str
    ) -> Callable[[Any, Context], Awaitable[ProtoMessage | None]]:
        async def serve(request: Any, context: Context) -> ProtoMessage | None:
            try:
                if request is None:
                    raise _unreadable(name)
                identity = self._authenticate(context)
                identity.require(permission, name)
                if self._passing is not None and not identity.peer:

                    def here(request: Any) -> Awaitable[ProtoMessage]:
                        return call(request, identity, context)

                    return await self._passing.unary(name, request, identity, context.time_remaining(), here)
                return await call(request, identity, context)
            except AmxError as error:
                self._engine.metrics.refuse(error.reason)
                await abort(context, error)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("rpc_failed", rpc=name)
                await abort(context, AmxError(errors.INTERNAL, "INTERNAL", f"the engine failed: {error!r}"))
            return None

        return serve

    def _stream(
        self, name: str, call: Callable[[Any, Identity, Context], AsyncIterator[ProtoMessage]], permission: str
    ) -> Callable[[Any, Context], AsyncIterator[ProtoMessage]]:
        async def serve(request: Any, context: Context) -> AsyncIterator[ProtoMessage]:
            try:
                if request is None:
                    raise _unreadable(name)
                identity = self._authenticate(context)
                identity.require(permission, name)
                parts = call(request, identity, context)
                if self._passing is not None and not identity.peer:

                    def here(request: Any) -> AsyncIterator[ProtoMessage]:
                        return call(request, identity, context)

                    parts = self._passing.stream(name, request, identity, context.time_remaining(), here)
                async for part in parts:
                    yield part
            except AmxError as error:
                self._engine.metrics.refuse(error.reason)
                await abort(context, error)
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except Exception as error:
                log.exception("rpc_failed", rpc=name)
                await abort(context, AmxError(errors.INTERNAL, "INTERNAL", f"the engine failed: {error!r}"))

        return serve

    # --- messages ----------------------------------------------------------------------------------------------------

    def _trace(self, message: message_pb2.Message, context: Context) -> None:
        if not message.traceparent:
            for name, value in context.invocation_metadata() or ():
                if name == "traceparent":
                    message.traceparent = value

    async def send(self, request: engine_pb2.SendRequest, identity: Identity, context: Context) -> ProtoMessage:
        message = request.message
        self._trace(message, context)
        sink = _Outcome()
        self._engine.acceptance.accept(
            self._engine.namespace(identity.namespace), identity, identity.subject, message, sink, one_way=True
        )
        message_id, duplicate = await sink.future
        return engine_pb2.SendResponse(message_id=message_id, duplicate=duplicate)

    async def request(self, request: engine_pb2.RequestRequest, identity: Identity, context: Context) -> ProtoMessage:
        message = request.message
        self._trace(message, context)
        sink = _Outcome()
        inv = self._engine.acceptance.accept(
            self._engine.namespace(identity.namespace),
            identity,
            identity.subject,
            message,
            sink,
            _remaining_ms(context),
        )
        if inv is not None:
            sink.invocation = inv
        try:
            payload = await sink.future
        except asyncio.CancelledError:
            if sink.invocation is not None:
                self._engine.interruptions.caller_left(sink.invocation)
            raise
        response = engine_pb2.RequestResponse()
        response.result.CopyFrom(payload)
        return response

    async def stream_request(
        self, request: engine_pb2.StreamRequestRequest, identity: Identity, context: Context
    ) -> AsyncIterator[ProtoMessage]:
        message = request.message
        self._trace(message, context)
        sink = _Parts()
        dispatcher = self._engine.dispatcher
        inv = self._engine.acceptance.accept(
            self._engine.namespace(identity.namespace),
            identity,
            identity.subject,
            message,
            sink,
            _remaining_ms(context),
            streaming=True,
        )
        if inv is not None:
            sink.invocation = inv
        ended = False
        try:
            while not ended:
                kind, value = await sink.queue.get()
                if kind == "failure":
                    ended = True
                    raise value
                part = engine_pb2.StreamRequestResponse()
                if kind == "chunk":
                    part.chunk.CopyFrom(value)
                else:
                    ended = True
                    part.result.CopyFrom(value)
                yield part
                if kind == "chunk" and sink.invocation is not None:
                    dispatcher.grant_chunks(sink.invocation, 1)
        finally:
            sink.open = False
            if not ended and sink.invocation is not None:
                self._engine.interruptions.caller_left(sink.invocation)

    async def publish(self, request: engine_pb2.PublishRequest, identity: Identity, context: Context) -> ProtoMessage:
        event = request.event
        event.publisher = identity.subject
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(subscribers: int, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(subscribers)

        self._engine.events.publish(self._engine.namespace(identity.namespace), identity, event, done)
        subscribers = await future
        return engine_pb2.PublishResponse(event_id=event.event_id, subscribers=subscribers)

    async def subscribe(
        self, request: engine_pb2.SubscribeRequest, identity: Identity, context: Context
    ) -> AsyncIterator[ProtoMessage]:
        namespace = self._engine.namespace(identity.namespace)
        listener = _EventQueue()
        subscriber = self._engine.events.listen(namespace, request.subscription, listener)
        try:
            yield engine_pb2.SubscribeResponse()
            while (event := await listener.queue.get()) is not None:
                response = engine_pb2.SubscribeResponse()
                response.event.CopyFrom(event)
                yield response
            raise errors.exhausted(
                "SUBSCRIBER_TOO_SLOW",
                f"{_MAX_BUFFERED_EVENTS} events wait for this subscriber; read faster and subscribe again",
                retry_delay_ms=100,
            )
        finally:
            self._engine.events.unlisten(namespace, subscriber)

    async def broadcast(
        self, request: engine_pb2.BroadcastRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        future: asyncio.Future[message_pb2.BroadcastResult] = asyncio.get_running_loop().create_future()

        def done(result: message_pb2.BroadcastResult) -> None:
            if not future.done():
                future.set_result(result)

        self._engine.broadcasts.broadcast(
            self._engine.namespace(identity.namespace),
            identity,
            identity.subject,
            request.scope,
            request.message,
            _remaining_ms(context),
            done,
        )
        response = engine_pb2.BroadcastResponse()
        response.result.CopyFrom(await future)
        return response

    # --- agents and instances ----------------------------------------------------------------------------------------

    async def list_agents(
        self, request: engine_pb2.ListAgentsRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        size = page_size(request.page_size)
        (after,) = token_parts(request.page_token, 1)
        agents = self._engine.queries.agents(self._engine.namespace(identity.namespace), after, size)
        response = engine_pb2.ListAgentsResponse()
        response.agents.extend(self._engine.queries.describe_agent(agent) for agent in agents)
        if len(agents) >= size:
            response.next_page_token = page_token(agents[-1].name)
        return response

    async def get_agent(
        self, request: engine_pb2.GetAgentRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        agent = self._engine.registry.agent(self._engine.namespace(identity.namespace), request.name)
        return engine_pb2.GetAgentResponse(agent=self._engine.queries.describe_agent(agent))

    async def activate_version(
        self, request: engine_pb2.ActivateAgentVersionRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        namespace = self._engine.namespace(identity.namespace)
        agent = self._engine.registry.pin(namespace, request.name, request.version)
        return engine_pb2.ActivateAgentVersionResponse(agent=self._engine.queries.describe_agent(agent))

    async def list_instances(
        self, request: engine_pb2.ListInstancesRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        size = page_size(request.page_size)
        agent, key = token_parts(request.page_token, 2)
        found = await self._engine.queries.instances(
            self._engine.namespace(identity.namespace), request.agent, request.state, (agent, key), size
        )
        response = engine_pb2.ListInstancesResponse(instances=found)
        if len(found) >= size:
            response.next_page_token = page_token(found[-1].instance.agent, found[-1].instance.key)
        return response

    async def get_instance(
        self, request: engine_pb2.GetInstanceRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        ref = request.instance
        namespace = self._engine.namespace(identity.namespace)
        self._engine.registry.agent(namespace, ref.agent)
        info = await self._engine.queries.require_instance(namespace, ref.agent, ref.key or "default")
        return engine_pb2.GetInstanceResponse(instance=info)

    # --- invocations -------------------------------------------------------------------------------------------------

    async def list_invocations(
        self, request: engine_pb2.ListInvocationsRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        (after,) = token_parts(request.page_token, 1)
        found, next_seq = await self._engine.queries.invocations(
            self._engine.namespace(identity.namespace),
            request.agent,
            request.state,
            token_number(after) if after else None,
            page_size(request.page_size),
        )
        response = engine_pb2.ListInvocationsResponse(invocations=found)
        if next_seq is not None:
            response.next_page_token = page_token(str(next_seq))
        return response

    async def get_invocation(
        self, request: engine_pb2.GetInvocationRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        info = await self._engine.queries.invocation(self._engine.namespace(identity.namespace), request.message_id)
        return engine_pb2.GetInvocationResponse(invocation=info)

    async def cancel_invocation(
        self, request: engine_pb2.CancelInvocationRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        namespace = self._engine.namespace(identity.namespace)
        inv = self._engine.queries.find_live(namespace, request.message_id)
        if inv is None:
            await self._engine.queries.invocation(namespace, request.message_id)  # raises if it is not known
            return engine_pb2.CancelInvocationResponse(cancelled=False)
        reason = request.reason or f"cancelled by {identity.subject}"
        return engine_pb2.CancelInvocationResponse(cancelled=self._engine.interruptions.cancel(inv, reason))

    async def wait_invocation(
        self, request: engine_pb2.WaitInvocationRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        namespace = self._engine.namespace(identity.namespace)
        inv = self._engine.queries.find_live(namespace, request.message_id)
        if inv is not None and not inv.seq:
            info = self._engine.queries.describe_invocation(inv)
            await self._ended(inv)
            if inv.failure is None:
                info.state = engine_pb2.INVOCATION_STATE_SUCCEEDED
            else:
                info.state = engine_pb2.INVOCATION_STATE_FAILED
                info.failure.CopyFrom(inv.failure)
            info.attempts = inv.attempt
            return engine_pb2.WaitInvocationResponse(invocation=info)
        if inv is not None:
            await self._ended(inv)
        info = await self._engine.queries.invocation(namespace, request.message_id)
        return engine_pb2.WaitInvocationResponse(invocation=info)

    @staticmethod
    async def _ended(inv: Any) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if inv.done:
            return
        if inv.waiters is None:
            inv.waiters = []
        inv.waiters.append(lambda: None if future.done() else future.set_result(None))
        await future

    # --- schedules ---------------------------------------------------------------------------------------------------

    async def list_schedules(
        self, request: engine_pb2.ListSchedulesRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        size = page_size(request.page_size)
        (after,) = token_parts(request.page_token, 1)
        found = self._engine.schedules.listing(identity.namespace, request.agent, after, size)
        response = engine_pb2.ListSchedulesResponse(schedules=found)
        if len(found) >= size:
            response.next_page_token = page_token(found[-1].schedule_id)
        return response

    async def pause_schedule(
        self, request: engine_pb2.PauseScheduleRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        info = await self._engine.schedules.pause(identity.namespace, request.schedule_id, request.paused)
        return engine_pb2.PauseScheduleResponse(schedule=info)

    async def trigger_schedule(
        self, request: engine_pb2.TriggerScheduleRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        message_id = await self._engine.schedules.trigger(identity.namespace, request.schedule_id)
        return engine_pb2.TriggerScheduleResponse(message_id=message_id)

    # --- dead letters ------------------------------------------------------------------------------------------------

    async def list_dead_letters(
        self, request: engine_pb2.ListDeadLettersRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        (after,) = token_parts(request.page_token, 1)
        found, next_seq = await self._engine.queries.dead_letters(
            self._engine.namespace(identity.namespace), request.agent, token_number(after), page_size(request.page_size)
        )
        response = engine_pb2.ListDeadLettersResponse(dead_letters=found)
        if next_seq:
            response.next_page_token = page_token(str(next_seq))
        return response

    async def retry_dead_letters(
        self, request: engine_pb2.RetryDeadLettersRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        namespace = self._engine.namespace(identity.namespace)
        count = await self._engine.dead_letters.retry(namespace, list(request.message_ids), request.agent)
        return engine_pb2.RetryDeadLettersResponse(count=count)

    async def drop_dead_letters(
        self, request: engine_pb2.DropDeadLettersRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        namespace = self._engine.namespace(identity.namespace)
        count = await self._engine.dead_letters.drop(namespace, list(request.message_ids), request.agent)
        return engine_pb2.DropDeadLettersResponse(count=count)

    # --- the engine itself -------------------------------------------------------------------------------------------

    async def read_log(
        self, request: engine_pb2.ReadLogRequest, identity: Identity, context: Context
    ) -> AsyncIterator[ProtoMessage]:
        engine_log = self._engine.log
        lines, level, agent = min(request.lines or 100, 10_000), request.level or "info", request.agent
        if request.follow:
            async for entry in engine_log.follow(lines, level, agent):
                yield _line(entry)
        else:
            for entry in engine_log.recent(lines, level, agent):
                yield _line(entry)

    async def get_engine(
        self, request: engine_pb2.GetEngineRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        return await self._engine.describe(identity.namespace)


def _parser(request: type[Request]) -> Callable[[bytes], Request | None]:
    """Parses a request; None if it cannot be, so that the caller is told by name rather than cut off."""

    def parse(data: bytes) -> Request | None:
        try:
            return request.FromString(data)
        except Exception:
            return None

    return parse


def _serialize(message: ProtoMessage) -> bytes:
    return message.SerializeToString()


def _unreadable(name: str) -> AmxError:
    return invalid("REQUEST_UNREADABLE", f"the bytes of the request are not a {name}Request; see proto/amx/v1")


def _remaining_ms(context: Context) -> int:
    remaining = context.time_remaining()
    if remaining is None or remaining > 1e9:
        return 0
    return max(1, int(remaining * 1000))


def _line(entry: Any) -> engine_pb2.ReadLogResponse:
    return engine_pb2.ReadLogResponse(at_ms=entry.at_ms, level=entry.level, event=entry.event, fields=entry.fields)
