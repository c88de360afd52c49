"""The tree of commands. Importing this loads no gRPC and no engine: those come with the command that needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from amx_server.cli.agents import app as agents
from amx_server.cli.dead_letters import app as dead_letters
from amx_server.cli.dev import add_to as add_dev
from amx_server.cli.doctor import add_to as add_doctor
from amx_server.cli.exits import EXIT_CODES, INTERRUPTED
from amx_server.cli.instances import app as instances
from amx_server.cli.invocations import app as invocations
from amx_server.cli.logs import add_to as add_logs
from amx_server.cli.memory import app as memory
from amx_server.cli.memory_store import add_to as add_memory_store
from amx_server.cli.memory_versions import add_to as add_memory_versions
from amx_server.cli.messages import add_to as add_messages
from amx_server.cli.scheduler import app as scheduler
from amx_server.cli.schedules import app as schedules
from amx_server.cli.serve import add_to as add_serve
from amx_server.cli.status import add_to as add_status
from amx_server.cli.supervisors import add_to as add_supervisors
from amx_server.cli.vm import add_to as add_vm

_EPILOG = "Exit codes: " + "; ".join(f"{code} {text}" for code, text in EXIT_CODES.items()) + "."

app = typer.Typer(
    name="amx",
    help="AMX Engine: run agents, talk to them, look after them.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from amx_server.core.version import VERSION

        typer.echo(f"amx {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """AMX Engine: run agents, talk to them, look after them."""


add_dev(app)
add_serve(app)
add_messages(app)
app.add_typer(agents, name="agents")
app.add_typer(instances, name="instances")
add_supervisors(app)
app.add_typer(invocations, name="invocations")
add_memory_versions(memory)
add_memory_store(memory)
app.add_typer(memory, name="memory")
app.add_typer(schedules, name="schedules")
app.add_typer(scheduler, name="scheduler")
app.add_typer(dead_letters, name="dead-letters")
add_logs(app)
add_status(app)
add_vm(app)
add_doctor(app)


def run() -> None:
    """Runs the command that the process's arguments name, and ends the process with its exit code."""
    try:
        app()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
