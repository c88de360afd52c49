"""Checks README.md, CONTRIBUTING.md, CHANGELOG.md and docs/*.md: links resolve, code compiles, no registry is named.

Nothing is fetched: addresses on the network are not visited, code is compiled and not run.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
REGISTRIES = re.compile(
    r"\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:com|org)|registry\.yarnpkg|repo1?\.maven|crates\.io|proxy\.golang)\b"
)


def documents() -> list[Path]:
    """The documents that are checked."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [path for path in [*found, *sorted((ROOT / "docs").rglob("*.md"))] if path.is_file()]


def anchors(text: str) -> set[str]:
    """The fragments that a document's headings can be reached by."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (candidate := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(candidate)
    return found


def line_of(text: str, position: int) -> int:
    """The line number of a position in a text."""
    return text.count("\n", 0, position) + 1


def link_problems(path: Path, text: str) -> Iterator[str]:
    """Relative links whose file or heading does not exist. Addresses on the network are not visited."""
    prose = FENCE.sub(lambda match: "\n" * match.group().count("\n"), text)
    prose = re.sub(r"`[^`\n]*`", lambda match: " " * len(match.group()), prose)
    for match in LINK.finditer(prose):
        target = match.group(1) or match.group(2)
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, fragment = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        where = f"{path.name}:{line_of(prose, match.start())}"
        if not file.exists():
            yield f"{where}: link to {target}: there is no such file"
        elif fragment and file.suffix == ".md" and fragment not in anchors(file.read_text()):
            yield f"{where}: link to {target}: {file.name} has no such heading"


def code_problems(path: Path, text: str) -> Iterator[str]:
    """Python blocks that do not compile. Top-level `await` is allowed, as in `python -m asyncio`."""
    for match in FENCE.finditer(text):
        if match.group(2) != "python":
            continue
        first = line_of(text, match.start(3))
        try:
            compile(match.group(3), path.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        except SyntaxError as error:
            yield f"{path.name}:{first + (error.lineno or 1) - 1}: this Python does not compile: {error.msg}"


def registry_problems(path: Path, text: str) -> Iterator[str]:
    """Mentions of package registries' hosts: the documents say what to install, not from where."""
    for match in REGISTRIES.finditer(text):
        yield f"{path.name}:{line_of(text, match.start())}: names the host {match.group()}; leave it out"


def problems(path: Path) -> list[str]:
    """Everything wrong with one document, one sentence each."""
    text = path.read_text()
    return [*link_problems(path, text), *code_problems(path, text), *registry_problems(path, text)]


def main() -> int:
    checked = documents()
    found = [problem for path in checked for problem in problems(path)]
    print("\n".join(found) if found else f"{len(checked)} documents: links resolve and code compiles")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
