"""What an agent class says of the agents it keeps running: `@Agent(supervisor=Supervisor(Child("Cart"), …))`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

from amx.v1 import agent_pb2
from amx_engine._errors import DefinitionError
from amx_engine._message import milliseconds

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
RestartType = Literal["permanent", "transient", "temporary"]

_STRATEGIES = {
    "one_for_one": agent_pb2.RESTART_STRATEGY_ONE_FOR_ONE,
    "one_for_all": agent_pb2.RESTART_STRATEGY_ONE_FOR_ALL,
    "rest_for_one": agent_pb2.RESTART_STRATEGY_REST_FOR_ONE,
}
_RESTART_TYPES = {
    "permanent": agent_pb2.RESTART_TYPE_PERMANENT,
    "transient": agent_pb2.RESTART_TYPE_TRANSIENT,
    "temporary": agent_pb2.RESTART_TYPE_TEMPORARY,
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Child:
    """One child of a supervisor.

    agent: its name. key: of the instance; `*`: every instance, each for itself, with a count of restarts of its own.
    restart: `permanent`: whenever it ended; `transient`: when it failed, not when it was killed on purpose;
    `temporary`: never. on_restart: handler that is sent a message without content after a restart.
    """

    agent: str
    key: str = "default"
    restart: RestartType = "permanent"
    on_restart: str = ""

    def to_proto(self) -> agent_pb2.SupervisedChild:
        """The child as it travels. Raises DefinitionError for values that make no sense."""
        if not isinstance(self.agent, str) or not self.agent:
            raise DefinitionError(f'Child({self.agent!r}): name the agent, e.g. Child("Cart")')
        return agent_pb2.SupervisedChild(
            agent=self.agent,
            key=self.key,
            restart=_known(_RESTART_TYPES, self.restart, f"Child({self.agent!r}, restart=...)"),
            on_restart=self.on_restart,
        )


class Supervisor:
    """How an agent keeps others running, by the rules of Erlang/OTP supervisors. The engine follows it; see
    docs/instances.md.

    children: in order of start. strategy: who is restarted when one fails: `one_for_one`: it alone; `one_for_all`: all;
    `rest_for_one`: it and those after it. max_restarts within `within` are borne, one more, and the supervisor gives
    up. max_backoff: longest wait before a restart; it doubles from 100 ms. None: the engine's default (3, 5 s, 30 s).
    """

    def __init__(
        self,
        *children: Child,
        strategy: Strategy = "one_for_one",
        max_restarts: int | None = None,
        within: timedelta | str | None = None,
        max_backoff: timedelta | str | None = None,
    ) -> None:
        self.children = children
        self.strategy = strategy
        self.max_restarts = max_restarts
        self.within = within
        self.max_backoff = max_backoff

    def to_proto(self) -> agent_pb2.SupervisorPolicy:
        """The policy as it travels. Raises DefinitionError for values that make no sense."""
        if not self.children or not all(isinstance(child, Child) for child in self.children):
            raise DefinitionError('Supervisor(...) needs children: Supervisor(Child("Cart"), Child("Stock"))')
        if self.max_restarts is not None and self.max_restarts < 1:
            raise DefinitionError(
                f'Supervisor(max_restarts={self.max_restarts}): use 1 or more; Child(restart="temporary") for none'
            )
        return agent_pb2.SupervisorPolicy(
            strategy=_known(_STRATEGIES, self.strategy, "Supervisor(strategy=...)"),
            children=[child.to_proto() for child in self.children],
            max_restarts=self.max_restarts or 0,
            within_ms=milliseconds(self.within, "Supervisor.within") or 0,
            max_backoff_ms=milliseconds(self.max_backoff, "Supervisor.max_backoff") or 0,
        )


def _known(names: Mapping[str, T], name: str, where: str) -> T:
    if name not in names:
        raise DefinitionError(f"{where}: {name!r} is not known; use one of: {', '.join(names)}")
    return names[name]
