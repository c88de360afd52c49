"""`amx serve`: the deployed engine."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amx_server.cli.exits import USAGE

if TYPE_CHECKING:
    from amx_server.api.server import Server
    from amx_server.core.config import EngineConfig
    from amx_server.runtime.engine import Engine


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("serve")(serve)


def serve(
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="Configuration; amx-config.yaml if there is one.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="SECTION.FIELD=VALUE", help="Overrides the configuration; repeatable."),
    ] = None,
    load: Annotated[
        list[str] | None,
        typer.Option("--load", "-l", metavar="MODULE", help="Module or .py file with agents; may be repeated."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, max=64, help="Engine processes that share the address.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Memory for content, e.g. 16GB.", show_default="512MiB")
    ] = None,
) -> None:
    """Run an engine until SIGTERM or SIGINT, and the agents of modules with it. With --workers several engines, which
    share the work of one address.

    Settings come from the file, then from AMX__SECTION__FIELD in the environment, then from --set.
    """
    from amx_server.cli.hosting.agents import AgentHost
    from amx_server.cli.hosting.loading import loaded
    from amx_server.cli.running import run_engine
    from amx_server.cli.workers import run_workers
    from amx_server.security.identity import Identity
    from amx_server.security.permissions import ROLES

    settings = read_config(config, {"memory.budget": memory} | overrides(setting), strict=True)
    if workers is not None:
        raise typer.Exit(run_workers(settings, workers, load or ()))
    require_single(settings)
    identity = Identity("amx-serve", "default", ("worker",), ROLES["worker"])
    hosting = loaded(load) if load else None

    @contextlib.asynccontextmanager
    async def beside(engine: Engine, server: Server) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if hosting is None:
                stack.enter_context(engine.log.standard_logging())
            else:
                modules, agents = hosting
                stack.enter_context(engine.log.standard_logging(logging.INFO))
                host = AgentHost(engine, modules, identity, settings.shutdown_deadline)
                await (await stack.enter_async_context(host)).replace(agents)
            typer.echo(describe(server))
            yield

    raise typer.Exit(run_engine(settings, beside))


def require_single(config: EngineConfig) -> None:
    """Ends the command if several engines store where a single one is to begin."""
    from amx_server.cluster.shards import ShardedStore

    store = ShardedStore(config)
    engines = store.engines()
    if engines:
        typer.echo(
            f"amx: {store.folder} holds the stores of {engines} engines; start with --workers (1 to {engines}), or give"
            " a new storage.path [ENGINES_MISMATCH]",
            err=True,
        )
        raise typer.Exit(USAGE)


def read_config(path: str | None, changes: dict[str, Any], *, strict: bool) -> EngineConfig:
    """The configuration; ends the command with every problem on standard error if there is one."""
    from amx_server.core.config import ConfigError, load_config
    from amx_server.security.identity import Authenticator

    try:
        config = load_config(path, changes, strict=strict)
        Authenticator(config)  # roles and tokens that make no sense are found before anything starts
        return config
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(f"amx: {problem}", err=True)
        raise typer.Exit(USAGE) from None


def overrides(settings: list[str] | None) -> dict[str, Any]:
    """`section.field=value` texts as overrides."""
    from amx_server.cli.command import usage
    from amx_server.core.config import parse_setting

    changes: dict[str, Any] = {}
    for text in settings or ():
        name, separator, value = text.partition("=")
        if not separator or not name:
            usage(f"--set '{text}' is not SECTION.FIELD=VALUE")
        changes[name] = parse_setting(value)
    return changes


def describe(server: Server) -> str:
    """Where an engine can be reached, for people and for programs that started it on any free port."""
    http = f", HTTP on {server.http_address}" if server.http_address else ""
    return f"amx engine: gRPC on {server.grpc_address}{http}"
