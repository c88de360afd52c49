"""Message routers: user code that picks the agent of messages that name none."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

from amx.v1 import common_pb2, message_pb2
from amx_server.core import errors
from amx_server.core.errors import AmxError
from amx_server.runtime.acceptance import Acceptance
from amx_server.runtime.content import describe
from amx_server.runtime.instances import Agent, Invocation, ReplySink
from amx_server.runtime.namespaces import Namespace
from amx_server.security.identity import Identity

ROUTE_TIMEOUT_MS = 10_000


@runtime_checkable
class Follower(Protocol):
    """A sink that may be given up, and must be told which invocation it has once a router has found its agent."""

    invocation: Invocation | None

    @property
    def open(self) -> bool:
        """Whether somebody still waits."""
        ...


class Routing:
    """Asks the routers of a namespace, the highest order first, until one names an agent."""

    def __init__(self, acceptance: Acceptance) -> None:
        self._acceptance = acceptance

    def route(
        self,
        namespace: Namespace,
        identity: Identity,
        sender: str,
        message: message_pb2.Message,
        sink: ReplySink,
        timeout_ms: int,
        one_way: bool,
        streaming: bool,
    ) -> None:
        """Finds the agent of `message` and accepts it there. Raises AmxError NO_ROUTE if there is no router."""
        original = message_pb2.Message()
        original.CopyFrom(message)
        deliver = partial(
            self._acceptance.accept, namespace, identity, sender, original, sink, timeout_ms, one_way, streaming
        )
        self.address(namespace, identity, original, sink, deliver)

    def address(
        self,
        namespace: Namespace,
        identity: Identity,
        message: message_pb2.Message,
        sink: ReplySink,
        deliver: Callable[[], object],
    ) -> None:
        """Finds the agent of `message`, writes it there, and calls `deliver`; `sink` hears why that could not be.

        Raises AmxError NO_ROUTE if there is no router.
        """
        routers = [agent for agent in namespace.routers if agent.active is not None and agent.active.hosts]
        if not routers:
            raise AmxError(
                errors.NOT_FOUND,
                "NO_ROUTE",
                "the message names no agent and no message router is connected; name an agent, or register a router",
            )
        question = json.dumps(describe(message), ensure_ascii=False, separators=(",", ":")).encode()
        _Question(self._acceptance, namespace, identity, message, sink, question, routers, deliver).ask()


class _Question:
    """One message on its way through the routers; the sink of each router's answer."""

    def __init__(
        self,
        acceptance: Acceptance,
        namespace: Namespace,
        identity: Identity,
        message: message_pb2.Message,
        sink: ReplySink,
        question: bytes,
        routers: list[Agent],
        deliver: Callable[[], object],
    ) -> None:
        self._acceptance = acceptance
        self._namespace = namespace
        self._identity = identity
        self._message = message
        self._sink = sink
        self._question = question
        self._routers = routers
        self._deliver = deliver

    def ask(self) -> None:
        if not self._routers:
            self._sink.fail(
                AmxError(errors.NOT_FOUND, "NO_ROUTE", "no message router knew an agent for the message").to_failure()
            )
            return
        router = self._routers.pop(0)
        request = message_pb2.Message(agent=router.name, traceparent=self._message.traceparent)
        request.payload.data = self._question
        try:
            # The caller asks for delivery, not for the router: the router's own permissions are not asked of it.
            self._acceptance.accept(self._namespace, self._identity, "engine", request, self, ROUTE_TIMEOUT_MS)
        except AmxError as error:
            self._sink.fail(error.to_failure())

    def result(self, payload: common_pb2.Payload) -> None:
        if isinstance(self._sink, Follower) and not self._sink.open:
            return  # cancelled while the router thought
        try:
            answer = json.loads(payload.data) if payload.data else None
            if answer is None:
                self.ask()
                return
            if isinstance(answer, str):
                answer = {"agent": answer}
            self._message.agent = answer["agent"]
            if answer.get("key"):
                self._message.key = answer["key"]
            if answer.get("handler"):
                self._message.handler = answer["handler"]
            if not self._message.agent:
                raise ValueError("empty agent")
        except (ValueError, TypeError, KeyError, AttributeError):
            self._sink.fail(
                AmxError(
                    errors.INTERNAL,
                    "NO_ROUTE",
                    "a message router answered neither null nor an object with an 'agent'",
                ).to_failure()
            )
            return
        try:
            inv = self._deliver()
        except AmxError as error:
            self._sink.fail(error.to_failure())
            return
        if isinstance(self._sink, Follower) and isinstance(inv, Invocation):
            self._sink.invocation = inv

    def fail(self, failure: common_pb2.Failure) -> None:
        self._sink.fail(failure)

    def accepted(self, message_id: str, duplicate: bool) -> None:
        """Requests are not answered so."""

    def chunk(self, payload: common_pb2.Payload) -> None:
        """Routers do not stream."""
