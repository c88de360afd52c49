"""Writes requirements.lock: every package the project and its development need, pinned and hashed, for any platform.

Run it through `make lock` after a dependency changed; `make lock UPGRADE=1` also takes newer releases the bounds allow.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-lock"
LOCK = ROOT / "requirements.lock"
RESOLVER = "uv==0.13.8"
HEADER = "# Written by `make lock` from pyproject.toml and sdk-python/pyproject.toml. Python >= 3.11, any platform.\n"
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def resolver() -> Path:
    """The resolver's command, installed in its own environment when absent."""
    bin_dir = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
    stamp = ENVIRONMENT / "pins.txt"
    if not stamp.is_file() or stamp.read_text() != RESOLVER:
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        subprocess.run(
            [bin_dir / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", RESOLVER], check=True
        )
        stamp.write_text(RESOLVER)
    return bin_dir / "uv"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases that the bounds allow")
    arguments = parser.parse_args()
    command: list[str | Path] = [
        resolver(), "pip", "compile", "pyproject.toml", "sdk-python/pyproject.toml",
        "--extra", "dev", "--extra", "demo", "--extra", "examples",
        "--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-package", "amx-engine-python",
        "--no-header", "--no-annotate", "--quiet", "--output-file", LOCK,
    ]  # fmt: skip
    if arguments.upgrade:
        command.append("--upgrade")
    environment = dict(os.environ)
    if SYSTEM_CERTIFICATES.is_file():  # the resolver brings its own list of authorities; this machine's may hold more
        environment.setdefault("SSL_CERT_FILE", str(SYSTEM_CERTIFICATES))
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    LOCK.write_text(HEADER + LOCK.read_text().removeprefix(HEADER))
    print(f"wrote {LOCK.name}: {sum('==' in line for line in LOCK.read_text().splitlines())} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
