"""Builds an SDK a second time, elsewhere and under other circumstances, and compares with what `make` built.

`python scripts/check_reproducible.py [sdk-java | sdk-kotlin]`, the former unless said. Exit status 1 names every
archive that differs, and what differs in it. The second build is in another folder, in another time zone and language.
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
# What a build reads, and what makes the first one.
SOURCES = {
    "sdk-java": ("sdk-java", "proto", "examples/java"),
    "sdk-kotlin": ("sdk-kotlin", "sdk-java", "proto", "examples/java", "examples/kotlin"),
}
MAKE = {"sdk-java": "make java", "sdk-kotlin": "make kotlin"}
# Dokka names files by the small letters of the language, and stumbles over those of Turkish.
LANGUAGES = {"sdk-java": ("tr", "TR"), "sdk-kotlin": ("fr", "FR")}
OPTIONS = ("--batch-mode", "--no-transfer-progress", "-q", "-Dmaven.test.skip=true")


def main(sdk: str = "sdk-java") -> int:
    """Returns the exit status."""
    if sdk not in SOURCES:
        print(f"there is no {sdk}; there are: {', '.join(SOURCES)}", file=sys.stderr)
        return 2
    if shutil.which("mvn") is None:
        print(f"{sdk} needs a JDK 17 or newer, and Maven", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="amx-second-build-") as directory:
        second = Path(directory) / "another" / "place"
        build(sdk, second)
        archives = published(second / sdk)
        if not archives:
            print("the second build made no archives", file=sys.stderr)
            return 1
        different = [text for archive in archives for text in compare(sdk, archive, second / sdk / archive)]
    for text in different:
        print(text, file=sys.stderr)
    if different:
        hint = f"if sources changed since, or files were deleted: mvn -f {sdk}/pom.xml clean, {MAKE[sdk]}"
        print(hint, file=sys.stderr)
        return 1
    print(f"{len(archives)} archives are the same, byte for byte, in a second build")
    return 0


def build(sdk: str, folder: Path) -> None:
    """Builds the SDK's sources in a folder, which is made. Raises CalledProcessError if that fails."""
    for name in SOURCES[sdk]:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("target"))
    zone = "Pacific/Apia" if os.environ.get("TZ") != "Pacific/Apia" else "America/St_Johns"
    language, country = LANGUAGES[sdk]
    maven = f"{os.environ.get('MAVEN_OPTS', '')} -Duser.language={language} -Duser.country={country}"
    environment = {**os.environ, "TZ": zone, "LC_ALL": "C", "MAVEN_OPTS": maven.strip()}
    command = ["mvn", *OPTIONS, "-f", str(folder / sdk / "pom.xml"), "verify"]
    subprocess.run(command, cwd=folder, env=environment, check=True)


def published(folder: Path) -> list[Path]:
    """What goes to others: the archives of the modules that are installed, relative to the SDK's folder."""
    return sorted(
        archive.relative_to(folder)
        for archive in folder.glob("*/target/*.jar")
        if "<maven.install.skip>true" not in (archive.parents[1] / "pom.xml").read_text()
    )


def compare(sdk: str, archive: Path, theirs: Path) -> list[str]:
    """What differs between an archive and that of the second build; empty: not a byte."""
    ours = ROOT / sdk / archive
    name = str(ours.relative_to(ROOT))
    if not ours.is_file():
        return [f"{name} is not built; {MAKE[sdk]}"]
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
    sys.exit(main(*sys.argv[1:2]))
