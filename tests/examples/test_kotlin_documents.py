"""Kotlin in the documents is, word for word, in sources that `make kotlin` compiles and runs."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from scripts.check_docs import FENCE, documents

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "examples" / "kotlin" / "src").rglob("*.kt"))


def plain(text: str) -> list[str]:
    """The lines of a piece of code, as deep as it is deep, without empty ones at its ends."""
    return textwrap.dedent(text).strip().splitlines()


def shown(piece: list[str], source: list[str]) -> bool:
    """Whether lines follow each other in a source, wherever they are indented to there."""
    size = len(piece)
    return any(plain("\n".join(source[at : at + size])) == piece for at in range(len(source) - size + 1))


BLOCKS = [
    (path, number, match.group(3))
    for path in documents()
    for number, match in enumerate(FENCE.finditer(path.read_text()))
    if match.group(2) == "kotlin"
]


@pytest.mark.parametrize(
    ("document", "block"),
    [pytest.param(path, block, id=f"{path.name}:{number}") for path, number, block in BLOCKS],
)
def test_kotlin_of_the_documents_is_compiled_and_run(document: Path, block: str) -> None:
    piece = plain(block)
    assert piece
    found = [path for path in SOURCES if shown(piece, path.read_text().splitlines())]
    assert found, f"no file of examples/kotlin/src holds these lines of {document.name}; change either:\n{block}"


def test_lines_that_no_source_holds_are_noticed() -> None:
    source = ["class A {", "    fun b() {", "        c()", "    }", "}"]
    assert shown(["fun b() {", "    c()", "}"], source)
    assert not shown(["fun b() {", "    d()", "}"], source)
    assert not shown(["fun b() {", "c()", "}"], source)
