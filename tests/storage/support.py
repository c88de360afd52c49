"""What the storage tests share: a session that submits commits and collects what became of them."""

from __future__ import annotations

import asyncio
from typing import Any

from amx_server.storage import Commit, MemoryRow, Store, StoredMessage


class Session:
    """Submits to a store. `commit` waits for the outcome and raises it; `submit` returns a future of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.reported: list[int] = []
        self._count = 0

    def submit(self, **changes: Any) -> tuple[Commit, asyncio.Future[None]]:
        number, self._count = self._count, self._count + 1
        result: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: BaseException | None) -> None:
            self.reported.append(number)
            if error is None:
                result.set_result(None)
            else:
                result.set_exception(error)

        commit = Commit(done, **changes)
        self.store.submit(commit)
        return commit, result

    async def commit(self, **changes: Any) -> Commit:
        commit, result = self.submit(**changes)
        await result
        return commit


def message(seq: int, message_id: str | None = None, **fields: Any) -> StoredMessage:
    """A pending message; what the test does not care about has some value."""
    values: dict[str, Any] = {
        "namespace": "default",
        "agent": "greeter",
        "key": "default",
        "handler": "hello",
        "priority": 1,
        "accepted_at_ms": 1_700_000_000_000 + seq,
        "body": b"body of %d \x00\xff" % seq,
    }
    return StoredMessage(seq=seq, message_id=f"m{seq}" if message_id is None else message_id, **(values | fields))


def row(name: str, entry: str = "", value: bytes = b"1", used: int = 0, version: int = 1) -> MemoryRow:
    """A memory row that never expires."""
    return MemoryRow(name, entry, value, 0, version, used)
