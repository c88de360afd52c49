"""Compiles amx/wire.py with mypyc, beside its source: `make setup` does so where a C compiler is at hand.

Everything works without it: the generated protobuf classes then read what the compiled module would have read.
`--check` says whether the compiled module is there and current.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "amx"
SOURCE = PACKAGE / "wire.py"
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX") or ".so"
BUILT = (PACKAGE / f"wire{SUFFIX}", PACKAGE / f"wire__mypyc{SUFFIX}")
BUILD = """
from mypyc.build import mypycify
from setuptools import setup

flags = ["--config-file=", "--namespace-packages", "--explicit-package-bases"]
setup(name="amx-wire", packages=[], ext_modules=mypycify([*flags, "amx/wire.py"], opt_level="3", debug_level="0"))
"""


def current() -> bool:
    """Whether the compiled module is there and not older than its source."""
    return all(path.is_file() and path.stat().st_mtime >= SOURCE.stat().st_mtime for path in BUILT)


def why_not() -> str:
    """What is missing to compile here; empty if nothing is."""
    if sys.implementation.name != "cpython":
        return f"mypyc compiles for CPython, this is {sys.implementation.name}"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if os.name != "nt" and not shutil.which(compiler):
        return f"there is no C compiler ({compiler})"
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return "Python's C headers are not installed (on Debian and Ubuntu: python3-dev)"
    return ""


def compile_wire() -> str:
    """Compiles and puts the result in place. Returns why it could not; empty if it could."""
    with tempfile.TemporaryDirectory(prefix="amx-wire-") as folder:
        # Elsewhere: setuptools would read the project's own build settings, and leave its traces beside them.
        shutil.copytree(PACKAGE, Path(folder, "amx"), ignore=shutil.ignore_patterns("__pycache__", f"*{SUFFIX}"))
        Path(folder, "setup.py").write_text(BUILD)
        done = subprocess.run(
            [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
            cwd=folder,
            env={**os.environ, "MYPYPATH": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            return f"compiling failed:\n{done.stdout}"
        for built in BUILT:
            # Replaced, not overwritten: a running process may have the old one mapped.
            fresh = built.with_suffix(".new")
            shutil.copy(Path(folder, "amx", built.name), fresh)
            fresh.replace(built)
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compile nothing; exit with 1 if it would be needed")
    if parser.parse_args().check:
        return 0 if current() else 1
    if current():
        return 0
    for built in BUILT:
        built.unlink(missing_ok=True)  # better none than one that is not what the source says
    if reason := why_not() or compile_wire():
        print(f"amx.wire stays uncompiled, links are about a third slower: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
