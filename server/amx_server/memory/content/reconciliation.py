"""Setting references to what is true, when only the caller knows that: after a crash, before anything else happens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from amx_server.memory.content.contents import Contents
from amx_server.memory.content.entry import UNKNOWN, Entry
from amx_server.memory.content.options import Owner


@dataclass(slots=True)
class Reconciled:
    """What was found. missing: addresses that something references, and whose content is gone."""

    corrected: int = 0  # addresses whose count was not the true one
    missing: list[bytes] = field(default_factory=list)


def reconcile(contents: Contents, references: Iterable[tuple[Owner, bytes, int]]) -> Reconciled:
    """See ContentStore.reconcile."""
    counts: dict[bytes, int] = {}
    held: dict[Owner, int] = {}
    result = Reconciled()
    with contents.lock:
        for owner, address, count in references:
            counts[address] = counts.get(address, 0) + count
            entry = contents.index.get(address) or contents.lost.get(address)
            held[owner] = held.get(owner, 0) + (entry.weight * count if entry is not None else 0)
        for address, entry in [*contents.index.items(), *contents.lost.items()]:
            count = counts.pop(address, 0)
            if entry.refs != count:
                _restate(contents, address, entry, count)
                result.corrected += 1
        for address, count in counts.items():
            if count:
                entry = contents.lost[address] = Entry(address, UNKNOWN)
                _restate(contents, address, entry, count)
                result.corrected += 1
        result.missing = [address for address, entry in contents.lost.items() if entry.refs or entry.parents]
        for owner in {*held, *contents.ledger.held}:
            contents.ledger.set(owner, held.get(owner, 0))
    return result


def _restate(contents: Contents, address: bytes, entry: Entry, count: int) -> None:
    entry.refs = count
    contents.recount(address)
    if count:
        contents.idle.pop(address, None)
        contents.save_soon(address, entry)
    elif not entry.parents:
        contents.idle[address] = None
