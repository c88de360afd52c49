"""`Share`: what a namespace, or one of its agents, may use beside its like. Policies set weights, run queues keep to
them.
"""

from __future__ import annotations


class Share:
    """One claim on what several want. Used in proportion to `weight` as long as all of them want more.

    An agent's share is a part of its namespace's: weights are compared among namespaces, and among the agents of one.
    """

    __slots__ = ("_weight", "parent", "used")

    def __init__(self, parent: Share | None = None, weight: float = 1.0) -> None:
        """parent: of an agent: its namespace's; of a namespace: None. Raises ValueError for a weight not above 0."""
        self.parent = parent
        self.weight = weight
        self.used = 0.0
        """Cost of all that it was charged with; only grows. What one unit is, its run queue says."""

    @property
    def weight(self) -> float:
        """Its part, against the weights of its like. Above 0; takes effect with what is charged next."""
        return self._weight

    @weight.setter
    def weight(self, weight: float) -> None:
        if not 0 < weight < float("inf"):
            raise ValueError(f"the weight of a share is a number above 0, not {weight}")
        self._weight = weight

    def charge(self, cost: float) -> None:
        """Notes that it used so much."""
        self.used += cost
        parent = self.parent
        if parent is not None:
            parent.used += cost


class Account(Share):
    """What a share has used of something else: its weight, an account of its own."""

    __slots__ = ("_of",)

    def __init__(self, share: Share, parent: Share | None = None) -> None:
        self._of = share
        self.parent = parent
        self.used = 0.0

    @property
    def weight(self) -> float:
        """That of the share."""
        return self._of.weight

    @weight.setter
    def weight(self, weight: float) -> None:
        self._of.weight = weight
