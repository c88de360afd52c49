"""Programs on the JVM that are measured: sdk-java/benchmarks and sdk-kotlin/benchmarks, as Maven has built them."""

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

# By language: its folder, the package of its programs, and who builds them.
_SDKS = {
    "java": ("sdk-java", "com.aimatrix.engine.benchmarks", "make java"),
    "kotlin": ("sdk-kotlin", "com.aimatrix.engine.kotlin.benchmarks", "make kotlin"),
}
_TIMEOUT_S = 60.0


def command(language: str, program: str) -> list[str]:
    """Command line of an SDK's Worker or Hello. Raises Absent without a JVM, or before it is built."""
    java = shutil.which("java")
    if java is None:
        raise Absent("there is no JVM here")
    folder, package, maker = _SDKS[language]
    jar = ROOT / folder / "benchmarks" / "target" / "benchmarks.jar"
    if not jar.is_file():
        raise Absent(f"{folder} is not built; `{maker}` does that")
    return [java, "-cp", str(jar), f"{package}.{program}"]


async def start_of_hello(language: str, directory: Path, environment: dict[str, str], address: str) -> Figures:
    """Milliseconds from the start of a JVM until an agent it hosts has answered a request through the engine.

    Raises Absent as command() does, and BenchmarkError if the program does not say what it should.
    """
    argv = command(language, "Hello")
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
