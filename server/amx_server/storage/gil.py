"""Lets storage threads get the interpreter lock while the event loop is busy."""

from __future__ import annotations

import asyncio
import time
from typing import Final

# While a storage thread has something to do the loop lets go of the lock this often, for about this long (the
# operating system adds some 50 us). Measured: a saturated loop then commits 25,000 messages a second instead of 50.
_EVERY_S: Final = 0.001
_FOR_S: Final = 0.000_01


class LockYielder:
    """Makes the event loop's thread let go of the interpreter lock for a moment, again and again, while needed.

    A loop that always has something to do releases the lock only around its poll, and takes it back before a waiting
    thread has woken up; each such release also restarts the wait after which the interpreter would enforce a switch.
    Storage threads would starve for seconds. Costs nothing while no work is outstanding, and at most some 6 % of the
    loop's time otherwise. Methods belong to the event loop's thread.
    """

    __slots__ = ("_armed", "_loop", "_outstanding")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._outstanding = 0
        self._armed = False

    def begin(self, count: int = 1) -> None:
        """So many more pieces of work were handed to a storage thread."""
        self._outstanding += count
        if not self._armed:
            self._armed = True
            self._loop.call_later(_EVERY_S, self._let_go)

    def end(self, count: int) -> None:
        """So many pieces of work came back."""
        self._outstanding -= count

    def _let_go(self) -> None:
        if self._outstanding > 0:
            time.sleep(_FOR_S)
            self._loop.call_later(_EVERY_S, self._let_go)
        else:
            self._armed = False
