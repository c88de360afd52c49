"""A store that refuses commits or reads when told to, as a full or broken disk does. No tests here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amx_server.core.errors import AmxError, exhausted, unavailable
from amx_server.storage import Commit, MemoryRow, Store


class FailingStore:
    """A store that can be told to refuse commits or reads, as a full or broken disk does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.refuses: Callable[[Commit], bool] = lambda commit: False
        self.unreadable = False
        self.refused = 0

    def submit(self, commit: Commit) -> None:
        if not self.refuses(commit):
            self._store.submit(commit)
            return
        self.refused += 1
        done, error = commit.done, full()
        # An empty commit keeps the refusal's place in the order of answers.
        self._store.submit(Commit(done=lambda _: done(error)))

    async def memory(self, namespace: str, agent: str, key: str) -> list[MemoryRow]:
        if self.unreadable:
            raise unavailable("STORAGE_UNAVAILABLE", "the disk cannot be read")
        return await self._store.memory(namespace, agent, key)

    async def __aenter__(self) -> FailingStore:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._store.__aexit__(*exc)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def full() -> AmxError:
    return exhausted("STORAGE_FULL", "the disk is full; free some space", retry_delay_ms=1000)


def everything(commit: Commit) -> bool:
    return True


def nothing(commit: Commit) -> bool:
    return False
