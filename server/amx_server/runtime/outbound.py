"""The engine's I/O manager: built from the configuration, entered and left with the engine. What it does is in
`inference.io`.
"""

from __future__ import annotations

from amx_server.core.clock import Clock
from amx_server.core.config import IoSettings, ProviderConfig
from amx_server.inference.io import (
    ConcurrencyPolicy,
    HttpProvider,
    IoConfig,
    IoManager,
    Provider,
    ProviderPolicy,
    RetryPolicy,
    WaitObserver,
)


def io_manager(settings: IoSettings, clock: Clock, *, observer: WaitObserver | None, ticking: bool) -> IoManager:
    """The manager as configured, without providers yet. ticking: as of Engine."""
    config = IoConfig(
        default_timeout=settings.default_timeout,
        cache_bytes=settings.cache_bytes,
        cache_entries=settings.cache_entries,
        max_waiters=settings.max_waiters,
        max_response_bytes=settings.max_response_bytes,
        max_buffered_bytes=settings.max_buffered_bytes,
    )
    return IoManager(config, clock, observer=observer, ticking=ticking)


def provider(name: str, settings: ProviderConfig, clock: Clock) -> tuple[Provider, ProviderPolicy]:
    """A configured provider, not yet entered, and the policy it is used under."""
    concurrency, retry = settings.concurrency, settings.retry
    made = HttpProvider(
        name,
        settings.base_url,
        headers={header: secret.get_secret_value() for header, secret in settings.headers.items()},
        connections=settings.connections,
        connect_timeout=settings.connect_timeout,
        idle_timeout=settings.idle_timeout,
        clock=clock,
    )
    policy = ProviderPolicy(
        concurrency=ConcurrencyPolicy(
            initial=concurrency.initial,
            minimum=concurrency.minimum,
            maximum=concurrency.maximum,
            latency_tolerance=concurrency.latency_tolerance,
        ),
        requests_per_second=settings.requests_per_second,
        request_burst=settings.request_burst,
        tokens_per_second=settings.tokens_per_second,
        token_burst=settings.token_burst,
        max_queued=settings.max_queued,
        attempt_timeout=settings.attempt_timeout,
        retry=RetryPolicy(
            attempts=retry.attempts,
            rate_limited_attempts=retry.rate_limited_attempts,
            initial_backoff=retry.initial_backoff,
            max_backoff=retry.max_backoff,
            budget=retry.budget,
            budget_burst=retry.budget_burst,
        ),
    )
    return made, policy
