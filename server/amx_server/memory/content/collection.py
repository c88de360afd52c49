"""Garbage collection in small steps: what nothing retains, links to, pins or names as a root goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from amx_server.memory.content.contents import Contents
from amx_server.memory.content.steps import Steps

_AT_ONCE: Final = 32


@dataclass(slots=True)
class Collected:
    """What a collection removed. bytes: plain, of its objects' own."""

    objects: int = 0
    bytes: int = 0
    kept: int = 0  # not referenced, and kept: pinned, a root, or put since the collection before


def collection(contents: Contents, roots: Iterable[bytes]) -> Steps[Collected]:
    """One cycle. The work is proportional to the garbage, not to what is held.

    An object that was put and not yet retained survives the first collection after its last put and goes with the
    second; what was retained and released goes with the first. Content that roots and pins link to is kept by them.
    """
    result = Collected()
    return Steps(_sweep(contents, roots, result), result)


def _sweep(contents: Contents, roots: Iterable[bytes], result: Collected) -> Iterator[None]:
    kept: set[bytes] = set()
    for root in roots:
        kept.add(root)
        if not len(kept) % 256:
            yield
    with contents.lock:
        pending, contents.idle = contents.idle, {}
        cycle = contents.cycle
        contents.cycle += 1
    try:
        while pending:
            with contents.lock:
                for _ in range(min(_AT_ONCE, len(pending))):
                    _consider(contents, pending, kept, cycle, result)
            yield
    finally:
        if pending:
            with contents.lock:
                contents.idle = {**pending, **contents.idle}


def _consider(contents: Contents, pending: dict[bytes, None], kept: set[bytes], cycle: int, result: Collected) -> None:
    address, _ = pending.popitem()
    entry = contents.index.get(address) or contents.lost.get(address)
    if entry is None or entry.refs or entry.parents:
        return
    if address in kept or address in contents.pins or entry.cycle >= cycle:
        contents.idle[address] = None
        result.kept += 1
        return
    result.objects += 1
    result.bytes += entry.size
    for freed in contents.discard(address, entry):
        contents.idle.pop(freed, None)
        pending[freed] = None
