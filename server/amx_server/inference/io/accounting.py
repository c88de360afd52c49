"""Who waits for what since when, and the numbers of the I/O manager at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from amx_server.inference.io.operations import Waiter, WaitReason


@dataclass(frozen=True, slots=True)
class Wait:
    """One agent that waits for one operation. since: monotonic seconds. key: content address; empty if it has none."""

    waiter: Waiter
    reason: WaitReason
    provider: str
    kind: str
    key: bytes
    since: float


class WaitObserver(Protocol):
    """Told of every wait that really begins (answers from the cache do not) and of its end, each once.

    Called on the event loop, for every operation: it must be quick. What it raises is logged and changes nothing.
    """

    def wait_began(self, wait: Wait) -> None:
        """The agent will not go on until `wait_ended`."""
        ...

    def wait_ended(self, wait: Wait, seconds: float, failure: str) -> None:
        """It has its answer. failure: the error's reason; CANCELLED when it left; empty when all went well.

        The agent of a stream counts as waiting until it has read or left it.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProviderStats:
    """One provider. Those in the second block only grow."""

    in_flight: int
    queued: int
    collecting: int  # operations that wait for a batch to fill
    concurrency_limit: float
    concurrency_maximum: int  # that the limit may reach
    paused_seconds: float  # from now, at the provider's request
    retry_budget: float
    tokens_left: float | None  # of the bucket; None: no limit

    requests: int
    operations: int
    batches: int
    batched: int
    succeeded: int
    failed: int
    retries: int
    retries_denied: int
    rate_limited: int
    overloaded: int
    cancelled: int
    tokens: int


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The response cache."""

    entries: int
    bytes: int
    hits: int
    misses: int
    evictions: int
    expirations: int


@dataclass(frozen=True, slots=True)
class IoStats:
    """The I/O manager. Those in the second block only grow."""

    waiting: int  # callers
    waiting_by_reason: Mapping[WaitReason, int]
    in_flight: int  # distinct operations under way, queued ones included
    buffered_bytes: int

    operations: int  # asked for
    coalesced: int  # of these, joined one that was under way
    cache_hits: int  # of these, answered from the cache
    batched: int  # operations that travelled with others
    retries: int
    cancelled: int  # operations whose last waiter left
    failures: Mapping[str, int]  # ends of waits, by the error's reason

    cache: CacheStats
    providers: Mapping[str, ProviderStats]
