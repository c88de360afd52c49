"""The RPCs of EngineService about the life of instances: authorised already, translated here, done by the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import Message as ProtoMessage

from amx.v1 import common_pb2, engine_pb2
from amx_server.api.rpcs import Context, StreamedRpc, UnaryRpc
from amx_server.core.errors import invalid
from amx_server.runtime.instances import Agent
from amx_server.security.identity import Identity

if TYPE_CHECKING:
    from amx_server.runtime.engine import Engine


class LifecycleRpcs:
    """Spawn, suspend, resume, migrate, kill; and who supervises whom."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def unary(self) -> dict[str, UnaryRpc]:
        pb = engine_pb2
        return {
            "SpawnInstance": (self.spawn, pb.SpawnInstanceRequest, "instances:write"),
            "SuspendInstance": (self.suspend, pb.SuspendInstanceRequest, "instances:write"),
            "ResumeInstance": (self.resume, pb.ResumeInstanceRequest, "instances:write"),
            "MigrateInstance": (self.migrate, pb.MigrateInstanceRequest, "instances:write"),
            "KillInstance": (self.kill, pb.KillInstanceRequest, "instances:write"),
            "ListSupervisors": (self.list_supervisors, pb.ListSupervisorsRequest, "agents:read"),
        }

    def streams(self) -> dict[str, StreamedRpc]:
        return {}

    def _address(self, identity: Identity, ref: common_pb2.InstanceRef) -> tuple[Agent, str]:
        """The agent and the key that a request means. Raises AmxError AGENT_UNKNOWN or KEY_TOO_LONG."""
        agent = self._engine.registry.agent(self._engine.namespace(identity.namespace), ref.agent)
        key = ref.key or "default"
        size, allowed = len(key.encode()), self._engine.config.limits.max_key_bytes
        if size > allowed:
            raise invalid("KEY_TOO_LONG", f"the instance key has {size} bytes, {allowed} are allowed")
        return agent, key

    def _describe(self, agent: Agent, key: str) -> engine_pb2.InstanceInfo:
        return self._engine.queries.instance(agent.namespace, agent.name, key)

    async def spawn(
        self, request: engine_pb2.SpawnInstanceRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        agent, key = self._address(identity, request.instance)
        created = await self._engine.lifecycle.spawn(agent, key)
        return engine_pb2.SpawnInstanceResponse(instance=self._describe(agent, key), created=created)

    async def suspend(
        self, request: engine_pb2.SuspendInstanceRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        agent, key = self._address(identity, request.instance)
        reason = request.reason or f"suspended by {identity.subject}"
        await self._engine.lifecycle.suspend(agent, key, reason, cancel_running=request.cancel_running)
        return engine_pb2.SuspendInstanceResponse(instance=self._describe(agent, key))

    async def resume(
        self, request: engine_pb2.ResumeInstanceRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        agent, key = self._address(identity, request.instance)
        resumed = await self._engine.lifecycle.resume(agent, key)
        return engine_pb2.ResumeInstanceResponse(instance=self._describe(agent, key), resumed=resumed)

    async def migrate(
        self, request: engine_pb2.MigrateInstanceRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        agent, key = self._address(identity, request.instance)
        await self._engine.lifecycle.migrate(agent, key, request.link_id)
        return engine_pb2.MigrateInstanceResponse(instance=self._describe(agent, key))

    async def kill(self, request: engine_pb2.KillInstanceRequest, identity: Identity, context: Context) -> ProtoMessage:
        agent, key = self._address(identity, request.instance)
        reason = request.reason or f"killed by {identity.subject}"
        cancelled, dropped = await self._engine.lifecycle.kill(agent, key, reason, purge=request.purge)
        return engine_pb2.KillInstanceResponse(cancelled=cancelled, dropped=dropped)

    async def list_supervisors(
        self, request: engine_pb2.ListSupervisorsRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        supervisors = self._engine.supervision.describe(self._engine.namespace(identity.namespace))
        return engine_pb2.ListSupervisorsResponse(supervisors=supervisors)
