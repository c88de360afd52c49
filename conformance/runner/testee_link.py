"""How the scripted engine reaches a testee, whatever the transport. Standard library only."""

from __future__ import annotations

from typing import Protocol

from conformance.runner.peer import Wire


class TesteeLink(Protocol):
    """A running testee."""

    manual_time: bool
    """Whether its clock moves by `advance` only."""

    @property
    def alive(self) -> bool:
        """Whether its process runs."""

    async def accept(self, within: float) -> Wire:
        """The next connection that it asks for. Raises CaseFailure if it asks for none, Broken if it is dead."""

    async def wants_connection(self, within: float) -> bool:
        """Whether it asks, within so many seconds, for a connection that it has not been given."""

    async def advance(self, ms: int) -> None:
        """Moves the SDK's clock and returns when what was due is done. Raises Broken."""

    async def stop(self) -> None:
        """Tells it to stop politely; returns at once."""

    async def stopped(self, within: float) -> int:
        """Returns its exit code when it has stopped. Raises CaseFailure if it does not."""

    async def kill(self) -> None:
        """Ends it without asking."""

    def complaints(self) -> list[str]:
        """The last lines of its standard error."""
