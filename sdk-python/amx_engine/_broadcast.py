"""Broadcasts: whom one reaches, how it travels, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amx.v1 import link_pb2, message_pb2
from amx_engine._errors import AmxError, error_from_failure
from amx_engine._message import AgentReference, Priority, outgoing
from amx_engine._result import decode_reply


@dataclass(frozen=True, slots=True)
class RecipientOutcome:
    """What became of a broadcast at one instance: a value, or an error."""

    instance: AgentReference
    value: Any = None
    error: AmxError | None = None


@dataclass(frozen=True, slots=True)
class BroadcastOutcome:
    """What became of a broadcast, recipient by recipient in no particular order."""

    message_id: str
    recipients: tuple[RecipientOutcome, ...]
    succeeded: int
    failed: int

    @classmethod
    def from_proto(cls, result: message_pb2.BroadcastResult) -> BroadcastOutcome:
        """The outcome as it travelled."""
        recipients = []
        for one in result.recipients:
            instance = AgentReference(one.instance.agent, one.instance.key)
            if one.HasField("failure"):
                recipients.append(RecipientOutcome(instance, error=error_from_failure(one.failure)))
            else:
                recipients.append(RecipientOutcome(instance, decode_reply(one.result)))
        return cls(result.message_id, tuple(recipients), result.succeeded, result.failed)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a broadcast reaches. Made by `Scope.all()`, `.agent(name)`, `.group(name)`, `.labels(expression)`."""

    proto: message_pb2.BroadcastScope

    @classmethod
    def all(cls) -> Scope:
        """Every instance of every agent."""
        return cls(message_pb2.BroadcastScope(all=True))

    @classmethod
    def agent(cls, name: str) -> Scope:
        """Every instance of this agent."""
        return cls(message_pb2.BroadcastScope(agent=name))

    @classmethod
    def group(cls, name: str) -> Scope:
        """Every instance of the agents in this group."""
        return cls(message_pb2.BroadcastScope(group=name))

    @classmethod
    def labels(cls, expression: str) -> Scope:
        """Every instance of the agents whose labels satisfy this, e.g. `tier = gold, region != eu`."""
        return cls(message_pb2.BroadcastScope(labels=expression))


def make_broadcast(
    scope: Scope,
    content: Any,
    handler: str,
    type: str,
    priority: Priority | str,
    headers: Mapping[str, str] | None,
) -> link_pb2.Broadcast:
    """A broadcast as it travels. Raises as `outgoing`."""
    broadcast = link_pb2.Broadcast(scope=scope.proto)
    broadcast.message.CopyFrom(outgoing("", content, "", handler, type, priority, headers))
    return broadcast
