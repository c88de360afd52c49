"""The RPCs of EngineService about what instances remember: authorised already, translated here, done by the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from google.protobuf.message import Message as ProtoMessage

from amx.v1 import common_pb2, engine_pb2, memory_pb2
from amx_server.api.paging import page_token, token_number, token_parts
from amx_server.api.rpcs import Context, StreamedRpc, UnaryRpc
from amx_server.core import errors
from amx_server.core.errors import AmxError
from amx_server.runtime.memory_versions import Past
from amx_server.runtime.queries import page_size
from amx_server.security.identity import Identity
from amx_server.security.permissions import MEMORY_MANAGE
from amx_server.storage.interface import StoredVersion

if TYPE_CHECKING:
    from amx_server.runtime.engine import Engine


class MemoryRpcs:
    """Entries of memories, read and written from outside handlers, versions of whole memories, upkeep of it all."""

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
            "ListMemoryVersions": (self.list_versions, pb.ListMemoryVersionsRequest, "memory:read"),
            "CreateSnapshot": (self.create_snapshot, pb.CreateSnapshotRequest, "memory:write"),
            "DeleteSnapshot": (self.delete_snapshot, pb.DeleteSnapshotRequest, "memory:write"),
            "ForkInstance": (self.fork_instance, pb.ForkInstanceRequest, "memory:write"),
            "RestoreMemory": (self.restore_memory, pb.RestoreMemoryRequest, "memory:write"),
            "GetMemoryStats": (self.get_stats, pb.GetMemoryStatsRequest, "memory:read"),
        }

    def streams(self) -> dict[str, StreamedRpc]:
        pb = engine_pb2
        return {
            "CollectMemory": (self.collect, pb.CollectMemoryRequest, MEMORY_MANAGE),
            "VerifyMemory": (self.verify, pb.VerifyMemoryRequest, MEMORY_MANAGE),
        }

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
        if request.at_version:
            past = await self._past(identity, request.instance, request.at_version)
            entry = past.entry(request.name, request.entry_id)
            if entry is None:
                raise _entry_unknown(request, f" at version {past.version}")
            return engine_pb2.GetMemoryResponse(entry=entry, version=past.version)
        operation = memory_pb2.MemoryOperation(instance=request.instance, name=request.name, get=request.entry_id)
        result = await self._operate(identity, operation)
        if not result.found:
            raise _entry_unknown(request)
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
        if request.at_version:
            past = await self._past(identity, request.instance, request.at_version)
            return engine_pb2.ListMemoryResponse(memories=past.infos(), version=past.version)
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
        if request.at_version:
            past = await self._past(identity, request.instance, request.at_version)
            spec, entries, more = past.search(request.name, request.prefix, skip + size)
            response = engine_pb2.SearchMemoryResponse(entries=entries[skip:], kind=spec.kind)
            if more:
                response.next_page_token = page_token(str(skip + size))
            return response
        operation = memory_pb2.MemoryOperation(instance=request.instance, name=request.name, limit=skip + size)
        operation.list = request.prefix
        result = await self._operate(identity, operation)
        response = engine_pb2.SearchMemoryResponse(entries=result.entries[skip:], kind=result.kind)
        if result.truncated:
            response.next_page_token = page_token(str(skip + size))
        return response

    # --- versions ----------------------------------------------------------------------------------------------------

    async def _past(self, identity: Identity, ref: common_pb2.InstanceRef, version: int) -> Past:
        return await self._engine.memory_versions.past(self._engine.namespace(identity.namespace), ref, version)

    async def list_versions(
        self, request: engine_pb2.ListMemoryVersionsRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        namespace, versions = self._engine.namespace(identity.namespace), self._engine.memory_versions
        size = page_size(request.page_size)
        (before,) = token_parts(request.page_token, 1)
        found = await versions.listing(namespace, request.instance, token_number(before), size)
        response = engine_pb2.ListMemoryVersionsResponse(versions=map(_version, found))
        if len(found) >= size:
            response.next_page_token = page_token(str(found[-1].version))
        fork = await versions.origin(namespace, request.instance)
        if fork is not None:
            response.forked_from.agent, response.forked_from.key = request.instance.agent, fork.source_key
            response.forked_version = fork.source_version
        return response

    async def create_snapshot(
        self, request: engine_pb2.CreateSnapshotRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        namespace = self._engine.namespace(identity.namespace)
        version = await self._engine.memory_versions.create_snapshot(
            namespace, request.instance, request.name, request.version
        )
        return engine_pb2.CreateSnapshotResponse(version=_version(version))

    async def delete_snapshot(
        self, request: engine_pb2.DeleteSnapshotRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        namespace = self._engine.namespace(identity.namespace)
        found = await self._engine.memory_versions.delete_snapshot(namespace, request.instance, request.name)
        return engine_pb2.DeleteSnapshotResponse(found=found)

    async def fork_instance(
        self, request: engine_pb2.ForkInstanceRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        namespace = self._engine.namespace(identity.namespace)
        version = await self._engine.memory_versions.fork(
            namespace, request.source, request.target, request.version, request.snapshot
        )
        return engine_pb2.ForkInstanceResponse(version=version)

    async def restore_memory(
        self, request: engine_pb2.RestoreMemoryRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        namespace = self._engine.namespace(identity.namespace)
        version = await self._engine.memory_versions.restore(
            namespace, request.instance, request.version, request.snapshot
        )
        return engine_pb2.RestoreMemoryResponse(version=version)

    # --- all of it ---------------------------------------------------------------------------------------------------

    async def get_stats(
        self, request: engine_pb2.GetMemoryStatsRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        return await self._engine.describe_memory(identity.namespace, everybody=identity.allows(MEMORY_MANAGE))

    async def collect(
        self, request: engine_pb2.CollectMemoryRequest, identity: Identity, context: Context
    ) -> AsyncIterator[ProtoMessage]:
        async with aclosing(self._engine.memory_upkeep.collect()) as parts:
            async for part in parts:
                yield engine_pb2.CollectMemoryResponse(
                    progress=part.share,
                    versions=part.versions,
                    objects=part.objects,
                    bytes=part.bytes,
                    disk_bytes=part.disk_bytes,
                    done=part.done,
                )

    async def verify(
        self, request: engine_pb2.VerifyMemoryRequest, identity: Identity, context: Context
    ) -> AsyncIterator[ProtoMessage]:
        async with aclosing(self._engine.memory_upkeep.verify()) as parts:
            async for part in parts:
                yield engine_pb2.VerifyMemoryResponse(
                    progress=part.share,
                    objects=part.objects,
                    bytes=part.bytes,
                    damages=part.damages,
                    healed=part.healed,
                    done=part.done,
                )


def _version(stored: StoredVersion) -> engine_pb2.MemoryVersion:
    return engine_pb2.MemoryVersion(
        version=stored.version,
        at_ms=stored.at_ms,
        message_id=stored.message_id,
        changes=stored.changes,
        snapshots=stored.snapshots,
    )


def _entry_unknown(request: engine_pb2.GetMemoryRequest, when: str = "") -> AmxError:
    return errors.not_found("MEMORY_ENTRY_UNKNOWN", f"memory '{request.name}' has no entry '{request.entry_id}'{when}")
