"""Builds the Java SDK a second time, elsewhere and under other circumstances, and compares with what `make java` built.

`python scripts/check_reproducible.py`. Exit status 1 names every archive that differs, and what differs in it. The
second build is in another folder, in another time zone and language.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SDK = "sdk-java"
OPTIONS = ("--batch-mode", "--no-transfer-progress", "-q", "-Dmaven.test.skip=true")


def main() -> int:
    """Returns the exit status."""
    if shutil.which("mvn") is None:
        print("the Java SDK needs a JDK 17 or newer, and Maven", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="amx-second-build-") as directory:
        second = Path(directory) / "another" / "place"
        build(second)
        archives = published(second)
        if not archives:
            print("the second build made no archives", file=sys.stderr)
            return 1
        different = [text for archive in archives for text in compare(ROOT / archive, second / archive)]
    for text in different:
        print(text, file=sys.stderr)
    if different:
        print(
            "if sources changed since, or files were deleted: mvn -f sdk-java/pom.xml clean, make java", file=sys.stderr
        )
        return 1
    print(f"{len(archives)} archives are the same, byte for byte, in a second build")
    return 0


def build(folder: Path) -> None:
    """Builds the SDK's sources in a folder, which is made. Raises CalledProcessError if that fails."""
    for name in (SDK, "proto", "examples/java"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("target"))
    zone = "Pacific/Apia" if os.environ.get("TZ") != "Pacific/Apia" else "America/St_Johns"
    maven = " ".join((os.environ.get("MAVEN_OPTS", ""), "-Duser.language=tr", "-Duser.country=TR"))
    environment = {**os.environ, "TZ": zone, "LC_ALL": "C", "MAVEN_OPTS": maven.strip()}
    command = ["mvn", *OPTIONS, "-f", str(folder / SDK / "pom.xml"), "verify"]
    subprocess.run(command, cwd=folder, env=environment, check=True)


def published(folder: Path) -> list[Path]:
    """What goes to others: the archives of the modules that are installed, relative to the folder."""
    return sorted(
        archive.relative_to(folder)
        for archive in (folder / SDK).glob("*/target/*.jar")
        if "<maven.install.skip>true" not in (archive.parents[1] / "pom.xml").read_text()
    )


def compare(ours: Path, theirs: Path) -> list[str]:
    """What differs between two archives; empty: not a byte."""
    name = str(ours.relative_to(ROOT))
    if not ours.is_file():
        return [f"{name} is not built; make java"]
    if ours.read_bytes() == theirs.read_bytes():
        return []
    with zipfile.ZipFile(ours) as left, zipfile.ZipFile(theirs) as right:
        entries = sorted({*left.namelist(), *right.namelist()})
        wrong = [entry for entry in entries if content(left, entry) != content(right, entry)]
    return [f"{name}: {entry} differs" for entry in wrong] or [f"{name}: order, times or permissions of entries differ"]


def content(archive: zipfile.ZipFile, entry: str) -> bytes | None:
    """An entry's bytes; None: it is not there."""
    return archive.read(entry) if entry in archive.namelist() else None


if __name__ == "__main__":
    sys.exit(main())
