"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from amx_server.cli.exits import FAILED

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def end_with_parent(parent: int) -> None:
    """Makes the kernel kill this process when `parent`, which started it, dies: whatever runs, even code that holds
    the interpreter lock.

    Linux only. Elsewhere, and beside this, a process notices that its socket to the parent has ended as soon as its
    event loop runs.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(FAILED)  # it died before this was said
