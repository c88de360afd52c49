"""The shape of the code: imports only point down, the SDK stands without the server, every file says what it holds."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVER = ROOT / "server" / "amx_server"
SDK = ROOT / "sdk-python" / "amx_engine"

# From the top to the bottom. A package imports from its own row and from rows below it.
LAYERS = (
    ("cli", "api", "vm", "__main__"),
    ("sessions", "twins", "inference", "runtime"),
    ("memory", "security", "cluster"),
    ("storage", "telemetry"),
    ("core",),
)
RANK = {package: rank for rank, row in enumerate(LAYERS) for package in row}

# Upward imports that are meant, as (module, imported module): with the reason beside each.
ALLOWED: dict[tuple[str, str], str] = {}

# The only place where the SDK may reach for the server, and only when the engine is asked to run inside the process.
EMBEDDED = ("amx_engine.embedded", "amx_engine._embedded", "amx_engine.testing")

MUTABLE = {"dict", "list", "set", "deque", "defaultdict", "OrderedDict", "Counter", "WeakValueDictionary", "bytearray"}


def module_name(path: Path, root: Path) -> str:
    """The dotted name of a source file below `root`, which is a package."""
    parts = [root.name, *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """Every module that `tree` imports, wherever the import stands, with its line. Relative names are resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                anchor = module.split(".")
                anchor = anchor[: len(anchor) - node.level + is_package]
                source = ".".join([*anchor, source] if source else anchor)
            yield source, node.lineno
            for alias in node.names:  # `from amx_server import api` names a package too
                yield f"{source}.{alias.name}", node.lineno
        elif isinstance(node, ast.Call) and node.args and _called(node) in ("import_module", "__import__"):
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value, node.lineno


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def upward_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    """What `module` of the server imports from a layer above its own, one sentence each."""
    own = module.split(".")[1] if "." in module else ""
    found = set()
    for name, line in imports(ast.parse(source), module, is_package):
        parts = name.split(".")
        if parts[0] != "amx_server" or len(parts) < 2 or parts[1] not in RANK:
            continue
        reachable_from = RANK.get(own, len(LAYERS))  # the bare package `amx_server` imports no layer
        if RANK[parts[1]] < reachable_from and (module, ".".join(parts[:3])) not in ALLOWED:
            found.add(f"{module}:{line} imports {parts[1]}, which lies above {own or 'amx_server'}")
    return sorted(found)


def server_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    """Where `module` of the SDK imports the server: anywhere, or, in the embedded modules, before it is needed."""
    tree = ast.parse(source)
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(node)
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
            continue
        if module.startswith(EMBEDDED) and id(node) in lazy:
            continue
        statement = ast.Module(body=[ast.Expr(node) if isinstance(node, ast.Call) else node], type_ignores=[])
        if any(name.split(".")[0] == "amx_server" for name, _ in imports(statement, module, is_package)):
            found.append(f"{module}:{node.lineno} imports amx_server")
    return sorted(set(found))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def module_state(source: str, module: str) -> list[str]:
    """Names that hold something mutable at the top of `module`. Constants in capitals with literal tables are fine."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        built = isinstance(value, ast.Call) and _called(value) in MUTABLE
        displays = ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp
        table = isinstance(value, displays) and ast.unparse(value) not in ("{}", "[]")
        for name in (target.id for target in targets if isinstance(target, ast.Name)):
            constant = name == "__all__" or (table and name.isupper())
            if (built or isinstance(value, displays)) and not constant:
                found.append(f"{module}:{node.lineno} keeps state in {name}")
    found += [
        f"{module}:{node.lineno} rebinds {', '.join(node.names)} of the module"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Global)
    ]
    return found


def sources(root: Path) -> list[tuple[str, Path]]:
    """Every hand-written module below `root`, as (name, path)."""
    return [(module_name(path, root), path) for path in sorted(root.rglob("*.py"))]


def test_server_imports_point_down() -> None:
    problems = [
        problem
        for module, path in sources(SERVER)
        for problem in upward_imports(path.read_text(), module, path.name == "__init__.py")
    ]
    assert not problems, "\n".join(problems)


def test_server_packages_all_have_a_layer() -> None:
    packages = {path.parent.name for path in SERVER.glob("*/__init__.py")}
    assert packages, f"no packages below {SERVER}"
    assert packages <= RANK.keys(), f"give these a row in LAYERS: {sorted(packages - RANK.keys())}"


def test_sdk_stands_without_the_server() -> None:
    problems = [
        problem
        for module, path in sources(SDK)
        for problem in server_imports(path.read_text(), module, path.name == "__init__.py")
    ]
    assert not problems, "\n".join(problems)


def test_engine_runs_without_pydantic() -> None:
    program = (
        "import asyncio, sys\n"
        "import amx_server.vm.machine\n"
        "from amx_server.core.config import EngineConfig\n"
        "from amx_server.runtime.engine import Engine\n"
        "async def main():\n"
        "    async with Engine(EngineConfig.read({'storage': {'path': ':memory:'}, 'logging': {'level': 'error'}})):\n"
        "        assert 'pydantic' not in sys.modules\n"
        "asyncio.run(main())"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("root", [SERVER, SDK], ids=["server", "sdk"])
def test_modules_open_with_a_docstring(root: Path) -> None:
    bare = [module for module, path in sources(root) if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not bare, f"say in one to five lines what lives here: {bare}"


def test_api_keeps_no_state() -> None:
    problems = [
        problem for module, path in sources(SERVER / "api") for problem in module_state(path.read_text(), module)
    ]
    assert not problems, "\n".join(problems)


def test_allowed_upward_imports_are_still_needed() -> None:
    used = {
        (module, ".".join(name.split(".")[:3]))
        for module, path in sources(SERVER)
        for name, _ in imports(ast.parse(path.read_text()), module, path.name == "__init__.py")
    }
    assert ALLOWED.keys() <= used


@pytest.mark.parametrize(
    "source",
    [
        "import amx_server.runtime.engine",
        "from amx_server.runtime import engine",
        "from amx_server import runtime",
        "from ..runtime import engine",
        "from .. import api",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from amx_server.cli import main",
        "def later():\n    from amx_server.sessions import loop",
        "import importlib\nimportlib.import_module('amx_server.api.server')",
    ],
)
def test_upward_import_is_found(source: str) -> None:
    assert upward_imports(source, "amx_server.storage.sqlite")


@pytest.mark.parametrize(
    "source",
    [
        "import amx_server.core.errors",
        "from amx_server.telemetry import logs",
        "from . import interface",
        "from ..core import clock",
        "import sqlite3, amx.v1.link_pb2",
    ],
)
def test_downward_and_sideways_imports_are_fine(source: str) -> None:
    assert upward_imports(source, "amx_server.storage.sqlite") == []


def test_relative_import_in_a_package_file_is_resolved_from_the_package() -> None:
    assert upward_imports("from ..runtime import engine", "amx_server.storage", is_package=True)
    assert upward_imports("from .runtime import engine", "amx_server.storage", is_package=True) == []


def test_sdk_importing_the_server_is_found() -> None:
    assert server_imports("import amx_server", "amx_engine._client")
    assert server_imports("def f():\n    from amx_server.runtime import engine", "amx_engine._client")
    assert server_imports("from amx_server.runtime import engine", "amx_engine._embedded")
    assert server_imports("def f():\n    from amx_server.runtime import engine", "amx_engine._embedded") == []


@pytest.mark.parametrize(
    "source", ["cache = {}", "SEEN = set()", "links: list[str] = []", "n = 0\ndef f():\n    global n\n    n += 1"]
)
def test_module_state_is_found(source: str) -> None:
    assert module_state(source, "amx_server.api.http")


def test_constant_tables_are_not_state() -> None:
    assert module_state("CODES = {1: 'a'}\nNAMES = ('a',)\n__all__ = ['a']\nlimit = 3", "amx_server.api.http") == []
