"""What goes out and what comes back: `Operation`, `Response`, and who waits for it. No behaviour but addressing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec
from blake3 import blake3

R = TypeVar("R")
P = TypeVar("P")

CRITICAL, HIGH, NORMAL, LOW, BACKGROUND = range(1, 6)
"""Priorities, with the numbers of amx.v1.Priority."""


class WaitReason(StrEnum):
    """Why an agent does nothing just now."""

    MODEL = "model"
    TOOL = "tool"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Operation(Generic[R, P]):
    """Something to be done outside the engine, once for everyone who asks for the same meanwhile.

    R: type of the value that comes back. P: type of the parts of a stream; Any where there are none. Providers make
    operations (`HttpProvider.post`, `Tools.run`, `Files.read`); their types come from there.

    provider: who performs it. kind: what it is, for people and metrics. request: what the provider gets; not to be
    changed afterwards.
    key: content address of everything that the answer depends on, see `address`; equal keys at one provider mean one
    operation. Empty: every call is an operation of its own.
    ttl: seconds for which the answer may be given again without asking; 0: never.
    tokens: what it will probably cost of the provider's tokens per second; what it did cost corrects this.
    batch: operations of equal, non-empty groups may travel together if the provider's policy says so.
    idempotent: it may be repeated when it is not known whether it happened.
    """

    provider: str
    kind: str
    request: Any
    reason: WaitReason
    key: bytes = b""
    ttl: float = 0.0
    tokens: int = 0
    batch: str = ""
    idempotent: bool = True


@dataclass(frozen=True, slots=True)
class Response(Generic[R]):
    """What a provider answered. It goes to every waiter, and perhaps to the cache: `value` must not be changed.

    size: bytes that the value holds, for the bounds of caches and buffers. tokens: what it cost; None: as estimated.
    cacheable: False: not to be given again, whatever the operation's ttl.
    """

    value: R
    size: int
    tokens: int | None = None
    cacheable: bool = True


@dataclass(frozen=True, slots=True)
class Waiter:
    """On whose behalf an operation is asked for.

    agent: `name/key`; empty: nobody in particular. priority: CRITICAL (1) to BACKGROUND (5).
    """

    agent: str = ""
    namespace: str = "default"
    priority: int = NORMAL


NOBODY = Waiter()


def address(*parts: bytes | str) -> bytes:
    """BLAKE3 address (32 bytes) of a sequence of parts, in order; where one part ends matters.

    A large part that was addressed before, like a prompt that a thousand agents share, is given by its address: that
    makes a key for a few microseconds where hashing the whole request again would take a thousand times as long.
    """
    pieces: list[bytes] = []
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        pieces += (len(data).to_bytes(8, "little"), data)
    return blake3(b"".join(pieces)).digest()


def canonical_json(value: Any) -> bytes:
    """JSON with its keys in order: equal values give equal bytes. NaN and infinities become null, as JSON has none.

    Raises TypeError for what JSON cannot hold.
    """
    return msgspec.json.encode(value, order="sorted")
