"""A folder for what was found damaged, as it was found, so that a person may look at it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from amx_server.memory.content.contents import Contents
from amx_server.memory.content.entry import Location

_FILES_KEPT: Final = 1000


class Quarantine:
    """Keeps up to 1,000 damaged records, named by address, segment and offset. Never raises."""

    def __init__(self, contents: Contents, folder: Path | None) -> None:
        self._contents = contents
        self._folder = folder

    def keep(self, address: bytes, location: int) -> str:
        """Copies the payload at a location; returns the location in words."""
        where = Location.unpack(location)
        log = self._contents.log
        if log is None or self._folder is None:
            return "memory"
        try:
            segment = log.segments[where.segment]
            payload = segment.read(where.offset, where.stored)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if len(os.listdir(self._folder)) < _FILES_KEPT:
                (self._folder / f"{address.hex()}-{where.segment}-{where.offset}").write_bytes(payload)
        except (OSError, KeyError):
            pass
        return f"segment {where.segment}, offset {where.offset}"

    def keep_file(self, path: Path) -> None:
        """Moves a file that is no segment out of the way."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path.replace(self._folder / path.name)
        except OSError:
            pass
