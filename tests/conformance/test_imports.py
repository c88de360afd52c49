"""Over standard input and output the runner needs the standard library and protobuf, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ALLOWED = {"amx", "conformance", "google"}

PROGRAM = """
import sys
before = set(sys.modules)
import conformance.runner.sdk_steps, conformance.runner.stdio, conformance.runner.outcomes, conformance.runner.reports
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print("\\n".join(sorted(name for name in loaded if name not in sys.stdlib_module_names and not name.startswith("_"))))
"""


def test_stdio_runner_imports_the_standard_library_and_protobuf_only(repository: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=repository, capture_output=True, text=True, check=True, timeout=60
    )
    assert set(found.stdout.split()) <= ALLOWED
