"""What a store holds, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from amx_server.memory.content.contents import Contents
from amx_server.memory.content.options import ENTRY_BYTES
from amx_server.memory.content.reading import Reader


@dataclass(frozen=True, slots=True)
class TierStats:
    """One tier. bytes: as it holds them, plain or packed. budget: 0 means without limit. hits: approximate."""

    objects: int
    bytes: int
    plain_bytes: int
    budget: int
    hits: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Sizes in bytes.

    plain_bytes: of all objects, each once. retained_bytes: of everything retained, as often as it is. index_bytes: an
    estimate. disk_bytes: of all files; live_bytes: the part of them that is needed. dedup_ratio: retained to plain.
    compression_ratio: plain to stored, of what lies on disk. Ratios are 1 where there is nothing to compare.
    """

    objects: int
    unreferenced: int
    lost: int
    plain_bytes: int
    retained_bytes: int
    index_bytes: int
    hot: TierStats
    warm: TierStats
    cold: TierStats
    segments: int
    disk_bytes: int
    live_bytes: int
    dictionary: int  # number of the one in use; 0: none
    dedup_ratio: float
    compression_ratio: float
    puts: int
    puts_known: int
    compacted_bytes: int
    damages: int
    upkeep_failure: str  # why the latest upkeep could not go on; empty: it could


def measure(
    contents: Contents,
    reader: Reader,
    *,
    hits: int,
    puts: int,
    puts_known: int,
    compacted_bytes: int,
    upkeep_failure: str,
) -> Stats:
    """The numbers now. Costs little; with other threads at work they may be of slightly different moments."""
    log = contents.log
    segments = list(log.segments.values()) if log is not None else []
    live = sum(segment.live for segment in segments)
    retained, plain = contents.ledger.total, contents.plain_bytes
    current = contents.codec.current
    return Stats(
        objects=len(contents.index),
        unreferenced=len(contents.idle),
        lost=len(contents.lost),
        plain_bytes=plain,
        retained_bytes=retained,
        index_bytes=len(contents.index) * ENTRY_BYTES,
        hot=TierStats(
            len(contents.hot), contents.hot.bytes, contents.hot.plain_bytes, contents.hot.budget, reader.hot_hits + hits
        ),
        warm=TierStats(
            len(contents.warm), contents.warm.bytes, contents.warm.plain_bytes, contents.warm.budget, reader.warm_hits
        ),
        cold=TierStats(
            contents.cold_objects, live, contents.cold_plain_bytes, contents.options.cold_bytes, reader.cold_hits
        ),
        segments=len(segments),
        disk_bytes=log.size if log is not None else 0,
        live_bytes=live,
        dictionary=current if current > 1 else 0,
        dedup_ratio=retained / plain if retained and plain else 1.0,
        compression_ratio=contents.cold_plain_bytes / live if live and contents.cold_plain_bytes else 1.0,
        puts=puts,
        puts_known=puts_known,
        compacted_bytes=compacted_bytes,
        damages=len(contents.damages),
        upkeep_failure=upkeep_failure,
    )
