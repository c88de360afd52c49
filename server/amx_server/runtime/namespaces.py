"""One tenant: everything that is looked up by name inside a namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amx_server.runtime.instances import Agent, Instance, Invocation
from amx_server.runtime.quotas import NamespaceQuota
from amx_server.runtime.scheduling.shares import Share
from amx_server.runtime.topics import TopicIndex
from amx_server.storage.interface import StoredMessage

if TYPE_CHECKING:
    from amx_server.runtime.events import Subscriber
    from amx_server.runtime.idempotency import IdempotentRequests


class Namespace:
    """State of one namespace."""

    __slots__ = (
        "agents",
        "durable",
        "idempotent",
        "monitors",
        "name",
        "quota",
        "routers",
        "share",
        "topics",
        "unplaced",
    )

    def __init__(
        self, name: str, quota: NamespaceQuota, topics: TopicIndex[Subscriber], idempotent: IdempotentRequests
    ) -> None:
        self.name = name
        self.quota = quota
        self.share = Share()
        self.topics = topics
        self.idempotent = idempotent
        self.agents: dict[str, Agent] = {}
        self.durable: dict[str, Invocation] = {}  # stored messages that have not ended, by message id
        self.unplaced: dict[str, list[StoredMessage]] = {}  # by agent: stored messages whose handler is not known yet
        self.routers: list[Agent] = []
        self.monitors: list[Agent] = []

    def instance(self, agent: str, key: str) -> Instance | None:
        """The instance if it is awake."""
        found = self.agents.get(agent)
        return found.instances.get(key) if found else None
