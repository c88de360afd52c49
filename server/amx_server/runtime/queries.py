"""What people look at: agents, instances, invocations, dead letters. Reads state; changes none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError

from amx.v1 import engine_pb2, link_pb2, message_pb2
from amx_server.core.clock import Clock
from amx_server.core.errors import not_found
from amx_server.runtime.instances import Agent, Instance, Invocation
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.scheduling.supervision import Supervision
from amx_server.runtime.scheduling.waits import WaitReason, Waits
from amx_server.runtime.versions import precedence
from amx_server.storage.interface import MessageState, Store, StoredMessage

MAX_PAGE = 1000

_ENDED = {
    MessageState.SUCCEEDED: engine_pb2.INVOCATION_STATE_SUCCEEDED,
    MessageState.FAILED: engine_pb2.INVOCATION_STATE_FAILED,
    MessageState.CANCELLED: engine_pb2.INVOCATION_STATE_CANCELLED,
    MessageState.DEAD: engine_pb2.INVOCATION_STATE_DEAD,
    MessageState.PENDING: engine_pb2.INVOCATION_STATE_QUEUED,
}
WAIT_REASONS = {reason: engine_pb2.WaitReason.Value(f"WAIT_REASON_{reason.upper()}") for reason in WaitReason}
_STORED = {invocation_state: stored for stored, invocation_state in _ENDED.items()}


def page_size(asked: int) -> int:
    """Entries of one page: what was asked for within the bound, 100 if nothing was."""
    return min(asked or 100, MAX_PAGE)


class Queries:
    """Listings and descriptions of one engine."""

    def __init__(self, clock: Clock, store: Store, supervision: Supervision, waits: Waits) -> None:
        self._clock = clock
        self._waits = waits
        self._store = store
        self._supervision = supervision

    # --- agents ------------------------------------------------------------------------------------------------------

    def agents(self, namespace: Namespace, after: str, limit: int) -> list[Agent]:
        """Agents in order of name, after `after`."""
        return [namespace.agents[name] for name in sorted(namespace.agents) if name > after][:limit]

    def describe_agent(self, agent: Agent) -> engine_pb2.AgentInfo:
        """One agent with all its versions."""
        info = engine_pb2.AgentInfo(
            active_instances=len(agent.instances),
            queued_messages=agent.queued,
            pinned_version=agent.pinned,
            processed=sum(handler.stats.processed for handler in agent.handlers.values()),
            failed=sum(handler.stats.failed for handler in agent.handlers.values()),
        )
        if agent.active is not None:
            info.definition.CopyFrom(agent.active.spec.definition)
        for name in sorted(agent.versions, key=precedence, reverse=True):
            version = agent.versions[name]
            info.versions.add(version=name, links=len(version.hosts), active=version is agent.active)
        return info

    # --- instances ---------------------------------------------------------------------------------------------------

    def describe_instance(self, instance: Instance) -> engine_pb2.InstanceInfo:
        """One instance that is awake."""
        info = engine_pb2.InstanceInfo(
            queued_messages=len(instance.mailbox) if instance.mailbox is not None else 0,
            link_id=instance.link.link_id if instance.link is not None else "",
            epoch=instance.epoch,
            idle_ms=max(0, int((self._clock.monotonic() - instance.last_active) * 1000)),
        )
        info.instance.agent = instance.agent.name
        info.instance.key = instance.key
        if instance.memory is not None:
            info.memory_version = instance.memory.version
            info.memory_bytes = instance.memory.bytes
        if (
            (instance.running is not None and instance.running.link is not None)
            or instance.delivering
            or instance.concurrent
        ):
            info.state = engine_pb2.INSTANCE_STATE_RUNNING
        elif instance.mailbox is not None or instance.running is not None:
            info.state = engine_pb2.INSTANCE_STATE_QUEUED
        else:
            info.state = engine_pb2.INSTANCE_STATE_IDLE
        now = self._clock.monotonic()
        for wait in self._waits.of(instance):
            for_ms = max(0, int((now - wait.since) * 1000))
            info.waits.add(reason=WAIT_REASONS[wait.reason], detail=wait.detail, for_ms=for_ms)
        self._complete(info, instance.agent, instance.key)
        return info

    def _complete(self, info: engine_pb2.InstanceInfo, agent: Agent, key: str) -> None:
        """What is known of instances whether they are awake or not."""
        info.supervisor = self._supervision.supervisor_of(agent, key)
        suspension = agent.suspended.get(key)
        if suspension is not None:
            info.suspended_because = suspension.reason
            if info.state != engine_pb2.INSTANCE_STATE_RUNNING:  # it may end
                info.state = engine_pb2.INSTANCE_STATE_SUSPENDED

    async def instances(
        self,
        namespace: Namespace,
        agent: str,
        state: engine_pb2.InstanceState,
        after: tuple[str, str],
        limit: int,
    ) -> list[engine_pb2.InstanceInfo]:
        """Instances in order of address: awake ones, and hibernated ones as far as they are remembered or stored."""
        asleep = await self._store.memory_instances(namespace.name, agent, after, limit)
        agents = [a for a in namespace.agents.values() if not agent or a.name == agent]
        addresses = {(a.name, key) for a in agents for key in a.instances}
        addresses.update((a.name, key) for a in agents for key in a.hibernated)
        addresses.update((a.name, key) for a in agents for key in a.suspended)
        addresses.update(asleep)
        found: list[engine_pb2.InstanceInfo] = []
        for name, key in sorted(addresses):
            if (name, key) <= after:
                continue
            info = self.instance(namespace, name, key)
            if state and info.state != state:
                continue
            found.append(info)
            if len(found) >= limit:
                break
        return found

    def instance(self, namespace: Namespace, agent: str, key: str) -> engine_pb2.InstanceInfo:
        """One instance, asleep if it is not awake."""
        awake = namespace.instance(agent, key)
        if awake is not None:
            return self.describe_instance(awake)
        info = engine_pb2.InstanceInfo(state=engine_pb2.INSTANCE_STATE_HIBERNATED)
        info.instance.agent = agent
        info.instance.key = key
        known = namespace.agents.get(agent)
        if known is not None:
            since = known.hibernated.get(key)
            if since is not None:
                info.idle_ms = max(0, int((self._clock.monotonic() - since) * 1000))
            self._complete(info, known, key)
        return info

    async def require_instance(self, namespace: Namespace, agent: str, key: str) -> engine_pb2.InstanceInfo:
        """One instance. Raises AmxError INSTANCE_UNKNOWN if it is neither awake nor remembered."""
        known = namespace.agents.get(agent)
        if known is not None and (key in known.instances or key in known.hibernated or key in known.suspended):
            return self.instance(namespace, agent, key)
        if await self._store.memory(namespace.name, agent, key):
            return self.instance(namespace, agent, key)
        raise not_found("INSTANCE_UNKNOWN", f"no instance '{agent}/{key}' is awake or remembers anything")

    # --- invocations -------------------------------------------------------------------------------------------------

    def _live(self, namespace: Namespace) -> Iterator[Invocation]:
        """Every message that has not ended, as far as it is in memory."""
        for agent in namespace.agents.values():
            for instance in agent.instances.values():
                if instance.running is not None:
                    yield instance.running
                if instance.mailbox is not None:
                    yield from instance.mailbox
        links = {host for a in namespace.agents.values() for v in a.versions.values() for host in v.hosts}
        for link in links:
            for inv in link.running.values():
                if inv.concurrent:
                    yield inv

    def describe_invocation(self, inv: Invocation) -> engine_pb2.InvocationInfo:
        """One message that has not ended."""
        info = engine_pb2.InvocationInfo(
            message_id=inv.message.message_id or f"inv-{inv.id}",
            handler=inv.handler.name,
            attempts=inv.attempt,
            durable=bool(inv.seq),
            priority=inv.priority,  # type: ignore[arg-type]
            accepted_at_ms=inv.accepted_at_ms,
            sender=inv.message.sender,
        )
        info.instance.agent = inv.instance.agent.name
        info.instance.key = inv.instance.key
        if inv.failure is not None:
            info.failure.CopyFrom(inv.failure)
        if inv.link is not None:
            info.state = engine_pb2.INVOCATION_STATE_RUNNING
        elif inv.attempt and inv.failure is not None:
            info.state = engine_pb2.INVOCATION_STATE_BACKING_OFF
        else:
            info.state = engine_pb2.INVOCATION_STATE_QUEUED
        return info

    def find_live(self, namespace: Namespace, message_id: str) -> Invocation | None:
        """The invocation of a message that has not ended, by its message id or `inv-N`."""
        durable = namespace.durable.get(message_id)
        if durable is not None:
            return durable
        for inv in self._live(namespace):
            if not inv.done and message_id in (inv.message.message_id, f"inv-{inv.id}"):
                return inv
        return None

    async def invocation(self, namespace: Namespace, message_id: str) -> engine_pb2.InvocationInfo:
        """One invocation. Raises AmxError INVOCATION_UNKNOWN."""
        live = self.find_live(namespace, message_id)
        if live is not None:
            return self.describe_invocation(live)
        await self._store.flush()
        row = await self._store.message(namespace.name, message_id)
        if row is None:
            raise not_found(
                "INVOCATION_UNKNOWN",
                f"no message '{message_id}' is on its way or stored;"
                " volatile messages are forgotten when they end, durable ones after storage.dedup_window",
            )
        return describe_row(row)

    async def invocations(
        self,
        namespace: Namespace,
        agent: str,
        state: engine_pb2.InvocationState,
        after_seq: int | None,
        limit: int,
    ) -> tuple[list[engine_pb2.InvocationInfo], int | None]:
        """Invocations, and where to go on (None: the end).

        after_seq None: volatile ones, as many as fit; they are not paged. Then durable ones in order of acceptance; a
        page of them may have fewer than `limit`, even none, before the end.
        """
        found: list[engine_pb2.InvocationInfo] = []
        if after_seq is None:
            for inv in self._live(namespace):
                if inv.done or inv.seq or (agent and inv.instance.agent.name != agent):
                    continue
                info = self.describe_invocation(inv)
                if not state or info.state == state:
                    found.append(info)
                if len(found) >= limit:
                    return found, 0
        stored_state = _STORED.get(state) if state else None
        if state in (engine_pb2.INVOCATION_STATE_RUNNING, engine_pb2.INVOCATION_STATE_BACKING_OFF):
            stored_state = MessageState.PENDING
        room = limit - len(found)
        rows = await self._store.messages(namespace.name, agent, stored_state, after_seq or 0, room)
        for row in rows:
            live = namespace.durable.get(row.message_id)
            info = self.describe_invocation(live) if live is not None else describe_row(row)
            if not state or info.state == state:
                found.append(info)
        return found, rows[-1].seq if len(rows) >= room else None

    async def dead_letters(
        self, namespace: Namespace, agent: str, after_seq: int, limit: int
    ) -> tuple[list[engine_pb2.DeadLetter], int]:
        """Dead letters, oldest first, and the sequence number to go on after (0: the end)."""
        rows = await self._store.messages(namespace.name, agent, MessageState.DEAD, after_seq, limit)
        return [describe_dead_letter(row) for row in rows], rows[-1].seq if len(rows) >= limit else 0

    async def dead_rows(self, namespace: Namespace, message_ids: Sequence[str], agent: str) -> list[StoredMessage]:
        """The dead letters that a request names: by id, or all of an agent, or all."""
        if message_ids:
            rows = [await self._store.message(namespace.name, message_id) for message_id in message_ids]
            return [row for row in rows if row is not None and row.state == MessageState.DEAD]
        found: list[StoredMessage] = []
        after = 0
        while page := await self._store.messages(namespace.name, agent, MessageState.DEAD, after, MAX_PAGE):
            found.extend(page)
            after = page[-1].seq
        return found


def describe_row(row: StoredMessage) -> engine_pb2.InvocationInfo:
    """One stored message."""
    info = engine_pb2.InvocationInfo(
        message_id=row.message_id,
        handler=row.handler,
        state=_ENDED[MessageState(row.state)],
        attempts=row.attempts,
        durable=True,
        priority=row.priority,  # type: ignore[arg-type]
        accepted_at_ms=row.accepted_at_ms,
    )
    info.instance.agent = row.agent
    info.instance.key = row.key
    if row.body:
        info.sender = _message(row).sender
    if row.outcome:
        reply = link_pb2.Reply.FromString(row.outcome)
        if reply.HasField("failure"):
            info.failure.CopyFrom(reply.failure)
        else:
            info.result.CopyFrom(reply.result)
    return info


def describe_dead_letter(row: StoredMessage) -> engine_pb2.DeadLetter:
    """One dead letter."""
    letter = engine_pb2.DeadLetter(attempts=row.attempts, died_at_ms=row.ended_at_ms)
    letter.message.CopyFrom(_message(row))
    if row.outcome:
        letter.failure.CopyFrom(link_pb2.Reply.FromString(row.outcome).failure)
    return letter


def _message(row: StoredMessage) -> message_pb2.Message:
    try:
        return message_pb2.Message.FromString(row.body)
    except DecodeError:
        return message_pb2.Message(message_id=row.message_id, agent=row.agent, key=row.key, handler=row.handler)
