"""What this process takes and may take of memory, as the operating system says."""

from __future__ import annotations

import os
from pathlib import Path

PART_OF_MACHINE = 0.8
"""Part of the machine's memory that an engine may take where nobody has said."""

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def own_bytes() -> int:
    """Bytes of memory that only this process can give back: resident, without files that are mapped into it, which
    the operating system takes away when it needs to. 0 where it does not say.
    """
    try:
        with open("/proc/self/statm", "rb") as file:
            fields = file.read().split()
        return (int(fields[1]) - int(fields[2])) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may take: what its control groups allow, else PART_OF_MACHINE of what there
    is. 0 where the operating system does not say. root: where `proc` and `sys` are.
    """
    machine = _machine_bytes(root)
    limits = [limit for limit in _group_limits(root) if not machine or limit < machine]
    return min(limits) if limits else int(machine * PART_OF_MACHINE)


def _machine_bytes(root: Path) -> int:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _group_limits(root: Path) -> list[int]:
    """Limits of the control groups that this process is in, and of those around them (versions 2 and 1)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, group = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "")
        if controllers == "":
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        here = top / group.lstrip("/")
        # In a container the group may be named as outside of it, while what is mounted begins with its own.
        for folder in (here, *here.parents):
            text = _read(folder / name)
            if text.isdigit():
                limits.append(int(text))
            if folder == top:
                break
    return limits


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
