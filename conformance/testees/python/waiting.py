"""Handlers that wait until somebody releases or cancels them, in this process."""

from __future__ import annotations

import asyncio


class Waiting:
    """Those that wait now, and how many were cancelled so far."""

    def __init__(self) -> None:
        self.cancelled = 0
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self) -> str:
        """Returns when released; counts a cancellation and lets it through."""
        released = asyncio.get_running_loop().create_future()
        self._waiting.add(released)
        try:
            await released
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._waiting.discard(released)
        return "released"

    def release(self) -> int:
        """Releases all that wait; returns how many."""
        waiting = [one for one in self._waiting if not one.done()]
        for one in waiting:
            one.set_result(None)
        return len(waiting)


waiting = Waiting()
