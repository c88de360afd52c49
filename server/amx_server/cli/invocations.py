"""`amx invocations`: messages and what became of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amx_server.cli.command import Limit, Session, choice, engine_command
from amx_server.cli.exits import FAILED
from amx_server.cli.output import Output, compact, moment, plain

app = typer.Typer(help="Look at, wait for and cancel what handlers are asked to do.", no_args_is_help=True)

MessageId = Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="Id of the message, as 'amx send' prints it.")]


@engine_command(app, "list")
def list_invocations(
    session: Session,
    agent: Annotated[str, typer.Option("--agent", help="Only of this agent.")] = "",
    state: Annotated[
        str | None,
        typer.Option("--state", help="Only queued, running, backing_off, succeeded, failed, cancelled or dead ones."),
    ] = None,
    limit: Limit = 100,
) -> None:
    """List invocations: running ones, and stored ones of durable messages."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    number = choice(engine_pb2.InvocationState.DESCRIPTOR, state, "--state")
    request = engine_pb2.ListInvocationsRequest(agent=agent, state=number)  # type: ignore[arg-type]
    found = [plain(each) for each in client.pages(client.engine.ListInvocations, request, "invocations", limit)]
    if output.as_json:
        output.json(found)
        return
    output.table(
        ("MESSAGE", "INSTANCE", "HANDLER", "STATE", "ATTEMPTS", "ACCEPTED", "OUTCOME"),
        (
            (
                each["message_id"],
                each["instance"],
                each["handler"],
                each["state"],
                each["attempts"],
                moment(each["accepted_at_ms"]),
                _outcome(each),
            )
            for each in found
        ),
        "No invocations.",
    )


@engine_command(app, "get")
def get_invocation(session: Session, message_id: MessageId) -> None:
    """Describe one invocation."""
    from amx.v1 import engine_pb2

    client = session.client
    request = engine_pb2.GetInvocationRequest(message_id=message_id)
    _show(session.output, plain(client.call(client.engine.GetInvocation, request).invocation))


@engine_command(app, "wait", timeout=None)
def wait_invocation(session: Session, message_id: MessageId) -> None:
    """Wait until an invocation has ended. Exit code 0 if it succeeded, 1 if not."""
    from amx.v1 import engine_pb2

    client = session.client
    request = engine_pb2.WaitInvocationRequest(message_id=message_id)
    found = plain(client.call(client.engine.WaitInvocation, request).invocation)
    _show(session.output, found)
    if found["state"] != "succeeded":
        raise typer.Exit(FAILED)


@engine_command(app, "cancel")
def cancel_invocation(
    session: Session,
    message_id: MessageId,
    reason: Annotated[str, typer.Option("--reason", help="Why, for people and logs.")] = "",
) -> None:
    """Cancel an invocation that is queued or running. Exit code 1 if it had ended before."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.CancelInvocationRequest(message_id=message_id, reason=reason)
    cancelled = client.call(client.engine.CancelInvocation, request).cancelled
    if output.as_json:
        output.json({"message_id": message_id, "cancelled": cancelled})
    else:
        output.text("Cancelled." if cancelled else "It had ended already.")
    if not cancelled:
        raise typer.Exit(FAILED)


def _show(output: Output, found: dict[str, Any]) -> None:
    if output.as_json:
        output.json(found)
        return
    failure = found["failure"]
    output.facts(
        {
            "message": found["message_id"],
            "instance": found["instance"],
            "handler": found["handler"],
            "state": found["state"],
            "attempts": found["attempts"],
            "durable": "yes" if found["durable"] else "no",
            "priority": found["priority"],
            "sender": found["sender"],
            "accepted": moment(found["accepted_at_ms"]),
            "result": compact(found["result"], 2000),
            "failure": f"{failure['message']} [{failure['reason']}]" if failure else None,
        }
    )


def _outcome(found: dict[str, Any]) -> str:
    if found["failure"]:
        return f"{found['failure']['reason']}: {found['failure']['message']}"[:60]
    return compact(found["result"])
