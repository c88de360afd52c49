"""Broadcasts: one message to every instance in a scope, and what became of it at each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from amx.v1 import common_pb2, link_pb2, message_pb2
from amx_server.core.errors import AmxError, exhausted, invalid
from amx_server.runtime.acceptance import Acceptance
from amx_server.runtime.dispatch import DEFAULT_KEY
from amx_server.runtime.filters import compile_filter
from amx_server.runtime.instances import Agent
from amx_server.runtime.namespaces import Namespace
from amx_server.security.identity import Identity

if TYPE_CHECKING:
    from amx_server.runtime.engines import Engines

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
        agents = list(_agents(namespace, scope))
        recipients = [(agent.name, key) for agent in agents for key in (*agent.instances, *agent.hibernated)]
        self._broadcasts += 1
        engines = self._acceptance.engines
        send = partial(self._send, namespace, identity, sender, message, timeout_ms)
        if engines is None:
            send(recipients + _defaults(agents, {agent for agent, _ in recipients}), done)
        elif identity.peer:
            send(recipients, done)  # which agents have no instance at all is known where the broadcast began
        else:
            copy = link_pb2.Broadcast(scope=scope, message=message)
            send(recipients, partial(self._elsewhere, engines, identity, copy, timeout_ms, agents, send, done))

    def _elsewhere(
        self,
        engines: Engines,
        identity: Identity,
        broadcast: link_pb2.Broadcast,
        timeout_ms: int,
        agents: list[Agent],
        send: Callable[[list[tuple[str, str]], Callable[[message_pb2.BroadcastResult], None]], None],
        done: Callable[[message_pb2.BroadcastResult], None],
        result: message_pb2.BroadcastResult,
    ) -> None:
        """The instances of this engine have answered: asks those of the others, then agents without any."""

        def last(more: message_pb2.BroadcastResult) -> None:
            result.recipients.extend(more.recipients)
            result.succeeded += more.succeeded
            result.failed += more.failed
            done(result)

        def answered(result: message_pb2.BroadcastResult) -> None:
            send(_defaults(agents, {recipient.instance.agent for recipient in result.recipients}), last)

        engines.broadcast(identity, broadcast, timeout_ms, result, answered)

    def _send(
        self,
        namespace: Namespace,
        identity: Identity,
        sender: str,
        message: message_pb2.Message,
        timeout_ms: int,
        recipients: list[tuple[str, str]],
        done: Callable[[message_pb2.BroadcastResult], None],
    ) -> None:
        if len(recipients) > MAX_RECIPIENTS:
            raise exhausted(
                "BROADCAST_TOO_LARGE",
                f"the scope has {len(recipients)} recipients, {MAX_RECIPIENTS} are allowed; narrow it",
                retry_delay_ms=0,
            )
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


def _defaults(agents: list[Agent], reached: set[str]) -> list[tuple[str, str]]:
    """The default instances of agents that have no other."""
    return [(agent.name, DEFAULT_KEY) for agent in agents if agent.name not in reached]


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
