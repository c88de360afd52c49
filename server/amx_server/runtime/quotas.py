"""What one namespace may use: messages a second, messages in mailboxes, stored bytes. Each refusal is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from amx_server.core.errors import AmxError, exhausted

_MAILBOX_RETRY_MS = 1_000
_STORED_RETRY_MS = 30_000


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """Bounds of one namespace; 0 means no bound.

    messages_per_second: over time; burst: how many at once (0: one second's worth).
    """

    messages_per_second: float = 0
    burst: int = 0
    mailbox_messages: int = 0
    stored_bytes: int = 0


class NamespaceQuota:
    """Use of one namespace against its limits. Not a reservation: callers report what ends."""

    __slots__ = (
        "_burst",
        "_burst_seconds",
        "_empty_at",
        "_interval",
        "limits",
        "namespace",
        "rated",
        "stored_bytes",
        "waiting",
    )

    def __init__(self, namespace: str, limits: QuotaLimits) -> None:
        self.namespace = namespace
        self.limits = limits
        self.waiting = 0  # messages in mailboxes
        self.stored_bytes = 0
        # A token bucket kept as one moment: when it would be full again had nothing more come.
        rate = limits.messages_per_second
        self._interval = 1 / rate if rate else 0.0
        self.rated = bool(rate)  # whether `admit` has anything to count
        self._burst = limits.burst or max(1, round(rate))
        self._burst_seconds = self._burst * self._interval
        self._empty_at = 0.0

    def admit(self, now: float, messages: int = 1) -> None:
        """Counts `messages` at `now` (monotonic seconds) against the rate. Raises AmxError QUOTA_RATE, counting none.

        More messages than the burst are admitted together when none came for a while, and paid for afterwards.
        """
        interval = self._interval
        if not interval:
            return
        start = self._empty_at if self._empty_at > now else now
        late = start - now + min(messages, self._burst) * interval - self._burst_seconds
        if late > 1e-9:
            rate = f"{self.limits.messages_per_second:g}"
            raise self._refusal(
                "QUOTA_RATE",
                f"is limited to {rate} messages a second (bursts of {self._burst})",
                rate,
                ceil(late * 1000),
            )
        self._empty_at = start + messages * interval

    def enqueue(self, messages: int = 1) -> None:
        """Counts messages that will wait in mailboxes. Raises AmxError QUOTA_MAILBOX, counting none."""
        limit = self.limits.mailbox_messages
        if limit and self.waiting + messages > limit:
            raise self._refusal(
                "QUOTA_MAILBOX",
                f"may have {limit} messages waiting in mailboxes and has {self.waiting}",
                str(limit),
                _MAILBOX_RETRY_MS,
            )
        self.waiting += messages

    def dequeue(self, messages: int = 1) -> None:
        """Messages left their mailboxes."""
        self.waiting -= messages

    def require_room(self, stored_bytes: int) -> None:
        """Raises AmxError QUOTA_STORED_BYTES if storing this many more bytes would be too much. Counts nothing."""
        limit = self.limits.stored_bytes
        if limit and stored_bytes > 0 and self.stored_bytes + stored_bytes > limit:
            raise self._refusal(
                "QUOTA_STORED_BYTES",
                f"may store {limit} bytes and stores {self.stored_bytes}; {stored_bytes} more do not fit",
                str(limit),
                _STORED_RETRY_MS,
            )

    def store(self, stored_bytes: int) -> None:
        """Stored bytes grew by this many; negative: shrank."""
        self.stored_bytes += stored_bytes

    def _refusal(self, reason: str, why: str, limit: str, retry_delay_ms: int) -> AmxError:
        return exhausted(
            reason,
            f"namespace '{self.namespace}' {why}; try again in {retry_delay_ms} ms, or raise the quota",
            retry_delay_ms=retry_delay_ms,
            namespace=self.namespace,
            limit=limit,
        )


class Quotas:
    """The quota of every namespace that was asked for."""

    __slots__ = ("_by_namespace", "_default", "_own")

    def __init__(self, default: QuotaLimits = QuotaLimits(), own: Mapping[str, QuotaLimits] | None = None) -> None:
        self._default = default
        self._own = dict(own or {})
        self._by_namespace: dict[str, NamespaceQuota] = {}

    def of(self, namespace: str) -> NamespaceQuota:
        """The one quota of `namespace`; keep it, to save the look-up. Callers bound how many namespaces there are."""
        quota = self._by_namespace.get(namespace)
        if quota is None:
            limits = self._own.get(namespace, self._default)
            quota = self._by_namespace[namespace] = NamespaceQuota(namespace, limits)
        return quota

    def __iter__(self) -> Iterator[NamespaceQuota]:
        return iter(self._by_namespace.values())
