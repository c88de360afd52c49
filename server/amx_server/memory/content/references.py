"""Retaining and releasing content, in batches that are applied as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from amx_server.memory.content.contents import Contents
from amx_server.memory.content.entry import Entry
from amx_server.memory.content.errors import content_not_retained
from amx_server.memory.content.options import Owner


class Node(NamedTuple):
    """Content that links to other content."""

    links: tuple[bytes, ...]
    body: bytes


def update(
    contents: Contents, retain: Iterable[bytes], release: Iterable[bytes], owner: Owner, over_quota: bool = False
) -> None:
    """See ContentStore.update."""
    retain, release = list(retain), list(release)
    with contents.lock:
        taken = [contents.entry(address) for address in retain]
        given = _retained(contents, release, owner)
        for entry in taken:
            entry.refs += 1
        for at, entry in enumerate(given):
            entry.refs -= 1
            if entry.refs < 0:
                _undo(taken, given[: at + 1])
                raise content_not_retained(release[at], str(owner))
        try:
            difference = sum([one.weight for one in taken]) - sum([one.weight for one in given])
            contents.ledger.charge(owner, difference, over_quota)
        except BaseException:
            _undo(taken, given)
            raise
        for address, entry in zip(retain, taken, strict=True):
            contents.idle.pop(address, None)
            contents.recount(address)
            contents.save_soon(address, entry)
        for address, entry in zip(release, given, strict=True):
            contents.recount(address)
            if not entry.refs and not entry.parents:
                contents.idle[address] = None


def _retained(contents: Contents, release: list[bytes], owner: Owner) -> list[Entry]:
    given = []
    for address in release:
        entry = contents.index.get(address) or contents.lost.get(address)
        if entry is None:
            raise content_not_retained(address, str(owner))
        given.append(entry)
    return given


def _undo(taken: list[Entry], given: list[Entry]) -> None:
    for entry in taken:
        entry.refs -= 1
    for entry in given:
        entry.refs += 1
