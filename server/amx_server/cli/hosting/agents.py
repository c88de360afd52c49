"""Agents of modules, hosted by the engine process that loaded them: in its loop, or, if they compute, in helpers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amx_server.cli.hosting.helper import HelperTask
from amx_server.cli.hosting.loading import computes
from amx_server.cli.hosting.processes import Helpers, default_count
from amx_server.security.identity import Identity

if TYPE_CHECKING:
    from amx_engine._definition import HostedAgent
    from amx_engine._link import Link
    from amx_server.cli.modules import AgentModules
    from amx_server.runtime.engine import Engine


class AgentHost:
    """Hosts agents at an engine in this process. An async context manager; left, it hosts none."""

    def __init__(
        self, engine: Engine, modules: AgentModules, identity: Identity, patience: float, *, alone: bool = True
    ) -> None:
        """modules: what the agents come from; helper processes load them, too. identity: whom the agents act as.
        patience: seconds that running handlers have to finish when they are replaced or stopped. alone: nobody else in
        this process hosts the same agents, so that their capabilities are closed with them.
        """
        self._alone = alone
        self._engine = engine
        self._modules = modules
        self._identity = identity
        self._patience = patience
        wanted = engine.config.scheduler.processes
        self._processes = default_count() if wanted is None else wanted
        self._hosting = _Hosting(alone)

    async def __aenter__(self) -> AgentHost:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._hosting.close(self._patience)

    @property
    def helped(self) -> list[HostedAgent]:
        """The agents that are hosted by helper processes."""
        return self._hosting.helped

    @property
    def helpers(self) -> Sequence[int]:
        """Process ids of the helper processes there are now."""
        return self._hosting.helpers.pids if self._hosting.helpers is not None else ()

    async def replace(self, agents: list[HostedAgent]) -> None:
        """Hosts `agents` instead of what is hosted now: the new ones take new messages while the old ones finish.

        Raises AmxError when the engine refuses them or a helper process cannot host them; the old ones are hosted then
        as before.
        """
        hosting = _Hosting(self._alone)
        for agent in agents:
            (hosting.helped if self._processes and computes(agent) else hosting.here).append(agent)
        try:
            if hosting.helped:
                hosting.helpers = await self._new_helpers().__aenter__()
            if hosting.here:
                hosting.link = self._new_link(hosting.here)
                await hosting.link.open(0)
        except BaseException:
            await hosting.close(0)
            raise
        old, self._hosting = self._hosting, hosting
        await old.close(self._patience)

    def _new_link(self, agents: list[HostedAgent]) -> Link:
        from amx_engine._link import Link
        from amx_engine._transport import EmbeddedConnector
        from amx_server.runtime.services import services

        lent = services(self._engine, self._identity.namespace)
        return Link(EmbeddedConnector(lambda: self._engine.open_link(self._identity), services=lent), agents)

    def _new_helpers(self) -> Helpers:
        logging, modules = self._engine.config.logging, self._modules
        task = HelperTask(
            modules=modules.names,
            folder=str(modules.folder),
            patience=self._patience,
            engine=os.getpid(),
            level=logging.level,
            format=logging.format,
        )
        return Helpers(
            task,
            lambda: self._engine.open_link(self._identity, watched=True),
            self._engine.log.take,
            self._processes,
        )


@dataclass(slots=True)
class _Hosting:
    """One generation of the agents, and what hosts them."""

    closes: bool
    here: list[HostedAgent] = field(default_factory=list)
    helped: list[HostedAgent] = field(default_factory=list)
    link: Link | None = None
    helpers: Helpers | None = None

    async def close(self, patience: float) -> None:
        """Lets what runs finish for up to `patience` seconds, then ends it; then closes capabilities, if it is to."""
        closing: list[Awaitable[None]] = []
        if self.link is not None:
            closing.append(self.link.close(patience))
        if self.helpers is not None:
            closing.append(self.helpers.__aexit__())
        await asyncio.gather(*closing)
        if self.closes:
            for agent in self.here:
                await agent.close()
