"""Large values of the durable store, kept by address in the content store. How the two commit together is in
docs/memory.md; what the store asks for is `Blobs` in storage/interface.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from amx_server.core.config import MemoryConfig
from amx_server.core.errors import AmxError, exhausted
from amx_server.memory.content import ContentOptions, ContentStore, Owner, Quotas, Reconciled

_NO_ROOM: Final = {"CONTENT_MEMORY_FULL", "CONTENT_TOO_LARGE"}


def content_options(config: MemoryConfig) -> ContentOptions:
    """Budgets and quotas as configured."""
    overrides = {Owner(*name.split("/", 1)): size for name, size in config.quotas.items()}
    quotas = Quotas(config.namespace_quota, config.agent_quota, overrides)
    return ContentOptions.for_memory(config.budget, quotas=quotas, cold_bytes=config.disk_bytes)


class ContentBlobs:
    """Implements Blobs on a content store, which is open while entered. May be called by any thread.

    folder: of the content store; None: in memory only. threshold: bytes from which on a value is kept by address.
    Entering raises AmxError as ContentStore does.
    """

    def __init__(self, folder: Path | None, options: ContentOptions, threshold: int) -> None:
        self.threshold = threshold
        self.reconciled = Reconciled()
        """What the start found. Content that is missing is named by those who look for it."""
        self._folder = folder
        self._options = options
        self._quotas = options.quotas if options.quotas != Quotas() else None
        self._store: ContentStore | None = None

    @property
    def store(self) -> ContentStore:
        """The content store."""
        if self._store is None:
            raise RuntimeError("the content store is not open; use it inside `with`")
        return self._store

    def __enter__(self) -> Self:
        self._store = ContentStore(self._folder, self._options)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(AmxError):  # what was promised is on disk, and the next start sets right what is not
            self.store.close()

    # --- for the store of commits

    def keep(
        self, values: Sequence[tuple[str, str, bytes]], addresses: Sequence[tuple[str, str, bytes]]
    ) -> tuple[list[bytes], list[bool]]:
        """See Blobs.keep. What the quotas say was asked before; see `require_room`."""
        store = self.store
        found = [self._put(value) for _, _, value in values]
        there = [address in store for _, _, address in addresses]
        kept = [(n, a, address) for (n, a, _), address in zip(values, found, strict=True) if address]
        kept += [one for one, is_there in zip(addresses, there, strict=True) if is_there]
        retained: list[tuple[list[bytes], Owner]] = []
        try:
            for owner, group in _by_owner(kept).items():
                store.retain(group, owner, over_quota=True)
                retained.append((group, owner))
            store.flush()
        except AmxError as error:
            for group, owner in retained:
                store.release(group, owner)
            if error.reason != "CONTENT_DISK_FULL":
                raise
            raise exhausted(
                "STORAGE_FULL", f"{error.message}; storing resumes by itself", retry_delay_ms=5000
            ) from error
        return found, there

    def release(self, references: Sequence[tuple[str, str, bytes]]) -> None:
        """See Blobs.release."""
        for owner, group in _by_owner(references).items():
            self.store.release(group, owner)

    def get(self, address: bytes) -> bytes:
        """See Blobs.get. Everybody gets the same object, where memory has room for it."""
        return self.store.get_shared(address)

    def reconcile(self, references: Iterable[tuple[str, str, bytes]]) -> None:
        """See Blobs.reconcile."""
        self.reconciled = self.store.reconcile((Owner(n, a), address, 1) for n, a, address in references)

    # --- for memories

    def shared(self, value: bytes) -> bytes:
        """The same bytes, as the one object that all have who remember them, where memory has room for that.

        Hashes the value, and stores it for as long as a commit needs to follow. Never waits for a disk.
        """
        try:
            return self.store.shared(value)
        except AmxError:
            return value  # what follows stores it, or says why it cannot

    def require_room(self, namespace: str, agent: str, size: int) -> None:
        """Raises AmxError CONTENT_QUOTA_EXCEEDED if the agent, or its namespace, may not retain so many bytes more."""
        if self._quotas is not None:
            self.store.require_room(Owner(namespace, agent), size)

    def _put(self, value: bytes) -> bytes:
        """Its address; empty: there is no room for it, and the value belongs into its row."""
        try:
            return self.store.put(value)
        except AmxError as error:
            if error.reason in _NO_ROOM:
                return b""
            raise


def _by_owner(references: Iterable[tuple[str, str, bytes]]) -> dict[Owner, list[bytes]]:
    groups: dict[Owner, list[bytes]] = {}
    for namespace, agent, address in references:
        groups.setdefault(Owner(namespace, agent), []).append(address)
    return groups
