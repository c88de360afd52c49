"""Quotas: each bound refuses by its own name, counting nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx_server.core.errors import AmxError
from amx_server.runtime.quotas import NamespaceQuota, QuotaLimits, Quotas


def refused(quota: NamespaceQuota, now: float, messages: int = 1) -> AmxError | None:
    try:
        quota.admit(now, messages)
    except AmxError as error:
        return error
    return None


def test_rate_allows_a_burst_then_the_rate() -> None:
    quota = NamespaceQuota("shop", QuotaLimits(messages_per_second=10, burst=5))
    assert [refused(quota, 100.0) is None for _ in range(6)] == [True] * 5 + [False]
    error = refused(quota, 100.0)
    assert error is not None
    assert (error.reason, error.retryable) == ("QUOTA_RATE", True)
    assert 100 <= error.retry_delay_ms <= 101
    assert error.metadata == {"namespace": "shop", "limit": "10"}
    assert "'shop'" in error.message and "10 messages a second" in error.message
    assert refused(quota, 100.0 + error.retry_delay_ms / 1000) is None
    assert refused(quota, 100.102) is not None


@given(
    st.integers(1, 50),
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 3)), max_size=100),
)
def test_rate_never_exceeds_burst_plus_rate_times_time(rate: int, burst: int, steps: list[tuple[float, int]]) -> None:
    quota = NamespaceQuota("ns", QuotaLimits(messages_per_second=rate, burst=burst))
    now = 1000.0
    admitted: list[tuple[float, int]] = []
    for passed, messages in steps:
        now += passed
        error = refused(quota, now, messages)
        if error is None:
            admitted.append((now, messages))
        else:
            assert refused(quota, now + error.retry_delay_ms / 1000, 0) is None
    for first, (start, _) in enumerate(admitted):
        total = sum(messages for _, messages in admitted[first:])
        assert total <= max(burst, 3) + rate * (admitted[-1][0] - start) + 3 + 1e-6


def test_rate_admits_more_than_the_burst_only_from_rest_and_makes_it_pay() -> None:
    quota = NamespaceQuota("shop", QuotaLimits(messages_per_second=10, burst=5))
    assert refused(quota, 100.0, 20) is None
    assert refused(quota, 101.5) is not None
    assert refused(quota, 101.6) is None


def test_mailbox_quota_counts_what_waits() -> None:
    quota = NamespaceQuota("shop", QuotaLimits(mailbox_messages=3))
    quota.enqueue(3)
    with pytest.raises(AmxError, match="3 messages waiting") as raised:
        quota.enqueue()
    assert (raised.value.reason, raised.value.metadata["namespace"]) == ("QUOTA_MAILBOX", "shop")
    assert raised.value.retry_delay_ms > 0
    quota.dequeue()
    quota.enqueue()
    assert quota.waiting == 3


def test_stored_bytes_quota_refuses_growth_never_shrinking() -> None:
    quota = NamespaceQuota("shop", QuotaLimits(stored_bytes=100))
    quota.require_room(100)
    quota.store(101)
    quota.require_room(0)
    quota.require_room(-5)
    with pytest.raises(AmxError, match="may store 100 bytes and stores 101; 1 more") as raised:
        quota.require_room(1)
    assert raised.value.reason == "QUOTA_STORED_BYTES"
    assert raised.value.retry_delay_ms > 0


def test_quotas_without_limits_refuse_nothing() -> None:
    quota = Quotas().of("any")
    for _ in range(1000):
        quota.admit(0.0)
    quota.enqueue(10**9)
    quota.require_room(10**15)


def test_quotas_are_per_namespace_with_own_limits() -> None:
    quotas = Quotas(QuotaLimits(mailbox_messages=1), {"big": QuotaLimits(mailbox_messages=2)})
    quotas.of("a").enqueue()
    quotas.of("b").enqueue()
    quotas.of("big").enqueue(2)
    assert quotas.of("a") is quotas.of("a")
    assert {quota.namespace: quota.waiting for quota in quotas} == {"a": 1, "b": 1, "big": 2}
