"""What performs operations: the `Provider` that everything outbound implements, and the policy it is used under."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from amx_server.core.errors import AmxError
from amx_server.inference.io.concurrency import ConcurrencyPolicy
from amx_server.inference.io.flights import Call
from amx_server.inference.io.operations import Response
from amx_server.inference.io.retries import RetryPolicy


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When operations of one group travel: as soon as there are `max_items`, or `max_tokens` together, or the first
    has waited `max_wait` seconds. max_items 1: each by itself.
    """

    max_items: int = 1
    max_tokens: int = 0
    max_wait: float = 0.005

    def __post_init__(self) -> None:
        if self.max_items < 1 or self.max_tokens < 0 or self.max_wait < 0:
            raise ValueError("batch: max_items is 1 or more, max_tokens and max_wait are 0 or more")


@dataclass(frozen=True, slots=True)
class ProviderPolicy:
    """How one provider may be used. Rates of 0 are not limited; a burst of 0 is one second's worth.

    attempt_timeout: seconds one attempt may take, whatever its callers allow. max_queued: operations that may wait.
    """

    concurrency: ConcurrencyPolicy = field(default_factory=ConcurrencyPolicy)
    requests_per_second: float = 0.0
    request_burst: float = 0.0
    tokens_per_second: float = 0.0
    token_burst: float = 0.0
    max_queued: int = 10_000
    attempt_timeout: float = 300.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    batch: BatchPolicy = field(default_factory=BatchPolicy)


class Provider(ABC):
    """Performs operations. Entered once before the first and left after the last; shared by all agents.

    Everything else is done around it: it need not retry, limit, share, cache or count. Cancelling `perform` must end
    what it does on the other side, as far as that can be ended.
    """

    name: str

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @abstractmethod
    async def perform(self, call: Call) -> Response[Any]:
        """Performs one operation. Raises AmxError; `retryable` and `retry_delay_ms` are heeded."""

    async def perform_batch(self, calls: Sequence[Call]) -> Sequence[Response[Any] | AmxError]:
        """Performs several in one go; one outcome for each, in order. Raises AmxError when all have failed alike.

        Asked for only when the policy has batches and operations name a group.
        """
        raise NotImplementedError(f"{type(self).__name__} has no batches; set its policy's batch.max_items to 1")
