"""`amx dead-letters`: messages that exhausted their attempts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amx_server.cli.command import Limit, Session, engine_command, usage
from amx_server.cli.output import compact, moment, payload_value, plain
from amx_server.core.errors import NOT_FOUND, AmxError

app = typer.Typer(help="Read, retry and drop messages that exhausted their attempts.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(metavar="[MESSAGE_ID]...", help="Which ones.")]
Agent = Annotated[str, typer.Option("--agent", help="All of this agent.")]
All = Annotated[bool, typer.Option("--all", help="Every one of the namespace.")]


@engine_command(app, "list")
def list_dead_letters(
    session: Session,
    agent: Annotated[str, typer.Option("--agent", help="Only of this agent.")] = "",
    limit: Limit = 100,
) -> None:
    """List dead letters, oldest first."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.ListDeadLettersRequest(agent=agent)
    found = client.pages(client.engine.ListDeadLetters, request, "dead_letters", limit)
    if output.as_json:
        output.json([plain(each) for each in found])
        return
    output.table(
        ("MESSAGE", "INSTANCE", "DIED", "ATTEMPTS", "FAILURE", "PAYLOAD"),
        (
            (
                each.message.message_id,
                f"{each.message.agent}/{each.message.key or 'default'}",
                moment(each.died_at_ms),
                each.attempts,
                f"{each.failure.reason}: {each.failure.message}"[:80],
                compact(payload_value(each.message.payload)),
            )
            for each in found
        ),
        "No dead letters.",
    )


@engine_command(app, "retry")
def retry_dead_letters(session: Session, message_ids: Ids = None, agent: Agent = "", every: All = False) -> None:
    """Put dead letters back into their mailboxes."""
    from amx.v1 import engine_pb2

    _need_choice(message_ids, agent, every)
    client = session.client
    request = engine_pb2.RetryDeadLettersRequest(message_ids=message_ids or [], agent=agent)
    _tell(session, client.call(client.engine.RetryDeadLetters, request), "put back", message_ids)


@engine_command(app, "drop")
def drop_dead_letters(session: Session, message_ids: Ids = None, agent: Agent = "", every: All = False) -> None:
    """Delete dead letters for good."""
    from amx.v1 import engine_pb2

    _need_choice(message_ids, agent, every)
    client = session.client
    request = engine_pb2.DropDeadLettersRequest(message_ids=message_ids or [], agent=agent)
    _tell(session, client.call(client.engine.DropDeadLetters, request), "dropped", message_ids)


def _need_choice(message_ids: list[str] | None, agent: str, every: bool) -> None:
    if sum((bool(message_ids), bool(agent), every)) != 1:
        usage("say which dead letters: their message ids, or --agent AGENT, or --all")


def _tell(session: Session, response: Any, done: str, message_ids: list[str] | None) -> None:
    if session.output.as_json:
        session.output.json({"count": response.count})
    else:
        session.output.text(f"{response.count} {done}.")
    unknown = len(set(message_ids or ())) - response.count
    if unknown > 0:
        raise AmxError(
            NOT_FOUND,
            "DEAD_LETTER_UNKNOWN",
            f"{unknown} of the ids {'is' if unknown == 1 else 'are'} of no dead letter; see amx dead-letters list",
        )
