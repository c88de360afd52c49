"""Errors of connectors, by the reasons of the engine."""

from __future__ import annotations

from amx_engine._errors import FAILED_PRECONDITION, UNAVAILABLE, AmxError


def extra_missing(connector: str, package: str, extra: str) -> AmxError:
    """The library a connector works with is not installed."""
    return AmxError(
        FAILED_PRECONDITION,
        "CONNECTOR_EXTRA_MISSING",
        f'{connector} needs the package {package}; install it with: pip install "amx-engine-python[{extra}]"',
        metadata={"package": package, "extra": extra},
    )


def store_unavailable(what: str, error: BaseException) -> AmxError:
    """The store could not be reached, or was too busy; it may work later."""
    return AmxError(UNAVAILABLE, "STORE_UNAVAILABLE", f"{what}: {error or type(error).__name__}", retryable=True)
