"""The documents hold: checked by scripts/check_docs.py, which is shown here to find what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.check_docs import documents, problems


def test_documents_of_the_project_hold() -> None:
    found = [problem for path in documents() for problem in problems(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[here](missing.md)", "no such file"),
        ("# One\n\n[here](#two)", "no such heading"),
        ("[here]: missing.md", "no such file"),
        ("text\n\n```python\ndef f(:\n```\n", "does not compile"),
        ("install from pypi" + ".org", "names the host"),
    ],
)
def test_document_with_a_mistake_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "page.md"
    path.write_text(text)
    (found,) = problems(path)
    assert complaint in found
    assert found.startswith("page.md:")


def test_document_without_mistakes_passes(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Title: `code` here\n")
    path = tmp_path / "page.md"
    path.write_text(
        "# A heading\n\n[up](#a-heading) [there](other.md#title-code-here) [away](https://example.org) `[no](link)`\n\n"
        "```python\nawait engine.start()\n```\n\n```\n[not](a-link)\n```\n"
    )
    assert problems(path) == []
