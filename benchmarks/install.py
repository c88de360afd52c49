"""Installs the systems we compare with into .peers, each into an environment of its own, at pinned versions.

Nothing outside .peers is touched. A peer that cannot be installed is named, and the others go on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.systems import PEERS

PYTHON_PACKAGES = {
    "autogen": ("autogen-core==0.7.5", "autogen-ext[grpc]==0.7.5"),
    "openai": ("openai==3.54.0",),
    "nats": ("nats-py==2.16.0",),
    "ray": ("ray==2.60.0",),
    "restate": ("restate-sdk==1.3.0", "hypercorn==0.18.0", "aiohttp==3.14.5"),
}
_NATS_SERVER = "github.com/nats-io/nats-server/v2@v2.14.9"
_RESTATE_SERVER = "@restatedev/restate-server@1.7.12"


class InstallError(Exception):
    """A peer could not be installed; the text says why and what would help."""


def install(only: str | None = None) -> list[str]:
    """Installs every peer, or one. Prints progress. Returns the names of those that failed."""
    names = [only] if only else list(PYTHON_PACKAGES)
    steps = [(name, step) for name in names for step in _steps(name)]
    failed: list[str] = []
    for number, (name, (what, step)) in enumerate(steps, start=1):
        print(f"peers {number}/{len(steps)}: {name}: {what}", flush=True)
        if name in failed:
            continue
        try:
            step()
        except (InstallError, OSError) as error:
            print(f"  {error}", file=sys.stderr)
            failed.append(name)
    return failed


def _steps(name: str) -> list[tuple[str, Callable[[], None]]]:
    directory = PEERS / name
    steps = [(" ".join(PYTHON_PACKAGES[name]), lambda: _python_environment(directory, PYTHON_PACKAGES[name]))]
    if name == "nats":
        steps.append((_NATS_SERVER, lambda: _nats_server(directory / "bin")))
    if name == "restate":
        steps.append((_RESTATE_SERVER, lambda: _restate_server(directory / "node")))
    return steps


def _run(argv: list[str], **environment: str) -> None:
    done = subprocess.run(argv, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InstallError(f"`{' '.join(argv)}` ended with {done.returncode}: {done.stderr.strip()[-1000:]}")


def _python_environment(directory: Path, packages: tuple[str, ...]) -> None:
    _run([sys.executable, "-m", "venv", str(directory)])
    _run([str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages])


def _nats_server(binaries: Path) -> None:
    """Built by Go where there is one; else the distribution's package, unpacked; else what the machine has."""
    if go := shutil.which("go"):
        _run([go, "install", _NATS_SERVER], GOBIN=str(binaries))
    elif shutil.which("apt-get") and shutil.which("dpkg-deb"):
        _nats_server_from_debian(binaries)
    elif shutil.which("nats-server") is None:
        raise InstallError("nats-server needs Go, or a Debian-like system, or nats-server on the PATH; install one")


def _nats_server_from_debian(binaries: Path) -> None:
    download = binaries.parent / "debian"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir(parents=True)
    done = subprocess.run(
        ["apt-get", "download", "nats-server"], cwd=download, capture_output=True, text=True, check=False
    )
    package = next(download.glob("nats-server_*.deb"), None)
    if done.returncode != 0 or package is None:
        raise InstallError(f"`apt-get download nats-server` failed: {done.stderr.strip()[-1000:]}")
    _run(["dpkg-deb", "--extract", str(package), str(download)])
    shutil.copy2(download / "usr" / "sbin" / "nats-server", binaries / "nats-server")


def _restate_server(directory: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise InstallError("restate-server ships as an npm package; install Node.js with npm")
    directory.mkdir(parents=True, exist_ok=True)
    # Its install scripts only report usage; nothing needs them.
    _run([npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(directory), _RESTATE_SERVER])
