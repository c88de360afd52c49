"""What can be done with one instance from outside: spawn, suspend, resume, migrate, kill. Commits are never raced:
what a handler did and is being stored has happened, and everything here waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from amx_server.core import errors
from amx_server.core.clock import Clock
from amx_server.core.errors import AmxError, exhausted, invalid
from amx_server.runtime.dispatch import Dispatcher
from amx_server.runtime.instances import Agent, AgentVersion, Instance, Invocation, Suspension
from amx_server.runtime.interruptions import Interruptions
from amx_server.runtime.placement import Placement
from amx_server.storage.interface import Commit, Store, StoredSuspension
from amx_server.telemetry.logs import get_logger

if TYPE_CHECKING:
    from amx_server.runtime.links import LinkSession
    from amx_server.runtime.namespaces import Namespace
    from amx_server.runtime.scheduling.supervision import Supervision

log = get_logger(__name__)

MAX_SUSPENDED = 100_000  # instances of one agent
MAX_REASON = 1_000  # characters

T = TypeVar("T")


class _Turn:
    """Makes those that suspend and resume one instance take turns. users: who has it or waits for it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Lifecycle:
    """Operations on instances. An async context manager: leaving it gives up what is under way.

    A coroutine here goes on to its end although its caller has left, except where it says that it waits.
    """

    supervision: Supervision

    def __init__(
        self, clock: Clock, store: Store, placement: Placement, dispatcher: Dispatcher, interruptions: Interruptions
    ) -> None:
        self._clock = clock
        self._now = clock.monotonic
        self._store = store
        self._placement = placement
        self._dispatcher = dispatcher
        self._interruptions = interruptions
        self._turns: dict[tuple[str, str, str], _Turn] = {}  # of instances that are suspended or resumed just now
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Lifecycle:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- spawn -------------------------------------------------------------------------------------------------------

    async def spawn(self, agent: Agent, key: str) -> bool:
        """Makes an instance awake: its memory is read, and its link has it, if a process hosts the agent and has
        room. Returns whether it was not awake before; doing it twice is no error.

        Raises AmxError INSTANCE_LIMIT. Waits for the memory; a caller that leaves takes nothing back.
        """
        if key in agent.instances:
            return False
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._dispatcher.operate(agent, key, partial(self._place, awake))
        await awake
        return True

    def _place(self, awake: asyncio.Future[None], instance: Instance) -> None:
        if instance.link is None:
            link = self._placement.slot(instance)
            if link is not None:
                self._placement.activate(instance, link)
        if not awake.done():
            awake.set_result(None)

    # --- suspend and resume ------------------------------------------------------------------------------------------

    async def suspend(self, agent: Agent, key: str, reason: str, *, cancel_running: bool = False) -> None:
        """Keeps an instance from starting anything, over restarts of the engine too, until `resume`. It may still be
        read, written, moved and killed; its messages wait, as many as its mailbox takes, each until its own deadline.

        What runs may end. cancel_running: it is stopped, what it did is void, and it runs again after `resume`,
        before what waits; only a reply whose reader has had chunks fails, with INSTANCE_STOPPED.
        Suspending twice replaces the reason. Raises AmxError if the store refuses; nothing is suspended then.
        """
        if len(reason) > MAX_REASON:
            raise invalid("INVALID_INPUT", f"the reason has {len(reason)} characters, {MAX_REASON} are allowed")
        await self._to_the_end(self._suspend(agent, key, reason, cancel_running))

    async def _suspend(self, agent: Agent, key: str, reason: str, cancel_running: bool) -> None:
        async with self._turn(agent, key):
            earlier = agent.suspended.get(key)
            if earlier is None and len(agent.suspended) >= MAX_SUSPENDED:
                raise exhausted(
                    "SUSPENSION_LIMIT",
                    f"{MAX_SUSPENDED} instances of '{agent.name}' are suspended, no more can be; resume some",
                    retry_delay_ms=0,
                    agent=agent.name,
                )
            suspension = agent.suspended[key] = Suspension(reason, self._clock.now_ms())
            instance = agent.instances.get(key)
            if earlier is None and instance is not None:
                self._placement.bar(instance)  # before it is stored: nothing may start between the two
            row = StoredSuspension(agent.namespace.name, agent.name, key, reason, suspension.at_ms)
            try:
                await self._stored(Commit(done=_nothing, suspension_put=(row,)))
            except BaseException:
                if earlier is None:
                    self._lift(agent, key)
                else:
                    agent.suspended[key] = earlier
                raise
            log.info("instance_suspended", agent=agent.name, key=key, reason=reason)
            instance = agent.instances.get(key)
            if cancel_running and instance is not None:
                self._interrupt(instance, reason or "it was suspended")

    async def resume(self, agent: Agent, key: str) -> bool:
        """Lets a suspended instance run again. Returns whether it was suspended. Raises AmxError if the store
        refuses; it stays suspended then.
        """
        return await self._to_the_end(self._resume(agent, key))

    async def _resume(self, agent: Agent, key: str) -> bool:
        async with self._turn(agent, key):
            if key not in agent.suspended:
                return False
            await self._stored(Commit(done=_nothing, suspension_remove=((agent.namespace.name, agent.name, key),)))
            self.supervision.resumed(agent, key)
            self._lift(agent, key)
            log.info("instance_resumed", agent=agent.name, key=key)
            return True

    def _lift(self, agent: Agent, key: str) -> None:
        del agent.suspended[key]
        instance = agent.instances.get(key)
        if instance is not None:
            self._unbar(instance)

    def restore(self, namespace: Namespace, row: StoredSuspension) -> None:
        """Takes a stored suspension up again after a restart, before messages are."""
        agent = namespace.agents.get(row.agent)
        if agent is None:
            log.warning("suspended_agent_unknown", agent=row.agent, key=row.key)
        else:
            agent.suspended[row.key] = Suspension(row.reason, row.at_ms)

    # --- migrate -----------------------------------------------------------------------------------------------------

    async def migrate(self, agent: Agent, key: str, link_id: str = "") -> None:
        """Moves an instance to another link when what it runs has ended, before its next message. Nothing is lost,
        repeated or reordered; its memory goes with it. It stays there as long as that link has room for it.

        link_id: one that hosts the active version; empty: the one with most room that it is not on now.
        Waits for what runs; a caller that leaves before calls the move off. Raises AmxError LINK_UNSUITABLE.
        """
        self._target(agent, agent.instances.get(key), link_id)  # refused at once, not only when its turn comes
        instance = self._placement.wake(agent, key, self._now())
        self._placement.bar(instance)
        try:
            async with self._alone(agent, key):
                target = self._target(agent, instance, link_id)
                if target is not instance.link:
                    before = instance.link.link_id if instance.link is not None else ""
                    self._placement.move(instance, target)
                    self._placement.activate(instance, target)
                    log.info("instance_migrated", agent=agent.name, key=key, link_id=target.link_id, before=before)
        finally:
            self._unbar(instance)

    @staticmethod
    def _target(agent: Agent, instance: Instance | None, link_id: str) -> LinkSession:
        active: AgentVersion | None = agent.active
        hosts = [host for host in active.hosts if host.accepting] if active is not None else []
        here = instance.link if instance is not None else None
        if link_id:
            chosen = [host for host in hosts if host.link_id == link_id]
        else:
            chosen = sorted((host for host in hosts if host is not here), key=lambda host: host.in_flight - host.credit)
        if chosen:
            return chosen[0]
        version = active.spec.version if active is not None else ""
        known = ", ".join(sorted(host.link_id for host in hosts)) or "none"
        what = f"link '{link_id}' does not take" if link_id else "no other link takes"
        raise AmxError(
            errors.FAILED_PRECONDITION,
            "LINK_UNSUITABLE",
            f"{what} messages for '{agent.name}' {version}; these links do: {known}",
            metadata={"agent": agent.name, "link": link_id},
        )

    # --- kill --------------------------------------------------------------------------------------------------------

    async def kill(self, agent: Agent, key: str, reason: str = "", *, purge: bool = False) -> tuple[int, int]:
        """Stops what an instance runs, at once, and lets it begin anew with its persistent memory. Returns how many
        handlers were cancelled, and how many waiting messages were dropped.

        What the handlers did is void: requests fail with INSTANCE_KILLED, stored messages have another attempt, if
        they have one left. Volatile messages that wait are refused likewise; stored ones stay and run. purge: stored
        ones become dead letters instead, running or waiting. Its supervisor is told. A suspended instance stays so.
        An instance that is not awake runs nothing: nothing happens.
        """
        if len(reason) > MAX_REASON:
            raise invalid("INVALID_INPUT", f"the reason has {len(reason)} characters, {MAX_REASON} are allowed")
        instance = agent.instances.get(key)
        if instance is None:
            return 0, 0
        error = AmxError(
            errors.CANCELLED,
            "INSTANCE_KILLED",
            f"{instance.address} was killed{': ' if reason else ''}{reason}; the same call may succeed later",
            retryable=True,
        )
        self._placement.bar(instance)
        try:
            running = self._interruptions.running(instance)
            for inv in running:
                self._interruptions.kill(inv, error, last=purge or not inv.seq)
            dropped = [inv for inv in _waiting(instance, purge) if not inv.done]
            for inv in dropped:
                self._interruptions.stop(inv, error.to_failure())
        finally:
            await self._to_the_end(self._forget(instance))
        log.warning("instance_killed", agent=agent.name, key=key, reason=reason, cancelled=len(running))
        return len(running), len(dropped)

    async def _forget(self, instance: Instance) -> None:
        """The end of a kill: what it remembers is read anew, when nothing of it is being stored any more."""
        try:
            if instance.busy or instance.loading:
                async with self._alone(instance.agent, instance.key):
                    self._placement.void_memory(instance)
                    self._placement.leave(instance)
            else:
                self._placement.void_memory(instance)
            self.supervision.killed(instance)
        finally:
            self._unbar(instance)

    # --- for the supervision -----------------------------------------------------------------------------------------

    def stop(self, instance: Instance, reason: str) -> None:
        """Stops what the instance runs, to run again after `begin_anew`, which must follow. It starts nothing
        before.
        """
        self._placement.bar(instance)
        self._interrupt(instance, reason)

    def begin_anew(self, instance: Instance) -> None:
        """Reads the memory of a stopped instance anew, once nothing of it is being stored, and lets it run."""
        self._dispatcher.operate(instance.agent, instance.key, self._begin)

    def _begin(self, instance: Instance) -> None:
        self._placement.void_memory(instance)
        self._placement.unbar(instance)  # the dispatcher, which called this, goes on with its messages

    def suspend_later(self, agent: Agent, key: str, reason: str, done: Callable[[BaseException | None], None]) -> None:
        """`suspend`, for those who cannot wait: nothing starts from now on, and what runs is stopped, as by `stop`.
        `done` gets None, or why it could not be; what was stopped runs again then.
        """
        instance = agent.instances.get(key)
        if instance is not None:
            self.stop(instance, reason)

        def ended(task: asyncio.Task[None]) -> None:
            if instance is not None:
                self._unbar(instance)
            done(None if task.cancelled() else task.exception())

        self._task(self._suspend(agent, key, reason[:MAX_REASON], False)).add_done_callback(ended)

    def resume_later(self, agent: Agent, key: str) -> None:
        """`resume`, for those who cannot wait. If the store refuses, the instance stays suspended; that is logged."""
        self._task(self._resume(agent, key)).add_done_callback(partial(_log_failure, agent.name, key))

    # --- what these share --------------------------------------------------------------------------------------------

    def _interrupt(self, instance: Instance, reason: str) -> None:
        for inv in self._interruptions.running(instance):
            self._interruptions.interrupt(inv, reason)

    def _unbar(self, instance: Instance) -> None:
        self._placement.unbar(instance)
        self._dispatcher.advance(instance)

    @asynccontextmanager
    async def _alone(self, agent: Agent, key: str) -> AsyncIterator[Instance]:
        """Inside, the instance is awake, its memory is loaded, and nothing of it runs or is stored (of concurrent
        handlers: if it is barred).
        """
        taken: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()

        def take(instance: Instance) -> None:
            if not taken.done():
                self._dispatcher.hold(instance)
                taken.set_result(instance)

        self._dispatcher.operate(agent, key, take)
        try:
            instance = await taken
        except asyncio.CancelledError:
            if not taken.cancelled():
                self._dispatcher.release(taken.result())  # it was given at the same moment
            raise
        try:
            yield instance
        finally:
            self._dispatcher.release(instance)

    @asynccontextmanager
    async def _turn(self, agent: Agent, key: str) -> AsyncIterator[None]:
        """One after another for each instance, so that what the store holds is what is known here."""
        name = (agent.namespace.name, agent.name, key)
        turn = self._turns.setdefault(name, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[name]

    async def _stored(self, commit: Commit) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: BaseException | None) -> None:
            if not future.done():
                future.set_exception(error) if error is not None else future.set_result(None)

        commit.done = done
        self._store.submit(commit)
        await future

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.shield(self._task(work))

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _waiting(instance: Instance, stored_too: bool) -> list[Invocation]:
    """Messages that wait at the instance; stored_too: those that are stored as well, also between two attempts."""
    found = list(instance.mailbox or ())
    if instance.running is not None and instance.running.link is None:
        found.append(instance.running)
    if not stored_too:
        return [inv for inv in found if not inv.seq]
    known = set(found)
    stored = instance.agent.namespace.durable.values()
    return found + [inv for inv in stored if inv.instance is instance and inv.link is None and inv not in known]


def _log_failure(agent: str, key: str, task: asyncio.Task[bool]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("instance_not_resumed", agent=agent, key=key, error=str(error))


def _nothing(error: BaseException | None) -> None:
    """Replaced before the commit is submitted."""
