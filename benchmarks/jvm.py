"""Programs of the Java SDK that are measured: sdk-java/benchmarks, as Maven has built it."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

from benchmarks.load import Figures
from benchmarks.processes import ROOT, Absent, BenchmarkError

# A JVM compiles what is hot while it runs, on the same two cores: it gets this many more windows of load beforehand.
COMPILING = 2

_JAR = ROOT / "sdk-java" / "benchmarks" / "target" / "benchmarks.jar"
_PACKAGE = "com.aimatrix.engine.benchmarks"
_TIMEOUT_S = 60.0


def command(program: str) -> list[str]:
    """Command line of a program of sdk-java/benchmarks. Raises Absent without a JVM, or before it is built."""
    java = shutil.which("java")
    if java is None:
        raise Absent("there is no JVM here")
    if not _JAR.is_file():
        raise Absent("the Java SDK is not built; `make java` does that")
    return [java, "-cp", str(_JAR), f"{_PACKAGE}.{program}"]


async def start_of_hello(directory: Path, environment: dict[str, str], address: str) -> Figures:
    """Milliseconds from the start of a JVM until an agent it hosts has answered a request through the engine.

    Raises Absent as command() does, and BenchmarkError if the program does not say what it should.
    """
    argv = command("Hello")
    log = directory / "hello.log"
    with log.open("wb") as errors:
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **environment, "AMX_ADDRESS": address},
            cwd=directory,
        )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _TIMEOUT_S)
        took = time.perf_counter() - began
        ended = await asyncio.wait_for(process.wait(), _TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise BenchmarkError(f"process hello: did not end within {_TIMEOUT_S:.0f} s") from None
    if ended != 0 or not line.startswith(b"Hello, Ada! This is time"):
        said = line.decode(errors="replace") + log.read_text(errors="replace")[-1000:]
        raise BenchmarkError(f"process hello: ended with {ended}\n{said}")
    return {"start_ms": took * 1000}
