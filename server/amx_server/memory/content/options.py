"""What a content store may use: bytes for each tier, sizes, quotas. Every number has a default that was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MIB = 1 << 20
ENTRY_BYTES = 400
"""What one object is taken to cost in the index beside its bytes, in bytes: entry, address, place on disk, table.
Measured 308 for each of 100,000 values that lie on disk only (benchmarks/content_store.py)."""


class Owner(NamedTuple):
    """Who retains content: an agent of a namespace; agent "" stands for the namespace itself."""

    namespace: str = ""
    agent: str = ""

    def __str__(self) -> str:
        if not self.namespace:
            return "the engine"
        return f"agent {self.agent} of namespace {self.namespace}" if self.agent else f"namespace {self.namespace}"


@dataclass(frozen=True, slots=True)
class Quotas:
    """How many plain bytes may be retained; 0: without limit. `overrides` is for single owners.

    Usage is the size that what an owner retains would have plain and unshared, so it does not depend on what others
    retain or on how well it compresses.
    """

    namespace_bytes: int = 0
    agent_bytes: int = 0
    overrides: Mapping[Owner, int] = field(default_factory=dict)

    def limit(self, owner: Owner) -> int:
        """Bytes that `owner` may retain; 0: without limit."""
        limit = self.overrides.get(owner)
        if limit is not None:
            return limit
        return self.agent_bytes if owner.agent else self.namespace_bytes


@dataclass(frozen=True, slots=True)
class ContentOptions:
    """Budgets and sizes in bytes.

    hot_bytes: plain content in memory. warm_bytes: compressed content in memory. index_bytes: what the index of
    everything, cold content included, may take (ENTRY_BYTES an object). cold_bytes: files on disk; 0: without limit.
    max_value_bytes: the largest value. segment_bytes: size at which a file on disk is followed by the next.
    level: of zstd. dictionary_bytes: of trained dictionaries; 0: none are trained. background: a thread keeps the
    tiers within their budgets, trains dictionaries and compacts; without it the callers of `put` and `maintain` do.
    """

    hot_bytes: int = 64 * MIB
    warm_bytes: int = 64 * MIB
    index_bytes: int = 256 * MIB
    cold_bytes: int = 0
    max_value_bytes: int = 256 * MIB
    segment_bytes: int = 64 * MIB
    level: int = 3
    dictionary_bytes: int = 64 << 10
    quotas: Quotas = field(default_factory=Quotas)
    background: bool = True

    def __post_init__(self) -> None:
        for name, least in (("hot_bytes", 4096), ("warm_bytes", 4096), ("index_bytes", 4096), ("segment_bytes", 4096)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not 0 < self.max_value_bytes < 1 << 31 or self.segment_bytes >= 1 << 31:
            raise ValueError("max_value_bytes and segment_bytes must lie below 2 GiB")

    @classmethod
    def for_memory(cls, total: int, *, quotas: Quotas | None = None, cold_bytes: int = 0) -> ContentOptions:
        """Divides `total` bytes of memory: 40 % hot, 40 % warm, 20 % index."""
        return cls(
            hot_bytes=total * 2 // 5,
            warm_bytes=total * 2 // 5,
            index_bytes=total // 5,
            cold_bytes=cold_bytes,
            quotas=quotas or Quotas(),
        )
