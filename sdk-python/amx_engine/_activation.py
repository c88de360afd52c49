"""An instance placed in this process: its object, its memory, and whose turn it is. Running handlers is `_runner`'s."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from amx.v1 import memory_pb2
from amx_engine._errors import FAILED_PRECONDITION, AmxError
from amx_engine._memory import InstanceMemory

if TYPE_CHECKING:
    from amx_engine._definition import HostedAgent

_NOTHING = memory_pb2.InstanceMemory()


class Activation:
    """One instance under one epoch. Its object is made at the first message. clock: what its memory expires by.

    current: object and memory are there. busy: a handler that may change them is suspended; whatever came meanwhile is
    in `waiting`, in order.
    """

    __slots__ = (
        "_clock",
        "_image",
        "_image_version",
        "agent",
        "busy",
        "current",
        "epoch",
        "instance",
        "key",
        "memory",
        "waiting",
    )

    def __init__(self, agent: HostedAgent, key: str, epoch: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.agent = agent
        self.key = key
        self.epoch = epoch
        self.instance: Any = None
        self.memory: InstanceMemory | None = None
        self.current = False
        self.busy = False
        self.waiting: deque[Any] | None = None
        self._image: memory_pb2.InstanceMemory | None = None
        self._image_version = 0

    def hold(self, image: memory_pb2.InstanceMemory, version: int) -> None:
        """Takes a memory image in; it is loaded when it is next needed."""
        self._image = image
        self._image_version = version
        self.current = False

    def drop(self) -> None:
        """The memory here is not what the engine has: the next invocation must bring it."""
        self._image = None
        self.current = False

    def abandon(self) -> None:
        """Something that cannot be stopped still uses the object: the next invocation gets a new one."""
        self.drop()
        self.instance = None
        self.memory = None

    def prepare(self, version: int | None) -> None:
        """Makes the activation current.

        version: what the engine says the memory is at; None: whatever is here. Raises AmxError MEMORY_NOT_HELD if that
        is not here, and whatever the agent's constructor raises.
        """
        if self.instance is None:
            instance = self.agent.new_instance(self.key)
            if self.agent.memories:
                self.memory = InstanceMemory(self.agent, self._clock)
                self.memory.attach(instance)
            self.instance = instance
        memory = self.memory
        if memory is None:
            self.current = True
            return
        if self._image is not None:
            memory.load(self._image, self._image_version)
            self._image = None
            self.current = True
        elif not self.current and version == 0:  # nothing was ever remembered, so there is nothing to bring
            memory.load(_NOTHING, 0)
            self.current = True
        if not self.current or (version is not None and memory.version != version):
            self.drop()
            raise AmxError(
                FAILED_PRECONDITION,
                "MEMORY_NOT_HELD",
                f"this process does not hold version {version} of the memory of {self.agent.name}/{self.key};"
                " send it again",
                retryable=True,
            )
