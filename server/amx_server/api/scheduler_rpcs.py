"""The RPCs of EngineService about the scheduler: authorised already, translated here, done by the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import Message as ProtoMessage

from amx.v1 import engine_pb2
from amx_server.api.rpcs import Context, StreamedRpc, UnaryRpc
from amx_server.security.identity import Identity

if TYPE_CHECKING:
    from amx_server.runtime.engine import Engine


class SchedulerRpcs:
    """How busy the engine is, and how it shares its capacity."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def unary(self) -> dict[str, UnaryRpc]:
        pb = engine_pb2
        return {
            "GetScheduler": (self.get_scheduler, pb.GetSchedulerRequest, "engine:read"),
            "SetAllocationPolicy": (self.set_policy, pb.SetAllocationPolicyRequest, "engine:write"),
        }

    def streams(self) -> dict[str, StreamedRpc]:
        return {}

    async def get_scheduler(
        self, request: engine_pb2.GetSchedulerRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        return self._engine.scheduler.describe(self._engine.namespace(identity.namespace))

    async def set_policy(
        self, request: engine_pb2.SetAllocationPolicyRequest, identity: Identity, context: Context
    ) -> ProtoMessage:
        return engine_pb2.SetAllocationPolicyResponse(previous=self._engine.allocator.choose(request.policy))
