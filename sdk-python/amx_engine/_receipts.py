"""What the engine says when it has taken something."""

from __future__ import annotations

from typing import NamedTuple


class Receipt(NamedTuple):
    """A message is in the engine's hands. duplicate: it already was."""

    message_id: str
    duplicate: bool


class Publication(NamedTuple):
    """An event is in the engine's hands. subscribers: how many it goes to."""

    event_id: str
    subscribers: int
