"""`amx serve`: the deployed engine."""

from __future__ import annotations

import contextlib
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
) -> None:
    """Run an engine until SIGTERM or SIGINT.

    Settings come from the file, then from AMX__SECTION__FIELD in the environment, then from --set.
    """
    from amx_server.cli.running import run_engine

    raise typer.Exit(run_engine(read_config(config, overrides(setting), strict=True), _announce))


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


@contextlib.asynccontextmanager
async def _announce(engine: Engine, server: Server) -> AsyncIterator[None]:
    with engine.log.standard_logging():
        typer.echo(describe(server))
        yield


def describe(server: Server) -> str:
    """Where an engine can be reached, for people and for programs that started it on any free port."""
    http = f", HTTP on {server.http_address}" if server.http_address else ""
    return f"amx engine: gRPC on {server.grpc_address}{http}"
