"""Holds the inner bookkeeping of a content store to what it should follow from, and simulates a killed process."""

from __future__ import annotations

from collections import Counter

from amx_server.memory.content import ContentStore, Owner
from amx_server.memory.content.entry import CHUNKED, NOWHERE, Location
from amx_server.memory.content.records import COUNT_BYTES, HEADER_BYTES


def audit(store: ContentStore) -> None:
    """Every derived number equals what it is derived from."""
    contents = store._contents
    everything = {**contents.index, **contents.lost}
    assert not contents.index.keys() & contents.lost.keys()
    parents = Counter(link for entry in everything.values() for link in entry.links)
    for address, entry in everything.items():
        assert entry.parents == parents[address], f"{address.hex()}: {entry.parents} parents, not {parents[address]}"
        assert (address in contents.idle) == (not entry.refs and not entry.parents), f"idle: {address.hex()}"
    assert contents.idle.keys() <= everything.keys()
    for tier in (contents.hot, contents.warm):
        assert not tier.young.keys() & tier.old.keys()
        assert (tier.young.keys() | tier.old.keys()) <= contents.index.keys()
    assert contents.hot.bytes == sum(map(len, [*contents.hot.young.values(), *contents.hot.old.values()]))
    assert contents.hot.young_bytes == sum(map(len, contents.hot.young.values()))
    assert contents.warm.bytes == sum(
        len(packed.body) for packed in [*contents.warm.young.values(), *contents.warm.old.values()]
    )
    assert contents.plain_bytes == sum(entry.size for entry in contents.index.values() if entry.kind != CHUNKED)
    for address, entry in contents.index.items():
        somewhere = address in contents.hot or address in contents.warm or entry.cold != NOWHERE
        assert somewhere or entry.kind == CHUNKED, f"{address.hex()} is in no tier"
    if contents.log is not None:
        _audit_log(store)


def _audit_log(store: ContentStore) -> None:
    contents = store._contents
    log = contents.log
    assert log is not None
    live: Counter[int] = Counter()
    users: Counter[int] = Counter()
    for entry in contents.index.values():
        if entry.cold != NOWHERE:
            where = Location.unpack(entry.cold)
            live[where.segment] += where.stored + HEADER_BYTES
            users[where.codec] += where.codec >= 16
    for entry in [*contents.index.values(), *contents.lost.values()]:
        if entry.counted_in:
            live[entry.counted_in] += COUNT_BYTES
    for codec, segment in contents.dictionaries_at.items():
        live[segment] += HEADER_BYTES + len(contents.codec.dictionary(codec))
    assert {number: segment.live for number, segment in log.segments.items() if segment.live} == +live
    assert +users == +contents.codec_users
    assert all(codec in contents.dictionaries_at for codec in +users)
    assert log.size == sum(segment.path.stat().st_size for segment in log.segments.values())
    for address, entry in contents.index.items():
        if entry.refs and entry.cold == NOWHERE:
            assert address in contents.unsaved, f"{address.hex()} would not be saved"


def abandon(store: ContentStore) -> None:
    """Lets go of a store's files as a killed process does: what was not flushed is not."""
    if store._thread is not None:
        store._thread.close()
    store._closed = True
    if store._contents.log is not None:
        store._contents.log.close()
    if store._lock is not None:
        store._lock.release()


def owners(store: ContentStore) -> dict[Owner, int]:
    """What every owner holds."""
    return dict(store._contents.ledger.held)
