"""How much each owner retains, and the quotas it is held to."""

from __future__ import annotations

from heapq import nlargest
from operator import itemgetter

from amx_server.memory.content.errors import quota_exceeded
from amx_server.memory.content.options import Owner, Quotas


class Ledger:
    """Plain bytes retained by owner and by namespace. Changed under the store's lock.

    changed: owners whose bytes are not yet durable. counted_in: the segment with the latest durable figure of each.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self.held: dict[Owner, int] = {}
        self._namespaces: dict[str, int] = {}
        self.changed: set[Owner] = set()
        self.counted_in: dict[Owner, int] = {}

    @property
    def total(self) -> int:
        """Bytes that everybody retains together, each share counted."""
        return sum(self._namespaces.values())

    def namespace(self, name: str) -> int:
        """Bytes retained in a namespace, by its agents and by itself."""
        return self._namespaces.get(name, 0)

    def largest(self, count: int, namespace: str | None = None) -> list[tuple[Owner, int]]:
        """Agents and namespaces that retain most, the largest first; of one namespace if one is named."""
        agents = [each for each in list(self.held.items()) if each[0].agent]
        whole = [(Owner(name), held) for name, held in list(self._namespaces.items()) if name]
        asked = (each for each in (*whole, *agents) if namespace is None or each[0].namespace == namespace)
        return nlargest(count, asked, key=itemgetter(1))

    def require(self, owner: Owner, delta: int) -> None:
        """Raises AmxError CONTENT_QUOTA_EXCEEDED if the owner may not retain so many bytes more."""
        self._check(owner, self.held.get(owner, 0), delta)
        if owner.agent:
            self._check(Owner(owner.namespace), self.namespace(owner.namespace), delta)

    def charge(self, owner: Owner, delta: int, over_quota: bool = False) -> None:
        """Adds to what an owner retains. Raises AmxError CONTENT_QUOTA_EXCEEDED and changes nothing."""
        held = self.held.get(owner, 0)
        if delta > 0 and not over_quota:
            self.require(owner, delta)
        delta = max(delta, -held)  # damaged content has lost its size; reconciling puts this right
        if delta:
            self._set(owner, held + delta)

    def set(self, owner: Owner, size: int) -> None:
        """States what an owner retains, whatever its quota."""
        if size != self.held.get(owner, 0):
            self._set(owner, size)

    def _set(self, owner: Owner, size: int) -> None:
        name = owner.namespace
        self._namespaces[name] = self._namespaces.get(name, 0) + size - self.held.get(owner, 0)
        if size:
            self.held[owner] = size
        else:
            self.held.pop(owner, None)
            if not self._namespaces[name]:
                del self._namespaces[name]
        self.changed.add(owner)

    def _check(self, owner: Owner, held: int, delta: int) -> None:
        limit = self._quotas.limit(owner)
        if limit and held + delta > limit:
            raise quota_exceeded(str(owner), held, delta, limit)
