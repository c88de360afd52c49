"""What the engine still takes in when it is busy. The rules are one function; refusals are named ENGINE_PRESSURE."""

from __future__ import annotations

from amx.v1 import common_pb2
from amx_server.core.errors import AmxError, exhausted
from amx_server.runtime.scheduling.pressure import Level

_RETRY_MS = {Level.HIGH: 1_000, Level.CRITICAL: 2_000}
_URGENT = common_pb2.PRIORITY_HIGH
_ORDINARY = common_pb2.PRIORITY_NORMAL


def admits(level: Level, priority: int, *, durable: bool = False, awake: bool = True, continues: bool = False) -> bool:
    """Whether a message is taken in at `level`.

    priority: 1 (critical) to 5 (background). awake: its instance is. continues: a running handler sends it: what is
    under way is better finished than refused halfway, so that it is judged one level lower.

    Up to ELEVATED everything is. At HIGH nothing wakes for low priorities, and they may only store what is to be done
    later. At CRITICAL only what is urgent is taken, however it is kept.
    """
    if continues:
        level = Level(max(Level.NORMAL, level - 1))
    if level <= Level.ELEVATED:
        return True
    if level == Level.HIGH:
        return priority <= _ORDINARY or (durable and awake)
    return priority <= _URGENT


class Admission:
    """The level in force, as those who take messages in ask for it. Written by the engine's tick."""

    __slots__ = ("because", "level", "refused")

    def __init__(self) -> None:
        self.level = Level.NORMAL
        self.because = ""
        self.refused = 0
        """Messages refused since the engine started."""

    @property
    def strict(self) -> bool:
        """Whether anything may be refused now: otherwise nobody need ask."""
        return self.level >= Level.HIGH

    def require(
        self, priority: int, *, durable: bool = False, awake: bool = True, continues: bool = False, target: str = ""
    ) -> None:
        """Raises AmxError ENGINE_PRESSURE if `admits` says no. target: whom the message is for, for people."""
        level = self.level
        if not admits(level, priority, durable=durable, awake=awake, continues=continues):
            self.refused += 1
            raise self._refusal(level, priority, target)

    def _refusal(self, level: Level, priority: int, target: str) -> AmxError:
        delay_ms = _RETRY_MS[level]
        name = common_pb2.Priority.Name(priority).removeprefix("PRIORITY_").lower()
        cure = "send it again then, or later" if level == Level.CRITICAL else "send it again then, or more urgently"
        return exhausted(
            "ENGINE_PRESSURE",
            f"the engine is under {level.name.lower()} pressure ({self.because}) and takes no {name} work"
            f"{f' for {target}' if target else ''} for {delay_ms} ms; {cure}",
            retry_delay_ms=delay_ms,
            level=level.name.lower(),
            priority=name,
        )
