"""What the agents of this process are called: `--prefix` is said before the fixtures are imported."""

from __future__ import annotations

_prefix = ""


def use_prefix(prefix: str) -> None:
    """Puts `prefix` before the name of every agent that is defined from now on."""
    global _prefix
    _prefix = prefix


def named(name: str) -> str:
    """The name of a fixture in this process."""
    return _prefix + name
