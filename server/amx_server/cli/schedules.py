"""`amx schedules`: what agents do by themselves, and when."""

from __future__ import annotations

from typing import Annotated

import typer

from amx_server.cli.agents import timing
from amx_server.cli.command import Limit, Session, engine_command
from amx_server.cli.output import moment, plain

app = typer.Typer(help="List, pause, resume and trigger schedules.", no_args_is_help=True)

ScheduleId = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its id: agent/key/name.")]


@engine_command(app, "list")
def list_schedules(
    session: Session,
    agent: Annotated[str, typer.Option("--agent", help="Only of this agent.")] = "",
    limit: Limit = 100,
) -> None:
    """List schedules."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.ListSchedulesRequest(agent=agent)
    found = client.pages(client.engine.ListSchedules, request, "schedules", limit)
    if output.as_json:
        output.json([plain(each) for each in found])
        return
    output.table(
        ("SCHEDULE", "HANDLER", "WHEN", "NEXT", "LAST", "STATE"),
        (
            (
                each.schedule_id,
                each.definition.handler,
                timing(each.definition),
                moment(each.next_run_at_ms),
                moment(each.last_run_at_ms),
                "paused" if each.paused else "active",
            )
            for each in found
        ),
        "No schedules.",
    )


@engine_command(app, "pause")
def pause_schedule(session: Session, schedule: ScheduleId) -> None:
    """Stop a schedule from running until it is resumed."""
    _set_paused(session, schedule, True)


@engine_command(app, "resume")
def resume_schedule(session: Session, schedule: ScheduleId) -> None:
    """Let a paused schedule run again."""
    _set_paused(session, schedule, False)


@engine_command(app, "trigger")
def trigger_schedule(session: Session, schedule: ScheduleId) -> None:
    """Run a schedule once, now. Prints the id of the message it sent."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.TriggerScheduleRequest(schedule_id=schedule)
    message_id = client.call(client.engine.TriggerSchedule, request).message_id
    if output.as_json:
        output.json({"message_id": message_id})
    else:
        output.text(message_id)


def _set_paused(session: Session, schedule: str, paused: bool) -> None:
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.PauseScheduleRequest(schedule_id=schedule, paused=paused)
    found = client.call(client.engine.PauseSchedule, request).schedule
    if output.as_json:
        output.json(plain(found))
    else:
        output.text("Paused." if paused else f"Resumed; next run {moment(found.next_run_at_ms) or 'not planned'}.")
