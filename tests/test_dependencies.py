"""docs/dependencies.md gives the reason of every dependency and of nothing else; the lock file holds them all."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import amx_engine
from amx_server.core.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "dependencies.md"
HEADINGS = {"The engine": "engine", "The Python SDK": "sdk"}


def test_versions_in_python_are_those_of_the_packages() -> None:
    """They are constants, as reading them from installed packages takes every process a megabyte and 15 ms."""
    for project, version in ((ROOT, VERSION), (ROOT / "sdk-python", amx_engine.__version__)):
        assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"] == version


def name_of(requirement: str) -> str:
    """The package that a requirement names, in its normal spelling."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def declared() -> dict[str, set[str]]:
    """Dependencies by where they are needed: engine, sdk, and one entry for each extra."""
    engine = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sdk = tomllib.loads((ROOT / "sdk-python" / "pyproject.toml").read_text())["project"]
    found = {"engine": set(map(name_of, engine["dependencies"])), "sdk": set(map(name_of, sdk["dependencies"]))}
    for project in (engine, sdk):
        for extra, requirements in project.get("optional-dependencies", {}).items():
            found.setdefault(extra, set()).update(map(name_of, requirements))
    return found


def documented() -> dict[str, set[str]]:
    """Packages by section of the document; an extra's section names it as `[extra]`."""
    found: dict[str, set[str]] = {}
    section = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            extra = re.search(r"\[([a-z0-9-]+)\]", line)
            section = extra.group(1) if extra else HEADINGS.get(line[3:], "")
        elif section and (entry := re.match(r"- `([^`]+)`: \S", line)):
            found.setdefault(section, set()).add(entry.group(1))
    return found


def imported(root: Path) -> dict[str, set[str]]:
    """Distributions that may hold each third-party package imported below `root`, by the package's name."""
    own = {"amx", "amx_engine", "amx_server"}
    names = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    installed = packages_distributions()
    return {name: set(map(name_of, installed.get(name, [name]))) for name in names - own - set(sys.stdlib_module_names)}


@pytest.mark.parametrize(
    ("root", "where"), [("server/amx_server", "engine"), ("sdk-python/amx_engine", "sdk")], ids=["engine", "sdk"]
)
def test_imported_packages_are_declared(root: str, where: str) -> None:
    extras = set().union(*(names for extra, names in declared().items() if extra not in ("engine", "sdk", "dev")))
    wanted = declared()[where] | extras
    undeclared = {name for name, holders in imported(ROOT / root).items() if not holders & wanted}
    assert not undeclared, f"imported below {root}, and not declared: {sorted(undeclared)}"


@pytest.mark.parametrize("where", sorted(declared()))
def test_dependency_has_its_reason(where: str) -> None:
    missing = declared()[where] - documented().get(where, set())
    assert not missing, f"add a line to {DOCUMENT.name} for: {sorted(missing)}"


def test_reasons_are_for_present_dependencies() -> None:
    for where, names in documented().items():
        gone = names - declared().get(where, set())
        assert not gone, f"{DOCUMENT.name} still explains: {sorted(gone)}"


def test_lock_pins_every_dependency() -> None:
    pinned = {name_of(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    missing = set().union(*declared().values()) - pinned - {"amx-engine-python", "amx-engine"}
    assert not missing, f"run `make lock`; it does not hold: {sorted(missing)}"


def test_lock_pins_with_hashes_and_names_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^\S+==\S+.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+", text, re.MULTILINE)
    assert len(entries) == sum("==" in line for line in text.splitlines())
    assert "://" not in text


@pytest.mark.parametrize(
    ("heading", "kind"),
    [("The TypeScript SDK", "dependencies"), ("Development of the TypeScript SDK", "devDependencies")],
)
def test_typescript_dependency_has_its_reason_bounds_and_place_in_the_lock_file(heading: str, kind: str) -> None:
    wanted = json.loads((ROOT / "sdk-ts" / "package.json").read_text())[kind]
    _, _, section = DOCUMENT.read_text().partition(f"## {heading}\n")
    reasons = set(re.findall(r"^- `([^`]+)`: \S", section.partition("\n## ")[0], re.MULTILINE))
    assert reasons == set(wanted)
    assert all(re.match(r"[~^]?\d|>=\S+ <\d", bounds) for bounds in wanted.values())
    locked = json.loads((ROOT / "sdk-ts" / "package-lock.json").read_text())["packages"]
    assert not {name for name in wanted if f"node_modules/{name}" not in locked}
