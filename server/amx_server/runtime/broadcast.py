"""Broadcasts: one message to every instance in a scope, and what became of it at each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from amx.v1 import common_pb2, message_pb2
from amx_server.core.errors import AmxError, exhausted, invalid
from amx_server.runtime.acceptance import Acceptance
from amx_server.runtime.dispatch import DEFAULT_KEY
from amx_server.runtime.filters import compile_filter
from amx_server.runtime.instances import Agent
from amx_server.runtime.namespaces import Namespace
from amx_server.security.identity import Identity

MAX_RECIPIENTS = 100_000


class Broadcasts:
    """Sends broadcasts and collects their outcomes."""

    def __init__(self, acceptance: Acceptance) -> None:
        self._acceptance = acceptance
        self._broadcasts = 0

    def broadcast(
        self,
        namespace: Namespace,
        identity: Identity,
        sender: str,
        scope: message_pb2.BroadcastScope,
        message: message_pb2.Message,
        timeout_ms: int,
        done: Callable[[message_pb2.BroadcastResult], None],
    ) -> None:
        """Sends `message` to everyone in `scope`; `done` gets the outcomes once every recipient has one.

        Recipients are the instances awake or hibernated now; an agent without any has its default instance.
        Raises AmxError if the scope is malformed or has too many recipients; nothing was sent then.
        """
        recipients = [(agent.name, key) for agent in _agents(namespace, scope) for key in _keys(agent)]
        if len(recipients) > MAX_RECIPIENTS:
            raise exhausted(
                "BROADCAST_TOO_LARGE",
                f"the scope has {len(recipients)} recipients, {MAX_RECIPIENTS} are allowed; narrow it",
                retry_delay_ms=0,
            )
        self._broadcasts += 1
        message_id = message.message_id or f"broadcast-{self._broadcasts}"
        collection = _Collection(message_id, len(recipients), done)
        if not recipients:
            collection.finish()
            return
        for agent, key in recipients:
            copy = message_pb2.Message()
            copy.CopyFrom(message)
            copy.agent = agent
            copy.key = key
            if message.message_id:
                copy.message_id = f"{message.message_id}:{agent}/{key}"
            sink = _Recipient(collection, agent, key)
            try:
                self._acceptance.accept(namespace, identity, sender, copy, sink, timeout_ms)
            except AmxError as error:
                sink.fail(error.to_failure())


def _agents(namespace: Namespace, scope: message_pb2.BroadcastScope) -> Iterator[Agent]:
    what = scope.WhichOneof("scope")
    receivers = [
        agent
        for agent in namespace.agents.values()
        if agent not in namespace.routers and agent not in namespace.monitors
    ]
    if what == "all":
        yield from receivers
    elif what == "agent":
        found = namespace.agents.get(scope.agent)
        if found is None:
            raise invalid("AGENT_UNKNOWN", f"no agent named '{scope.agent}' is known in namespace '{namespace.name}'")
        yield found
    elif what == "group":
        yield from (a for a in receivers if a.active is not None and scope.group in a.active.spec.groups)
    elif what == "labels":
        matches = compile_filter(scope.labels)
        yield from (a for a in receivers if a.active is not None and matches(a.active.spec.labels))
    else:
        raise invalid("INVALID_SCOPE", "a broadcast needs a scope: all, agent, group or labels")


def _keys(agent: Agent) -> list[str]:
    return [*agent.instances, *agent.hibernated] or [DEFAULT_KEY]


class _Collection:
    """Outcomes that have come so far."""

    def __init__(self, message_id: str, open: int, done: Callable[[message_pb2.BroadcastResult], None]) -> None:
        self.result = message_pb2.BroadcastResult(message_id=message_id)
        self.open = open
        self._done = done

    def finish(self) -> None:
        self._done(self.result)


class _Recipient:
    """The sink of one recipient."""

    __slots__ = ("_agent", "_collection", "_key")

    def __init__(self, collection: _Collection, agent: str, key: str) -> None:
        self._collection = collection
        self._agent = agent
        self._key = key

    def _entry(self) -> message_pb2.BroadcastRecipient:
        entry = self._collection.result.recipients.add()
        entry.instance.agent = self._agent
        entry.instance.key = self._key
        return entry

    def _ended(self) -> None:
        self._collection.open -= 1
        if not self._collection.open:
            self._collection.finish()

    def result(self, payload: common_pb2.Payload) -> None:
        self._entry().result.CopyFrom(payload)
        self._collection.result.succeeded += 1
        self._ended()

    def fail(self, failure: common_pb2.Failure) -> None:
        self._entry().failure.CopyFrom(failure)
        self._collection.result.failed += 1
        self._ended()

    def accepted(self, message_id: str, duplicate: bool) -> None:
        """Requests are not answered so."""

    def chunk(self, payload: common_pb2.Payload) -> None:
        """Parts of streamed replies are not collected, only results."""
