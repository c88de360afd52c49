"""Performance monitors: user code that is told of each processed message, what came of it and how long it took."""

from __future__ import annotations

import json

from amx.v1 import agent_pb2, common_pb2, message_pb2
from amx_server.core.errors import AmxError
from amx_server.runtime.acceptance import Acceptance
from amx_server.runtime.content import describe, outcome
from amx_server.runtime.dispatch import VOLATILE
from amx_server.runtime.instances import HandlerState, Instance
from amx_server.runtime.namespaces import Namespace
from amx_server.security.identity import Identity
from amx_server.telemetry.logs import get_logger

log = get_logger(__name__)

_QUIET_KINDS = (agent_pb2.AGENT_KIND_MONITOR, agent_pb2.AGENT_KIND_ROUTER)


class Monitors:
    """Tells the monitors of a namespace. They never slow anyone down: what they cannot take is dropped and counted."""

    def __init__(self, acceptance: Acceptance) -> None:
        self._acceptance = acceptance
        self._identity = Identity("engine", "", ("admin",), frozenset({"*"}))
        self.dropped = 0

    def processed(
        self,
        namespace: Namespace,
        instance: Instance,
        handler: HandlerState,
        message: message_pb2.Message,
        payload: common_pb2.Payload | None,
        failure: common_pb2.Failure | None,
        seconds: float,
    ) -> None:
        """Reports one processed message. What monitors and routers do themselves is not reported. Never raises: the
        caller has a reply to send.
        """
        active = instance.agent.active
        if active is not None and active.spec.kind in _QUIET_KINDS:
            return
        try:
            self._report(namespace, instance, handler, message, payload, failure, seconds)
        except Exception:
            self.dropped += 1
            log.exception("monitor_report_failed", agent=instance.agent.name, handler=handler.name)

    def _report(
        self,
        namespace: Namespace,
        instance: Instance,
        handler: HandlerState,
        message: message_pb2.Message,
        payload: common_pb2.Payload | None,
        failure: common_pb2.Failure | None,
        seconds: float,
    ) -> None:
        report = json.dumps(
            {
                "agent_name": instance.agent.name,
                "instance": instance.address,
                "handler": handler.name,
                "message": describe(message),
                "result": outcome(payload, failure),
                "duration_ms": seconds * 1000,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        for monitor in namespace.monitors:
            if monitor.active is None or not monitor.active.hosts:
                continue
            told = message_pb2.Message(agent=monitor.name, durability=VOLATILE)
            told.payload.data = report
            try:
                self._acceptance.accept(namespace, self._identity, "engine", told, self, one_way=True)
            except AmxError:
                self.dropped += 1

    def accepted(self, message_id: str, duplicate: bool) -> None:
        """The monitor will be told."""

    def result(self, payload: common_pb2.Payload) -> None:
        """The monitor was told."""

    def fail(self, failure: common_pb2.Failure) -> None:
        """The monitor cannot keep up."""
        self.dropped += 1

    def chunk(self, payload: common_pb2.Payload) -> None:
        """Monitors do not stream."""
