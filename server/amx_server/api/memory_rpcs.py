"""The RPCs of EngineService about what instances remember: authorised already, translated here, done by the runtime."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from google.protobuf.message import Message as ProtoMessage

from amx.v1 import engine_pb2, memory_pb2
from amx_server.api.paging import page_token, token_number, token_parts
from amx_server.api.rpcs import Context, StreamedRpc, UnaryRpc
from amx_server.core import errors
from amx_server.core.errors import AmxError
from amx_server.runtime.queries import page_size
from amx_server.security.identity import Identity

if TYPE_CHECKING:
    from amx_server.runtime.engine import Engine


class MemoryRpcs:
    """Entries of memories, read and written from outside handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def unary(self) -> dict[str, UnaryRpc]:
        pb = engine_pb2
        return {
            "GetMemory": (self.get_memory, pb.GetMemoryRequest, "memory:read"),
            "PutMemory": (self.put_memory, pb.PutMemoryRequest, "memory:write"),
            "DeleteMemory": (self.delete_memory, pb.DeleteMemoryRequest, "memory:write"),
            "ListMemory": (self.list_memory, pb.ListMemoryRequest, "memory:read"),
            "SearchMemory": (self.search_memory, pb.SearchMemoryRequest, "memory:read"),
        }

    def streams(self) -> dict[str, StreamedRpc]:
        return {}

    async def _operate(
        self, identity: Identity, operation: memory_pb2.MemoryOperation
    ) -> memory_pb2.MemoryOperationResult:
        future: asyncio.Future[memory_pb2.MemoryOperationResult] = asyncio.get_running_loop().create_future()

        def done(result: memory_pb2.MemoryOperationResult | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None or result is None:
                future.set_exception(error or AmxError(errors.INTERNAL, "INTERNAL", "no result"))
            else:
                future.set_result(result)

        self._engine.memory.operate(self._engine.namespace(identity.namespace), operation, done)
        return await future

    async def get_memory(
        self, request: engine_pb2.GetMemoryRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        operation = memory_pb2.MemoryOperation(instance=request.instance, name=request.name, get=request.entry_id)
        result = await self._operate(identity, operation)
        if not result.found:
            raise errors.not_found("MEMORY_ENTRY_UNKNOWN", f"memory '{request.name}' has no entry '{request.entry_id}'")
        return engine_pb2.GetMemoryResponse(entry=result.entries[0], version=result.version)

    async def put_memory(
        self, request: engine_pb2.PutMemoryRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        operation = memory_pb2.MemoryOperation(
            instance=request.instance, name=request.name, put=request.entry, if_version=request.if_version
        )
        result = await self._operate(identity, operation)
        return engine_pb2.PutMemoryResponse(version=result.version)

    async def delete_memory(
        self, request: engine_pb2.DeleteMemoryRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        operation = memory_pb2.MemoryOperation(
            instance=request.instance, name=request.name, remove=request.entry_id, if_version=request.if_version
        )
        result = await self._operate(identity, operation)
        return engine_pb2.DeleteMemoryResponse(found=result.found, version=result.version)

    async def list_memory(
        self, request: engine_pb2.ListMemoryRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        future: asyncio.Future[tuple[list[memory_pb2.MemoryInfo], int]] = asyncio.get_running_loop().create_future()

        def done(infos: list[memory_pb2.MemoryInfo], version: int) -> None:
            if not future.done():
                future.set_result((infos, version))

        self._engine.memory.listing(self._engine.namespace(identity.namespace), request.instance, done)
        infos, version = await future
        return engine_pb2.ListMemoryResponse(memories=infos, version=version)

    async def search_memory(
        self, request: engine_pb2.SearchMemoryRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        size = page_size(request.page_size)
        (offset,) = token_parts(request.page_token, 1)
        skip = token_number(offset)
        operation = memory_pb2.MemoryOperation(instance=request.instance, name=request.name, limit=skip + size)
        operation.list = request.prefix
        result = await self._operate(identity, operation)
        response = engine_pb2.SearchMemoryResponse(entries=result.entries[skip:], kind=result.kind)
        if result.truncated:
            response.next_page_token = page_token(str(skip + size))
        return response
