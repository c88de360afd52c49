"""`amx dev`: an engine with everything embedded, and the developer's agents in the same process, reloaded on change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amx_server.cli.serve import describe, overrides, read_config

if TYPE_CHECKING:
    from amx_engine._definition import HostedAgent
    from amx_server.api.server import Server
    from amx_server.cli.hosting.agents import AgentHost
    from amx_server.cli.modules import AgentModules, FileState
    from amx_server.runtime.engine import Engine

# Seconds that handlers of an old version may take to finish after a reload, and of any at the end.
_HANDLER_PATIENCE_S = 3.0

# How often source files are looked at where nothing notifies of changes.
_LOOK_AGAIN_MS = 1000


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("dev")(dev)


def dev(
    load: Annotated[
        list[str] | None,
        typer.Option("--load", "-l", metavar="MODULE", help="Module or .py file with agents; may be repeated."),
    ] = None,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="Where to store.", show_default=".amx")] = None,
    grpc_port: Annotated[int | None, typer.Option("--grpc-port", help="0: any.", show_default="9090")] = None,
    http_port: Annotated[int | None, typer.Option("--http-port", help="0: any.", show_default="8080")] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Memory for content, e.g. 16GB.", show_default="512MiB")
    ] = None,
    reload: Annotated[bool, typer.Option("--reload/--no-reload", help="Reload modules when they change.")] = True,
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="Configuration; amx-config.yaml if there is one.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="SECTION.FIELD=VALUE", help="Overrides the configuration; repeatable."),
    ] = None,
) -> None:
    """Run an engine and your agents for development: no keys, no services, loopback only."""
    from amx_server.cli.hosting.loading import loaded
    from amx_server.cli.running import run_engine

    changes = {
        "agents.allow_redefinition": True,
        "shutdown_deadline": 5.0,
        "grpc.port": grpc_port,
        "http.port": http_port,
        "storage.path": str(Path(data_dir) / "amx.db") if data_dir is not None else None,
        "memory.budget": memory,
        **overrides(setting),
    }
    settings = read_config(config, changes, strict=False)
    modules, agents = loaded(load)
    seen = modules.states()

    @contextlib.asynccontextmanager
    async def beside(engine: Engine, server: Server) -> AsyncIterator[None]:
        from amx_server.cli.hosting.agents import AgentHost
        from amx_server.security.identity import Identity
        from amx_server.security.permissions import ROLES

        identity = Identity("amx-dev", "default", ("admin",), ROLES["admin"])
        patience = min(_HANDLER_PATIENCE_S, settings.shutdown_deadline)
        # What agents log is the developer's business here; what watches their files is not.
        logging.getLogger("watchfiles").setLevel(logging.WARNING)
        with engine.log.standard_logging(logging.INFO):
            async with AgentHost(engine, modules, identity, patience) as host:
                if agents:
                    await host.replace(agents)
                watching = asyncio.create_task(_watch(modules, host, seen)) if agents and reload else None
                _greet(server, agents, host)
                try:
                    yield
                finally:
                    if watching is not None:
                        watching.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await watching

    raise typer.Exit(run_engine(settings, beside))


async def _watch(modules: AgentModules, host: AgentHost, seen: dict[str, FileState]) -> None:
    """Reloads when a source file of the developer's is no longer as it was `seen`.

    A change that does not work leaves the old agents in place.
    """
    import watchfiles

    from amx_server.cli.hosting.loading import compiled, complain

    # Notifications only wake us: what changed before they began, or on a file system without them, is noticed as well.
    async for _ in watchfiles.awatch(
        *modules.folders(),
        watch_filter=watchfiles.PythonFilter(),
        yield_on_timeout=True,
        rust_timeout=_LOOK_AGAIN_MS,
        debounce=200,
    ):
        # A broken version may import less than the one in force; all its files are looked at until it is mended.
        now = modules.states(seen)
        changed = [path for path, state in now.items() if seen.get(path) != state]
        seen = now
        if not changed:
            continue
        try:
            await host.replace(compiled(modules.reload()))
        except Exception as error:
            # Whatever a developer's code does, the next change may mend it.
            complain(error)
            typer.echo("amx: the agents stay as they were until the next change", err=True)
        else:
            names = ", ".join(sorted(map(os.path.basename, changed)))
            typer.echo(f"amx: reloaded after a change of {names}")
        seen = {**modules.states(), **seen}


# --- first words -----------------------------------------------------------------------------------------------------


def _greet(server: Server, agents: list[HostedAgent], host: AgentHost) -> None:
    typer.echo(describe(server))
    amx = program()
    if not agents:
        typer.echo(f"No agents yet. Write some in agents.py, then: {amx} dev --load agents")
        typer.echo(f"Look around: {amx} status")
        return
    definitions = [agent.definition for agent in agents]
    typer.echo("Agents: " + ", ".join(f"{definition.name} {definition.version}" for definition in definitions))
    if host.helped:
        processes = f"{len(host.helpers)} helper process{'es' if len(host.helpers) > 1 else ''}"
        typer.echo(f"In {processes}: " + ", ".join(agent.name for agent in host.helped))
    for definition in definitions:
        command = first_command(definition)
        if command:
            port = server.grpc_address.rpartition(":")[2]
            elsewhere = "" if port == "9090" else f" --address {server.grpc_address}"
            typer.echo(f"Try: {amx}{command.removeprefix('amx')}{elsewhere}")
            return


def program() -> str:
    """What to type for `amx`: the path that it was started by, where the shell would not find it."""
    started = sys.argv[0]
    return shlex.quote(started) if Path(started).name == "amx" and shutil.which("amx") is None else "amx"


def first_command(definition: Any) -> str:
    """A command that makes an agent do something, with input that its schema allows; empty if it has no handler."""
    from amx.v1 import agent_pb2

    if definition.kind in (agent_pb2.AGENT_KIND_ROUTER, agent_pb2.AGENT_KIND_MONITOR) or not definition.handlers:
        return ""
    handler = next(
        (each for each in definition.handlers if each.name == definition.default_handler), definition.handlers[0]
    )
    target = definition.name if len(definition.handlers) == 1 else f"{definition.name}#{handler.name}"
    words = ["amx", "request", target]
    schema = json.loads(handler.input_schema) if handler.input_schema else {}
    example = _example(schema, schema)
    if example is not None:
        words.append(json.dumps(example, ensure_ascii=False))
    if handler.streaming:
        words.append("--stream")
    return shlex.join(words)


def _example(schema: Any, root: dict[str, Any], depth: int = 0) -> Any:
    """A small value that a JSON Schema allows, as far as that can be told from types; None if it says nothing."""
    if not isinstance(schema, dict) or depth > 5:
        return None
    if "$ref" in schema:
        target: Any = root
        for part in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = target.get(part, {}) if isinstance(target, dict) else {}
        return _example(target, root, depth + 1)
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _example(schema[key][0], root, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties", {})
        wanted = schema.get("required") or list(properties)[:3]
        return {name: _example(properties.get(name, {}), root, depth + 1) for name in wanted}
    simple: dict[str, Callable[[], Any]] = {
        "string": lambda: "hello",
        "integer": lambda: 1,
        "number": lambda: 1.5,
        "boolean": lambda: True,
        "array": lambda: [] if (item := _example(schema.get("items"), root, depth + 1)) is None else [item],
    }
    return simple[kind]() if kind in simple else None
