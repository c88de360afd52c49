"""What a supervisor decides when one of its children ends: which to restart and when, or to give up.

Decisions only; nothing is stopped or started here. The rules are those of Erlang/OTP supervisors (strategies, maximum
restart intensity), with a backoff, which they lack. Times are monotonic seconds, passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

from amx.v1 import agent_pb2

ONE_FOR_ONE = agent_pb2.RESTART_STRATEGY_ONE_FOR_ONE
ONE_FOR_ALL = agent_pb2.RESTART_STRATEGY_ONE_FOR_ALL
REST_FOR_ONE = agent_pb2.RESTART_STRATEGY_REST_FOR_ONE
PERMANENT = agent_pb2.RESTART_TYPE_PERMANENT
TRANSIENT = agent_pb2.RESTART_TYPE_TRANSIENT
TEMPORARY = agent_pb2.RESTART_TYPE_TEMPORARY

EVERY = "*"  # key of a child that stands for every instance of its agent
MAX_RESTARTS = 3
WITHIN = 5.0
FIRST_BACKOFF = 0.1
MAX_BACKOFF = 30.0
_MOST_DOUBLINGS = 40  # beyond any bound in seconds, and no overflow


@dataclass(frozen=True, slots=True)
class Child:
    """One child as it is declared. key: `*`: every instance of the agent, each for itself."""

    agent: str
    key: str
    restart: agent_pb2.RestartType = PERMANENT
    on_restart: str = ""


@dataclass(frozen=True, slots=True)
class SupervisorSpec:
    """How an agent keeps others running. children: in order of start. within, max_backoff: seconds."""

    agent: str
    children: tuple[Child, ...]
    strategy: agent_pb2.RestartStrategy = ONE_FOR_ONE
    max_restarts: int = MAX_RESTARTS
    within: float = WITHIN
    max_backoff: float = MAX_BACKOFF

    @classmethod
    def compile(cls, agent: str, policy: agent_pb2.SupervisorPolicy) -> SupervisorSpec:
        """The policy of a definition that was found well-formed, with nothing left open."""
        return cls(
            agent,
            tuple(
                Child(child.agent, child.key or "default", child.restart or PERMANENT, child.on_restart)
                for child in policy.children
            ),
            policy.strategy or ONE_FOR_ONE,
            policy.max_restarts or MAX_RESTARTS,
            policy.within_ms / 1000 or WITHIN,
            policy.max_backoff_ms / 1000 or MAX_BACKOFF,
        )

    def affected(self, child: Child) -> tuple[Child, ...]:
        """Which children a restart of this one concerns, in order of start. One that stands for many concerns no
        other; temporary ones are left alone.
        """
        if self.strategy == ONE_FOR_ONE or child.key == EVERY:
            return (child,)
        first = 0 if self.strategy == ONE_FOR_ALL else self.children.index(child)
        return tuple(other for other in self.children[first:] if other.restart != TEMPORARY)


class Intensity:
    """Restarts of late, against the most that are borne, and the wait before the next one.

    The wait doubles from 0.1 s with each restart that did not last: that was followed by another less than `within`
    after its own wait. At most `max_restarts` are allowed in any `within` seconds.
    """

    __slots__ = ("_doublings", "_moments", "_started_at")

    def __init__(self) -> None:
        self._moments: tuple[float, ...] = ()
        self._started_at = 0.0  # when the last restart was to begin
        self._doublings = 0

    def restart(self, spec: SupervisorSpec, now: float) -> float | None:
        """Counts a restart and returns the seconds to wait before it; None: it is one too many, and is not counted."""
        moments = tuple(moment for moment in self._moments if moment > now - spec.within)
        if len(moments) >= spec.max_restarts:
            return None
        lasted = not self._moments or now - self._started_at >= spec.within
        self._doublings = 0 if lasted else min(self._doublings + 1, _MOST_DOUBLINGS)
        self._moments = (*moments, now)
        delay = min(spec.max_backoff, FIRST_BACKOFF * 2.0**self._doublings)
        self._started_at = now + delay
        return delay


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of `children`, in this order: restarted after `delay` seconds, or, if gave_up, kept from running."""

    children: tuple[Child, ...] = ()
    delay: float = 0.0
    gave_up: bool = False


NOTHING = Decision()


class Supervisor:
    """One supervisor: how often it has restarted its children of late. An instance of a child that stands for many has
    an intensity of its own, which the caller keeps; the other children share one.
    """

    __slots__ = ("_intensity", "gave_up", "spec")

    def __init__(self, spec: SupervisorSpec) -> None:
        self.spec = spec
        self.gave_up = False
        """On the children that share an intensity. It decides nothing about them before `forgive`."""
        self._intensity = Intensity()

    def ended(self, child: Child, now: float, *, killed: bool = False, own: Intensity | None = None) -> Decision:
        """What to do now that a child ended: it failed, or was killed on purpose. own: of an instance of a child that
        stands for many. The caller does not tell of ends that were decided here, nor of children that wait for their
        restart.
        """
        if child.restart == TEMPORARY or (killed and child.restart == TRANSIENT):
            return NOTHING
        alone = child.key == EVERY and own is not None
        if self.gave_up and not alone:
            return NOTHING
        intensity = own if own is not None and alone else self._intensity
        delay = intensity.restart(self.spec, now)
        if delay is not None:
            return Decision(self.spec.affected(child), delay)
        if alone:
            return Decision((child,), gave_up=True)
        self.gave_up = True
        return Decision(tuple(other for other in self.spec.children if other.restart != TEMPORARY), gave_up=True)

    def forgive(self) -> None:
        """Begins anew: somebody above has restarted it, or an operator resumed its children."""
        self.gave_up = False
        self._intensity = Intensity()
