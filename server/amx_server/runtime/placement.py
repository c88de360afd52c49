"""Where instances live: awake or asleep, on which link, with which memory. Messages are not here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError, exhausted
from amx_server.memory.instance_memory import InstanceMemory
from amx_server.runtime.instances import Agent, Bar, Instance
from amx_server.runtime.scheduling.waits import WaitReason, Waits
from amx_server.runtime.timers import Timers
from amx_server.storage.interface import Store
from amx_server.telemetry.logs import get_logger
from amx_server.telemetry.metrics import EngineCounters

if TYPE_CHECKING:
    from amx_server.runtime.links import LinkSession

log = get_logger(__name__)


class Placement:
    """Wakes instances, gives them a link and their memory, and puts them to sleep."""

    advance: Callable[[Instance], None]  # called when the memory of an instance has been read

    def __init__(
        self,
        config: EngineConfig,
        clock: Clock,
        store: Store,
        timers: Timers,
        counters: EngineCounters,
        waits: Waits,
    ) -> None:
        self._config = config
        self._clock = clock
        self._now = clock.monotonic
        self._store = store
        self._timers = timers
        self._counters = counters
        self._waits = waits
        # An epoch never repeats, not even over restarts: what an older engine placed is fenced by the generation.
        self._epochs = count((store.generation << 40) + 1)
        self.loads: set[asyncio.Task[None]] = set()
        """Memories that are being read."""
        self.instances = 0
        """Instances awake."""

    def wake(self, agent: Agent, key: str, now: float) -> Instance:
        """The instance `key` of `agent`, created if it is not awake. Raises AmxError at the limit of instances."""
        instance = agent.instances.get(key)
        if instance is None:
            if self.instances >= self._config.limits.max_instances:
                raise exhausted(
                    "INSTANCE_LIMIT",
                    f"{self.instances} instances are awake, limits.max_instances allows no more;"
                    " wait for idle ones to hibernate, or raise the limit",
                    retry_delay_ms=1000,
                )
            instance = agent.instances[key] = Instance(agent, key)
            instance.last_active = now
            if agent.suspended and key in agent.suspended:
                instance.barred = Bar(None)
            if agent.hibernated.pop(key, None) is not None:
                self._counters.wakes += 1
            self.instances += 1
        return instance

    def hibernate(self, instance: Instance) -> bool:
        """Puts an idle instance to sleep: its place and its memory in RAM are given up. False if it is not idle."""
        if instance.busy or instance.storing or instance.loading or instance.mailbox or instance.operations:
            return False
        agent = instance.agent
        if instance.barred is not None and instance.barred.count > (instance.key in agent.suspended):
            return False  # somebody is at work on it
        del agent.instances[instance.key]
        self.instances -= 1
        kept = self._config.instances.hibernated_kept
        if kept and len(agent.hibernated) >= kept:
            del agent.hibernated[next(iter(agent.hibernated))]
        if kept:
            agent.hibernated[instance.key] = instance.last_active
        self.leave(instance)
        return True

    def leave(self, instance: Instance) -> None:
        """Takes the instance off its link."""
        link = instance.link
        if link is not None and instance.epoch and link.open:
            item = link.outbox.add(16)
            item.deactivate.epochs.append(instance.epoch)
        instance.link = None
        instance.epoch = 0
        instance.link_version = -1

    def bar(self, instance: Instance) -> None:
        """Keeps the instance from starting anything until as many `unbar` as `bar` have come. What runs goes on."""
        if instance.barred is None:
            instance.barred = Bar(instance.version)
            instance.version = None  # which closes the short ways to its link, here and in `events`
        else:
            instance.barred.count += 1

    def unbar(self, instance: Instance) -> None:
        """Takes one `bar` back. Follow with `Dispatcher.advance`."""
        bar = instance.barred
        assert bar is not None
        bar.count -= 1
        if not bar.count:
            instance.version = bar.version
            instance.barred = None

    def move(self, instance: Instance, link: LinkSession) -> None:
        """Places a barred instance that runs nothing on `link`, which hosts the active version of its agent."""
        assert instance.barred is not None
        self.leave(instance)
        instance.link = link
        instance.barred.version = instance.agent.active
        instance.epoch = next(self._epochs)

    def activate(self, instance: Instance, link: LinkSession) -> None:
        """Tells `link`, where the instance is placed, of it, and brings its memory there."""
        item = link.outbox.add(64)
        activate = item.activate
        activate.instance.agent = instance.agent.name
        activate.instance.key = instance.key
        activate.epoch = instance.epoch
        memory = instance.memory
        if memory is not None:
            activate.memory_version = memory.version
            activate.memory.SetInParent()  # present even if there is nothing in it
            memory.image(instance.agent.memories, self._clock.now_ms(), activate.memory)
            instance.link_version = memory.version

    def slot(self, instance: Instance) -> LinkSession | None:
        """The link that may run a message of this instance now, placing the instance if need be; None if there is
        none with credit: the instance waits in its agent's lane then.
        """
        active = instance.agent.active
        link = instance.link
        if active is None:
            return None
        if (
            link is not None
            and instance.version is active
            and link.accepting
            and link.in_flight < link.credit
            and (not link.in_flight or not active.spec.computes or _in_use(instance))
        ):
            return link
        if instance.barred is not None:
            return None
        hosts = active.hosts
        size = len(hosts)
        first = active.turn
        if active.spec.computes:
            # What computes for long goes where the least runs, and moves for that; its own link comes first of equals.
            hosts = sorted(hosts[first:] + hosts[:first], key=lambda host: (host.in_flight, host is not link))
            first = 0
        for offset in range(size):
            candidate = hosts[(first + offset) % size]
            if candidate.accepting and candidate.in_flight < candidate.credit:
                active.turn = (active.turn + offset + 1) % size
                if candidate is not link or instance.version is not active:
                    if _in_use(instance):
                        return None  # it must not run in two places; it moves when the last one has ended
                    self.leave(instance)
                    instance.link = candidate
                    instance.version = active
                    instance.epoch = next(self._epochs)
                return candidate
        return None

    def needs_memory(self, instance: Instance) -> bool:
        """Whether the instance must first read its memory from the store; starts that if so."""
        if instance.memory is not None:
            return False
        active = instance.agent.active
        if active is None or not active.spec.memories:
            return False
        if not active.spec.persistent:
            instance.memory = InstanceMemory()
            return False
        if not instance.loading:
            instance.loading = True
            task = asyncio.get_running_loop().create_task(self._load_memory(instance))
            self.loads.add(task)
            task.add_done_callback(self.loads.discard)
        return True

    async def _load_memory(self, instance: Instance) -> None:
        agent = instance.agent
        wait = self._waits.began(instance, WaitReason.MEMORY, "", self._now())
        try:
            rows = await self._store.memory(agent.namespace.name, agent.name, instance.key)
        except AmxError as error:
            log.error("memory_unreadable", instance=instance.address, reason=error.reason, error=error.message)
            self._timers.at(self._now() + 1.0, partial(self._retry_load, instance))
            return
        finally:
            self._waits.ended(wait, self._now())
        memory = InstanceMemory()
        memory.load(rows)
        instance.memory = memory
        instance.link_version = -1
        instance.loading = False
        self.advance(instance)

    def _retry_load(self, instance: Instance) -> None:
        instance.loading = False
        self.advance(instance)

    def void_memory(self, instance: Instance) -> None:
        """Drops what the engine and the link hold of the instance's memory; it is read again when next needed."""
        instance.memory = None
        instance.link_version = -1
        if not instance.delivering and not instance.concurrent:
            self.leave(instance)


def _in_use(instance: Instance) -> bool:
    """Whether a handler of the instance is at work on its link."""
    running = instance.running
    return bool(instance.delivering or instance.concurrent or (running is not None and running.link is not None))
