"""`amx serve` whose wall clock is off by the seconds in the file AMX_TEST_CLOCK; its monotonic clock is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

from amx_server.cli import main
from amx_server.core.clock import SystemClock

_FILE = Path(os.environ.pop("AMX_TEST_CLOCK"))


def _now_ms(self: SystemClock) -> int:
    return time.time_ns() // 1_000_000 + int(float(_FILE.read_text()) * 1000)


if __name__ == "__main__":
    SystemClock.now_ms = _now_ms  # type: ignore[method-assign]
    main()
