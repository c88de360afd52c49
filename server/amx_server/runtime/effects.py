"""What a handler did beside its result: checked, turned into one commit, and carried out once that is on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from amx.v1 import common_pb2, link_pb2, message_pb2
from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError
from amx_server.memory.blobs import ContentBlobs
from amx_server.memory.instance_memory import InstanceMemory, MemoryLimits
from amx_server.runtime.acceptance import Acceptance
from amx_server.runtime.dispatch import DEFAULT_KEY, VOLATILE, memory_not_held
from amx_server.runtime.instances import Instance
from amx_server.runtime.namespaces import Namespace
from amx_server.security.identity import Identity
from amx_server.storage.interface import Commit
from amx_server.telemetry.logs import get_logger

if TYPE_CHECKING:
    from amx_server.runtime.events import Events
    from amx_server.runtime.schedules import Schedules

log = get_logger(__name__)


class EffectsStage:
    """Stages effects into commits."""

    def __init__(
        self,
        config: EngineConfig,
        clock: Clock,
        acceptance: Acceptance,
        events: Events,
        schedules: Schedules,
        blobs: ContentBlobs,
    ) -> None:
        self._clock = clock
        self._acceptance = acceptance
        self._events = events
        self._schedules = schedules
        self._blobs = blobs
        self._limits = MemoryLimits(max_instance_bytes=config.limits.max_memory_bytes)

    def address(
        self,
        identity: Identity,
        instance: Instance,
        effects: link_pb2.Effects,
        done: Callable[[common_pb2.Failure | None], None],
    ) -> bool:
        """Has the routers choose the agents of emitted durable messages that name none: then the commit can hold them.

        Returns True if there are none. Otherwise `done` is called when all of `effects` is addressed, which must stay
        unchanged until then, or with the reason for which it cannot be.
        """
        unaddressed = [message for message in effects.messages if not message.agent and message.durability != VOLATILE]
        if not unaddressed:
            return True
        answers = _Answers(len(unaddressed), done)
        namespace = instance.agent.namespace
        for message in unaddressed:
            message.sender = instance.address
            try:
                self._acceptance.routing.address(namespace, identity, message, answers, answers.addressed)
            except AmxError as error:
                answers.fail(error.to_failure())
        return False

    def stage(
        self, identity: Identity, instance: Instance, effects: link_pb2.Effects, commit: Commit, message_id: str
    ) -> Callable[[], None] | None:
        """Checks `effects` of a handler of `instance`, which handled that message or event, and adds them to `commit`.

        Returns what to do once the commit is on disk, or None. Raises AmxError if one of them cannot be; then neither
        the commit's caller nor anyone else may use what was staged.
        """
        after: list[Callable[[], None]] = []
        agent = instance.agent
        namespace = agent.namespace
        if effects.messages:
            self._stage_messages(identity, instance, effects, commit, after)
        for event in effects.events:
            event.publisher = instance.address
            identity.require("events:publish", f"publishing '{event.topic}'")
            copy = message_pb2.Event()
            copy.CopyFrom(event)
            self._events.stage(namespace, identity, copy, commit, after)
        if effects.schedules or effects.cancelled_schedules:
            self._schedules.stage(instance, effects.schedules, effects.cancelled_schedules, commit, after)
        if effects.subscriptions or effects.cancelled_subscriptions:
            self._events.stage_subscriptions(
                instance, effects.subscriptions, effects.cancelled_subscriptions, commit, after
            )
        changes = effects.memory
        if changes:
            memory = instance.memory
            version = instance.version
            definitions = version.spec.memories if version is not None else agent.memories
            if memory is None:
                if definitions:
                    raise memory_not_held(instance)  # given up after a commit that failed
                memory = InstanceMemory()  # refuses every change: the agent declares no memory
            if namespace.quota.limits.stored_bytes:
                namespace.quota.require_room(effects.ByteSize())
            stored_before = memory.stored_bytes
            memory.apply(
                changes,
                definitions,
                self._clock.now_ms(),
                namespace.name,
                agent.name,
                instance.key,
                commit,
                self._limits,
                message_id,
                self._blobs,
            )
            namespace.quota.store(memory.stored_bytes - stored_before)
        if not after:
            return None
        if len(after) == 1:
            return after[0]
        return partial(_run_all, after)

    def _stage_messages(
        self,
        identity: Identity,
        instance: Instance,
        effects: link_pb2.Effects,
        commit: Commit,
        after: list[Callable[[], None]],
    ) -> None:
        namespace = instance.agent.namespace
        sender = instance.address
        for staged in effects.messages:
            message = message_pb2.Message()
            message.CopyFrom(staged)
            message.sender = sender
            identity.require("messages:send", f"sending to '{message.agent}'")
            if message.durability == VOLATILE:
                after.append(partial(self._send, namespace, identity, sender, message))
                continue
            if self._acceptance.stage_elsewhere(namespace, identity, message, commit, after):
                continue
            inv = self._acceptance.prepare_stored(namespace, identity, message)
            row = self._acceptance.stored_message(namespace, inv)
            namespace.quota.require_room(len(row.body))
            commit.insert += (row,)
            after.append(partial(self._acceptance.stored_with_commit, namespace, inv, commit))

    def _send(self, namespace: Namespace, identity: Identity, sender: str, message: message_pb2.Message) -> None:
        try:
            self._acceptance.accept(namespace, identity, sender, message, Unheard(message), one_way=True)
        except AmxError as error:
            log.warning(
                "emitted_message_refused",
                agent=message.agent,
                sender=sender,
                reason=error.reason,
                traceparent=message.traceparent,
            )


class _Answers:
    """What the routers say about several messages; the sink of each."""

    def __init__(self, count: int, done: Callable[[common_pb2.Failure | None], None]) -> None:
        self._missing = count
        self._failure: common_pb2.Failure | None = None
        self._done = done

    def addressed(self) -> None:
        """One more message has its agent."""
        self._missing -= 1
        if not self._missing:
            self._done(self._failure)

    def fail(self, failure: common_pb2.Failure) -> None:
        """One more message cannot have one."""
        if self._failure is None:
            self._failure = common_pb2.Failure()
            self._failure.CopyFrom(failure)
        self.addressed()

    def accepted(self, message_id: str, duplicate: bool) -> None:
        """Nothing is sent yet."""

    def result(self, payload: common_pb2.Payload) -> None:
        """Nothing is sent yet."""

    def chunk(self, payload: common_pb2.Payload) -> None:
        """Nothing is sent yet."""


class Unheard:
    """The sink of a message nobody waits for: failures are logged."""

    __slots__ = ("_message",)

    def __init__(self, message: message_pb2.Message) -> None:
        self._message = message

    def accepted(self, message_id: str, duplicate: bool) -> None:
        pass

    def result(self, payload: common_pb2.Payload) -> None:
        pass

    def chunk(self, payload: common_pb2.Payload) -> None:
        pass

    def fail(self, failure: common_pb2.Failure) -> None:
        log.warning(
            "message_lost",
            agent=self._message.agent,
            key=self._message.key or DEFAULT_KEY,
            sender=self._message.sender,
            reason=failure.reason,
            error=failure.message,
            traceparent=self._message.traceparent,
        )


def _run_all(steps: list[Callable[[], None]]) -> None:
    for step in steps:
        step()
