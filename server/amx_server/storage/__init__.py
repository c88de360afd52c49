"""Durable storage. `open_store` picks the implementation; interface.py says what each of them does."""

from __future__ import annotations

from collections.abc import Callable

from amx_server.core.errors import invalid
from amx_server.storage.interface import (
    IN_MEMORY,
    Blobs,
    Commit,
    Forgotten,
    MemoryAt,
    MemoryRow,
    MessageState,
    Store,
    StoredAgent,
    StoredFork,
    StoredMessage,
    StoredSchedule,
    StoredSubscription,
    StoredSuspension,
    StoredVersion,
    VersionCounts,
)

__all__ = [
    "IN_MEMORY",
    "Blobs",
    "Commit",
    "Forgotten",
    "MemoryAt",
    "MemoryRow",
    "MessageState",
    "Store",
    "StoredAgent",
    "StoredFork",
    "StoredMessage",
    "StoredSchedule",
    "StoredSubscription",
    "StoredSuspension",
    "StoredVersion",
    "VersionCounts",
    "open_store",
]


def open_store(
    location: str,
    *,
    max_queued_bytes: int = 64 << 20,
    commit_delay: float = 0.0,
    cache_bytes: int = 64 << 20,
    observe: Callable[[int, int, float], None] | None = None,
    blobs: Blobs | None = None,
) -> Store:
    """The store at `location`, opened by entering it (`async with open_store(...) as store`).

    location: a path, "sqlite:path", "sqlite:///absolute/path", or ":memory:" for a store that ends with the process.
    Raises AmxError STORAGE_UNSUPPORTED for any other scheme. The rest: see SqliteStore.
    """
    from amx_server.storage.sqlite import SqliteStore

    scheme, separator, path = location.partition(":")
    if scheme == "sqlite" and separator:
        path = path.removeprefix("//")
    elif "://" in location:
        raise invalid(
            "STORAGE_UNSUPPORTED",
            f"'{scheme}' is no kind of store this engine has; use sqlite:path, a plain path or :memory:",
        )
    else:
        path = location
    if not path or path.endswith(("/", "\\")):
        raise invalid("STORAGE_UNSUPPORTED", f"'{location}' names no file; name one in the folder, for example amx.db")
    return SqliteStore(
        path,
        max_queued_bytes=max_queued_bytes,
        commit_delay=commit_delay,
        cache_bytes=cache_bytes,
        observe=observe,
        blobs=blobs,
    )
