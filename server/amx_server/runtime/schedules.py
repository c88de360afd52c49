"""Schedules and timers: kept in the store, run as durable messages, one commit per occurrence.

The message of an occurrence has an id made of the schedule and the planned moment, and is stored in the transaction
that moves the schedule on: no crash and no clock makes it run twice. When something is due is decided in `timing`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count

from amx.v1 import agent_pb2, common_pb2, engine_pb2, message_pb2
from amx_server.core.clock import Clock
from amx_server.core.errors import AmxError, invalid, not_found
from amx_server.runtime.acceptance import Acceptance
from amx_server.runtime.dispatch import DEFAULT_KEY
from amx_server.runtime.instances import Agent, Instance, Invocation
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.timing import ScheduleState
from amx_server.security.identity import Identity
from amx_server.storage.interface import Commit, Store, StoredSchedule
from amx_server.telemetry.logs import get_logger

log = get_logger(__name__)

MAX_PER_INSTANCE = 1000
_RETRY_SECONDS = 1.0


class Schedule:
    """One schedule of one instance."""

    __slots__ = ("agent", "alive", "from_definition", "key", "name", "paused", "state", "turn")

    def __init__(
        self, agent: Agent, key: str, name: str, state: ScheduleState, from_definition: bool, paused: bool = False
    ) -> None:
        self.agent = agent
        self.key = key
        self.name = name
        self.state = state
        self.from_definition = from_definition
        self.paused = paused
        self.alive = True
        self.turn = 0  # number of its valid place in the queue

    @property
    def id(self) -> str:
        """`agent/key/name`."""
        return f"{self.agent.name}/{self.key}/{self.name}"

    def row(self) -> StoredSchedule:
        """The schedule as it is stored."""
        state = self.state
        return StoredSchedule(
            self.agent.namespace.name,
            self.agent.name,
            self.key,
            self.name,
            state.definition.SerializeToString(deterministic=True),
            state.next_run_at_ms,
            state.last_run_at_ms,
            self.paused,
            self.from_definition,
        )


class Schedules:
    """Every schedule of one engine."""

    def __init__(self, clock: Clock, store: Store, acceptance: Acceptance) -> None:
        self._clock = clock
        self._store = store
        self._acceptance = acceptance
        self._identity = Identity("schedule", "", ("admin",), frozenset({"*"}))
        self._all: dict[tuple[str, str, str, str], Schedule] = {}  # (namespace, agent, key, name)
        self._per_instance: dict[tuple[str, str, str], int] = {}
        self._queue: list[tuple[float, int, Schedule]] = []  # by monotonic second
        self._turns = count(1)

    # --- definitions -------------------------------------------------------------------------------------------------

    def restore(self, namespace: Namespace, row: StoredSchedule) -> None:
        """Takes a stored schedule up again after a restart."""
        agent = namespace.agents.get(row.agent)
        if agent is None:
            return
        definition = agent_pb2.ScheduleDefinition.FromString(row.definition)
        now_ms, now = self._clock.now_ms(), self._clock.monotonic()
        try:
            state = ScheduleState(definition, row.next_run_at_ms, row.last_run_at_ms, now_ms, now)
        except AmxError as error:
            log.error("schedule_unusable", agent=row.agent, key=row.key, schedule=row.name, error=error.message)
            return
        self._put(Schedule(agent, row.key, row.name, state, row.from_definition, row.paused))

    def declare(self, agent: Agent) -> None:
        """Takes over the schedules that the active version of `agent` declares."""
        active = agent.active
        if active is None:
            return
        namespace = agent.namespace
        commit = Commit(done=_logged)
        declared = {
            (definition.key or DEFAULT_KEY, definition.name): definition
            for definition in active.spec.definition.schedules
            if self._acceptance.owns(namespace.name, agent.name, definition.key)
        }
        for (space, name, key, schedule_name), schedule in list(self._all.items()):
            ours = space == namespace.name and name == agent.name and schedule.from_definition
            if ours and (key, schedule_name) not in declared:
                self._remove(schedule, commit)
        for (key, name), definition in declared.items():
            known = self._all.get((namespace.name, agent.name, key, name))
            if known is not None and known.state.definition == definition:
                known.agent = agent
                continue
            self._set(agent, key, definition, commit, from_definition=True)
        if commit.schedule_put or commit.schedule_remove:
            self._store.submit(commit)

    def stage(
        self,
        instance: Instance,
        added: Iterable[agent_pb2.ScheduleDefinition],
        removed: Iterable[str],
        commit: Commit,
        after: list[Callable[[], None]],
    ) -> None:
        """Adds the schedules and timers that a handler set and removed to its commit."""
        agent, key = instance.agent, instance.key
        namespace = agent.namespace
        held = self._per_instance.get((namespace.name, agent.name, key), 0)
        for definition in added:
            if not definition.name:
                raise invalid("INVALID_SCHEDULE", f"{instance.address} sets a schedule without a name")
            if definition.handler not in agent.handlers:
                raise invalid(
                    "HANDLER_UNKNOWN",
                    f"{instance.address} sets the schedule '{definition.name}' for the handler"
                    f" '{definition.handler}', which it does not have",
                )
            held += 1
            if held > MAX_PER_INSTANCE:
                raise invalid(
                    "SCHEDULE_LIMIT",
                    f"{instance.address} has {MAX_PER_INSTANCE} schedules, no more are taken; remove some by name",
                )
            copy = agent_pb2.ScheduleDefinition()
            copy.CopyFrom(definition)
            schedule = self._make(agent, key, copy, from_definition=False)
            commit.schedule_put += (schedule.row(),)
            after.append(partial(self._put, schedule))
        for name in removed:
            known = self._all.get((namespace.name, agent.name, key, name))
            if known is not None:
                commit.schedule_remove += ((namespace.name, agent.name, key, name),)
                after.append(partial(self._forget, known))

    def _make(
        self, agent: Agent, key: str, definition: agent_pb2.ScheduleDefinition, from_definition: bool
    ) -> Schedule:
        known = self._all.get((agent.namespace.name, agent.name, key, definition.name))
        state = ScheduleState.new(
            definition,
            self._clock.now_ms(),
            self._clock.monotonic(),
            known.state.last_run_at_ms if known is not None else 0,
        )
        return Schedule(agent, key, definition.name, state, from_definition)

    def _set(
        self,
        agent: Agent,
        key: str,
        definition: agent_pb2.ScheduleDefinition,
        commit: Commit,
        from_definition: bool,
    ) -> None:
        schedule = self._make(agent, key, definition, from_definition)
        known = self._all.get((agent.namespace.name, agent.name, key, definition.name))
        if known is not None:
            schedule.paused = known.paused
        self._put(schedule)
        commit.schedule_put += (schedule.row(),)

    def _put(self, schedule: Schedule) -> None:
        name = (schedule.agent.namespace.name, schedule.agent.name, schedule.key, schedule.name)
        known = self._all.get(name)
        if known is not None:
            known.alive = False
        else:
            self._per_instance[name[:3]] = self._per_instance.get(name[:3], 0) + 1
        self._all[name] = schedule
        self._plan(schedule)

    def _forget(self, schedule: Schedule) -> None:
        name = (schedule.agent.namespace.name, schedule.agent.name, schedule.key, schedule.name)
        schedule.alive = False
        if self._all.get(name) is schedule:
            del self._all[name]
            left = self._per_instance.get(name[:3], 1) - 1
            if left:
                self._per_instance[name[:3]] = left
            else:
                self._per_instance.pop(name[:3], None)

    def _remove(self, schedule: Schedule, commit: Commit) -> None:
        self._forget(schedule)
        commit.schedule_remove += ((schedule.agent.namespace.name, schedule.agent.name, schedule.key, schedule.name),)

    # --- running -----------------------------------------------------------------------------------------------------

    def _plan(self, schedule: Schedule, at_least: float = 0.0) -> None:
        if schedule.paused or not schedule.alive:
            return
        now = self._clock.monotonic()
        wait = schedule.state.wait_seconds(self._clock.now_ms(), now)
        if wait is not None:
            schedule.turn = next(self._turns)
            heapq.heappush(self._queue, (now + max(wait, at_least), schedule.turn, schedule))

    def tick(self, now: float) -> None:
        """Runs what is due."""
        queue = self._queue
        while queue and queue[0][0] <= now:
            _, turn, schedule = heapq.heappop(queue)
            if schedule.alive and not schedule.paused and schedule.turn == turn:
                self._run_due(schedule, now)

    def _run_due(self, schedule: Schedule, now: float) -> None:
        state = schedule.state
        before = (state.next_run_at_ms, state.last_run_at_ms)
        occurrences = state.due(self._clock.now_ms(), now)
        if occurrences:
            try:
                self._fire(schedule, occurrences, before)
            except AmxError as error:
                # The mailbox is full or the agent has lost the handler: the occurrence waits.
                state.next_run_at_ms, state.last_run_at_ms = before
                log.warning("schedule_not_run", schedule=schedule.id, reason=error.reason, error=error.message)
                self._plan(schedule, _RETRY_SECONDS)
                return
        elif (state.next_run_at_ms, state.last_run_at_ms) != before:
            self._store.submit(Commit(done=_logged, schedule_put=(schedule.row(),)))
        self._plan(schedule)

    def _fire(self, schedule: Schedule, occurrences: list[int], before: tuple[int, int]) -> None:
        namespace = schedule.agent.namespace
        commit = Commit(done=_logged)
        invocations: list[Invocation] = []
        for occurrence in occurrences:
            inv = self._prepare(schedule, f"schedule:{schedule.id}:{occurrence}")
            commit.insert += (self._acceptance.stored_message(namespace, inv),)
            invocations.append(inv)
        if schedule.state.definition.WhichOneof("timing") == "fixed_delay_ms":
            invocations[-1].on_end = partial(self._run_ended, schedule)
        if schedule.state.finished and not schedule.from_definition:
            self._remove(schedule, commit)  # a declared one stays, so that it is not declared anew after a restart
        else:
            commit.schedule_put += (schedule.row(),)
        commit.done = partial(self._fired, schedule, invocations, commit, before)
        self._store.submit(commit)

    def _prepare(self, schedule: Schedule, message_id: str) -> Invocation:
        definition = schedule.state.definition
        message = message_pb2.Message(
            agent=schedule.agent.name,
            key=schedule.key,
            handler=definition.handler,
            message_id=message_id,
            sender=f"schedule:{schedule.id}",
            sent_at_ms=self._clock.now_ms(),
        )
        message.payload.CopyFrom(definition.payload)
        return self._acceptance.prepare_stored(schedule.agent.namespace, self._identity, message)

    def _fired(
        self,
        schedule: Schedule,
        invocations: list[Invocation],
        commit: Commit,
        before: tuple[int, int],
        error: BaseException | None,
    ) -> None:
        if error is not None:
            # Nothing was stored: the occurrences are still to come.
            log.error("schedule_not_stored", schedule=schedule.id, error=str(error))
            schedule.state.next_run_at_ms, schedule.state.last_run_at_ms = before
            if not schedule.alive and commit.schedule_remove:
                schedule.alive = True
                self._put(schedule)
            self._plan(schedule, _RETRY_SECONDS)
            return
        self._acceptance.counters.schedule_runs += len(invocations)
        for inv in invocations:
            self._acceptance.stored_with_commit(schedule.agent.namespace, inv, commit)

    def _run_ended(self, schedule: Schedule, inv: Invocation) -> None:
        if schedule.alive and schedule.state.completed(self._clock.now_ms(), self._clock.monotonic()):
            self._store.submit(Commit(done=_logged, schedule_put=(schedule.row(),)))
            self._plan(schedule)

    # --- what people ask for -----------------------------------------------------------------------------------------

    def listing(self, namespace: str, agent: str, after: str, limit: int) -> list[engine_pb2.ScheduleInfo]:
        """Schedules in order of id, after `after`."""
        found = [
            schedule
            for (space, name, _, _), schedule in self._all.items()
            if space == namespace and (not agent or name == agent) and schedule.id > after
        ]
        found.sort(key=lambda schedule: schedule.id)
        return [describe(schedule) for schedule in found[:limit]]

    def _find(self, namespace: str, schedule_id: str) -> Schedule:
        for (space, _, _, _), schedule in self._all.items():
            if space == namespace and schedule.id == schedule_id:
                return schedule
        raise not_found("SCHEDULE_UNKNOWN", f"no schedule '{schedule_id}'; `amx schedules list` shows those there are")

    async def pause(self, namespace: str, schedule_id: str, paused: bool) -> engine_pb2.ScheduleInfo:
        """Stops a schedule from running, or lets it run again; what fell due meanwhile is forgotten.

        Raises AmxError SCHEDULE_UNKNOWN, or why it could not be stored.
        """
        schedule = self._find(namespace, schedule_id)
        if schedule.paused and not paused:
            schedule.state.skip(self._clock.now_ms(), self._clock.monotonic())
        schedule.paused = paused
        schedule.turn = next(self._turns)
        self._plan(schedule)
        await self._stored(Commit(done=_logged, schedule_put=(schedule.row(),)))
        return describe(schedule)

    async def trigger(self, namespace: str, schedule_id: str) -> str:
        """Runs a schedule once, now, beside its plan. Returns the message's id once it is stored."""
        schedule = self._find(namespace, schedule_id)
        inv = self._prepare(schedule, "")
        commit = Commit(done=_logged)
        commit.insert += (self._acceptance.stored_message(schedule.agent.namespace, inv),)
        await self._stored(commit)
        self._acceptance.stored_with_commit(schedule.agent.namespace, inv, commit)
        return inv.message.message_id

    async def _stored(self, commit: Commit) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(None)

        commit.done = done
        self._store.submit(commit)
        await future


def describe(schedule: Schedule) -> engine_pb2.ScheduleInfo:
    """One schedule, for listings."""
    state = schedule.state
    info = engine_pb2.ScheduleInfo(
        schedule_id=schedule.id,
        instance=common_pb2.InstanceRef(agent=schedule.agent.name, key=schedule.key),
        next_run_at_ms=0 if schedule.paused else state.next_run_at_ms,
        last_run_at_ms=state.last_run_at_ms,
        paused=schedule.paused,
    )
    info.definition.CopyFrom(state.definition)
    return info


def _logged(error: BaseException | None) -> None:
    if error is not None:
        log.error("schedule_not_stored", error=str(error))
