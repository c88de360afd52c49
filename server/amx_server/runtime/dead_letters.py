"""Messages that exhausted their attempts: put back, or dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from amx_server.core.clock import Clock
from amx_server.runtime.acceptance import Acceptance
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.queries import Queries
from amx_server.storage.interface import Commit, Store


class DeadLetters:
    """What an operator can do with dead letters."""

    def __init__(self, clock: Clock, store: Store, acceptance: Acceptance, queries: Queries) -> None:
        self._clock = clock
        self._store = store
        self._acceptance = acceptance
        self._queries = queries
        self.removed = 0
        """Dead letters put back or dropped since the start."""

    async def retry(self, namespace: Namespace, message_ids: Sequence[str], agent: str) -> int:
        """Puts dead letters back into their mailboxes with all their attempts. Returns how many; ids that are not
        dead letters are passed over. Raises AmxError if the store refuses; none is back then.
        """
        await self._store.flush()
        rows = await self._queries.dead_rows(namespace, message_ids, agent)
        commit = Commit(done=_nothing)
        for row in rows:
            row.attempts = 0
            row.available_at_ms = 0
            row.expires_at_ms = 0
            commit.retry += ((row.seq, 0, 0, b""),)
        await self._stored(commit)
        self.removed += len(rows)
        for row in rows:
            self._acceptance.restore(namespace, row)
        return len(rows)

    async def drop(self, namespace: Namespace, message_ids: Sequence[str], agent: str) -> int:
        """Forgets dead letters for good. Returns how many. Raises AmxError if the store refuses."""
        await self._store.flush()
        rows = await self._queries.dead_rows(namespace, message_ids, agent)
        commit = Commit(done=_nothing)
        commit.drop += tuple(row.seq for row in rows)
        await self._stored(commit)
        self.removed += len(rows)
        namespace.quota.store(-sum(len(row.body) for row in rows))
        return len(rows)

    async def _stored(self, commit: Commit) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: BaseException | None) -> None:
            if not future.done():
                future.set_exception(error) if error is not None else future.set_result(None)

        commit.done = done
        self._store.submit(commit)
        await future


def _nothing(error: BaseException | None) -> None:
    """Replaced before the commit is submitted."""
