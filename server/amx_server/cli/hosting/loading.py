"""From the modules that `--load` names to agents that can be hosted."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from amx.v1 import agent_pb2
from amx_server.cli.exits import FAILED

if TYPE_CHECKING:
    from amx_engine._definition import HostedAgent
    from amx_server.cli.modules import AgentModules


def loaded(names: Iterable[str] | None) -> tuple[AgentModules, list[HostedAgent]]:
    """The modules of these names and their agents. Ends the command if one cannot be used, and says why."""
    from amx_engine._errors import DefinitionError
    from amx_server.cli.modules import AgentModules, ModuleError

    try:
        modules = AgentModules(names or ())
        return modules, compiled(modules.load())
    except (ModuleError, DefinitionError) as error:
        complain(error)
        raise typer.Exit(FAILED) from None


def compiled(agents: Iterable[object]) -> list[HostedAgent]:
    """What an engine hosts. Raises DefinitionError, which names the culprit and the cure."""
    from amx_engine._definition import HostedAgent

    return [HostedAgent.of(agent) for agent in agents]


def computes(agent: HostedAgent) -> bool:
    """Whether one of the agent's handlers asks for a process: then helper processes host the agent."""
    return any(each.execution == agent_pb2.HANDLER_EXECUTION_PROCESS for each in agent.definition.handlers)


def complain(error: Exception) -> None:
    """Prints what is wrong with a module, with the traceback into it if there is one."""
    typer.echo(f"amx: {error}", err=True)
    cause = error.__cause__
    if cause is not None and not isinstance(cause, ModuleNotFoundError):
        lines = traceback.format_exception(cause)
        # The frames of the import machinery say nothing about the developer's module.
        typer.echo("".join(line for line in lines if "importlib" not in line), err=True)
