"""What a process takes of the machine's memory, as Linux accounts for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amx_server.core.errors import UNIMPLEMENTED, AmxError


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes. pss: its proportional set size: private pages, and of each shared one the part that falls to it.
    private: pages that no other process has.
    """

    pss: int
    private: int


def footprint(pid: int) -> Footprint:
    """Of one process, from /proc. Raises AmxError NOT_ON_THIS_SYSTEM elsewhere, ProcessLookupError when it is gone."""
    path = Path(f"/proc/{pid}/smaps_rollup")
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        if Path("/proc/self/smaps_rollup").exists():
            raise ProcessLookupError(f"there is no process {pid}") from None
        raise AmxError(
            UNIMPLEMENTED, "NOT_ON_THIS_SYSTEM", "only Linux says what a process takes (smaps_rollup); run it there"
        ) from None
    sizes = {name: int(value) * 1024 for name, value in (_field(line) for line in lines[1:])}
    return Footprint(sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def extrapolated(processes: Sequence[Footprint], count: int) -> int:
    """Bytes of `count` such processes, from a few that ran at the same time: what is private once for each, what is
    shared once for all.
    """
    shared = sum(one.pss - one.private for one in processes)
    return shared + sum(one.private for one in processes) * count // len(processes)


def _field(line: str) -> tuple[str, str]:
    name, _, rest = line.partition(":")
    return name, rest.split()[0]
