"""What the documents list is all there is: settings, reasons, commands, metrics; and their Python works."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from amx_engine._definition import HostedAgent
from amx_server.cli.app import app
from amx_server.core.config import EngineConfig, load_config
from amx_server.core.sections import Section
from amx_server.security.identity import Authenticator
from amx_server.security.permissions import PERMISSIONS, ROLES
from amx_server.telemetry.metrics import EngineMetrics
from scripts.check_docs import FENCE

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def shown(value: object) -> str:
    """A default as the table of settings shows it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    if isinstance(value, (dict, tuple)):
        return "none"
    return f"`{value}`"


def settings(model: type[Section] = EngineConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and default of every setting."""
    section = model()
    for name in model.__struct_fields__:
        default = getattr(section, name)
        if isinstance(default, Section):
            yield from settings(type(default), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", shown(default)


@pytest.mark.parametrize(("name", "default"), list(settings()))
def test_setting_is_documented_with_its_default(name: str, default: str) -> None:
    assert f"| `{name}` | {default} |" in (DOCS / "operations.md").read_text()


def test_no_setting_is_documented_that_does_not_exist() -> None:
    table = (DOCS / "operations.md").read_text().partition("### Settings")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_.]+)` \|", table, re.MULTILINE)) == {name for name, _ in settings()}


def test_configuration_in_the_documents_can_be_used(tmp_path: Path) -> None:
    text = (DOCS / "operations.md").read_text()
    examples = [match.group(3) for match in FENCE.finditer(text) if match.group(2) == "yaml"]
    assert examples
    for example in examples:
        file = tmp_path / "amx-config.yaml"
        file.write_text(example)
        variables = dict.fromkeys(re.findall(r"\$\{([A-Z_]+)\}", example), "a-token")
        config = load_config(file, environment=variables, strict=True)
        Authenticator(config)


def raised_reasons(folder: Path) -> set[str]:
    """Reasons that code below `folder` gives: texts in the calls that make errors."""
    makers = {"AmxError", "invalid", "not_found", "exhausted", "unavailable", "InvalidInput", "_error", "_refusal"}
    found = set()
    for path in folder.rglob("*.py"):
        if "cli" in path.parts:
            continue  # what the command line says of itself never travels
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in makers and name != "Failure":
                continue
            values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "reason")]
            found |= {
                value.value
                for value in values
                if isinstance(value, ast.Constant)
                and isinstance(value.value, str)
                and re.fullmatch(r"[A-Z]+(?:_[A-Z0-9]+)+|CANCELLED|UNAUTHENTICATED|INTERNAL", value.value)
            }
    return found


def test_every_reason_of_engine_and_sdk_is_documented() -> None:
    tables = "\n".join((DOCS / name).read_text() for name in ("protocol.md", "io.md", "memory.md"))
    first_cells = re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \|", tables, re.MULTILINE)
    documented = {reason for cell in first_cells for reason in re.findall(r"[A-Z_]+", cell)}
    raised = raised_reasons(ROOT / "server" / "amx_server") | raised_reasons(ROOT / "sdk-python" / "amx_engine")
    assert not raised - documented, f"add to the table of reasons: {sorted(raised - documented)}"


def commands() -> Iterator[str]:
    """Every command of `amx`, e.g. `agents list`."""
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name
        else:
            yield from (f"{name} {sub}" for sub in inner)


@pytest.mark.parametrize("command", sorted(commands()))
def test_command_is_documented(command: str) -> None:
    assert f"`amx {command}" in (DOCS / "cli.md").read_text()


@pytest.mark.parametrize("document", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_documented_commands_exist(document: Path) -> None:
    known = {*commands(), *(name.split()[0] for name in commands())}
    for first, second in re.findall(r"`amx ([a-z-]+)(?: ([a-z-]+))?", document.read_text()):
        assert f"{first} {second}" in known or first in known or first.startswith("--"), f"amx {first} {second}"


def test_every_metric_is_documented() -> None:
    text = (DOCS / "operations.md").read_text()
    missing = {family.name for family in EngineMetrics().collect() if f"`{family.name}" not in text}
    assert not missing


def test_documented_log_events_exist() -> None:
    logs = (DOCS / "operations.md").read_text().partition("\n## Logs")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in logs.splitlines() if line.startswith("| `")]
    code = "\n".join(path.read_text() for path in (ROOT / "server" / "amx_server").rglob("*.py"))
    documented = re.findall(r"`([a-z_]+)`", " ".join(rows))
    assert documented
    assert not [event for event in documented if f'"{event}"' not in code]


def test_every_permission_and_role_is_documented() -> None:
    text = (DOCS / "operations.md").read_text()
    assert not {name for name in (*PERMISSIONS, *ROLES) if f"`{name}`" not in text}


def blocks(document: Path) -> list[str]:
    """The Python blocks of a document."""
    return [match.group(3) for match in FENCE.finditer(document.read_text()) if match.group(2) == "python"]


@pytest.mark.parametrize(
    ("document", "block"),
    # Those of io.md run beside the provider that they ask, in tests/inference.
    [
        (path.name, number)
        for path in sorted(DOCS.glob("*.md"))
        if path.name != "io.md"
        for number in range(len(blocks(path)))
    ],
)
async def test_python_of_the_documents_runs_and_its_agents_are_well_formed(
    document: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = blocks(DOCS / document)[block]
    namespace: dict[str, Any] = {"__name__": f"{document}:{block}"}
    code = compile(source, f"{document}:{block}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    running = eval(code, namespace)
    if inspect.isawaitable(running):
        await running
    for value in list(namespace.values()):
        if isinstance(value, type) and "__amx_agent__" in vars(value):
            assert HostedAgent.of(value).handlers
        if inspect.iscoroutinefunction(value) and value.__name__.startswith("test_"):
            await value()
