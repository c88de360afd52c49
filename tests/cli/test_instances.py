"""`amx instances` and `amx supervisors` against a real engine: what they do, print and exit with."""

from __future__ import annotations

import json
import uuid

import pytest

from tests.cli.conftest import Amx, Answer, until

pytestmark = pytest.mark.process

NOTE = '{"key": "a", "text": "b"}'


@pytest.fixture
def clerk() -> str:
    """An instance that no other test has used."""
    return f"Clerk/{uuid.uuid4().hex}"


def state(amx: Amx, instance: str) -> str:
    return str(amx("instances", "describe", instance, "--json").json["state"])


def test_spawn_makes_an_instance_awake_on_the_link_that_hosts_it(amx: Amx, clerk: str) -> None:
    answer = amx("instances", "spawn", clerk)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"{clerk} is awake, on ")
    assert amx("instances", "spawn", clerk).out == "It was awake already.\n"
    assert state(amx, clerk) == "idle"


def test_suspended_instance_keeps_its_messages_until_it_is_resumed(amx: Amx, clerk: str) -> None:
    assert amx("instances", "suspend", clerk, "--reason", "bad data").out == f"{clerk} is suspended; 0 messages wait.\n"
    message_id = amx("send", clerk, NOTE, "--json").json["message_id"]
    assert amx("request", clerk, NOTE, "--timeout", "200ms").code == 6
    described = amx("instances", "describe", clerk).out
    assert "suspended" in described
    assert "bad data" in described
    listed = amx("instances", "list", "--state", "suspended", "--json", "--limit", "0").json
    assert clerk in {found["instance"] for found in listed}
    assert amx("instances", "resume", clerk).out == "Resumed.\n"
    assert amx("invocations", "wait", message_id, "--json").json["state"] == "succeeded"
    assert amx("instances", "resume", clerk).out == "It was not suspended.\n"


def test_suspension_can_stop_what_runs(amx: Amx, clerk: str) -> None:
    message_id = amx("send", f"{clerk}#wait", "--json").json["message_id"]
    until(lambda: state(amx, clerk) == "running", "the handler")
    assert amx("instances", "suspend", clerk, "--cancel-running", "--json").json["state"] == "suspended"
    assert amx("invocations", "get", message_id, "--json").json["state"] == "queued"
    amx("instances", "resume", clerk)
    until(lambda: state(amx, clerk) == "running", "the handler again")
    amx("instances", "kill", clerk, "--purge")


def test_kill_stops_what_runs_and_says_what_it_dropped(amx: Amx, clerk: str) -> None:
    message_id = amx("send", f"{clerk}#wait", "--json").json["message_id"]
    until(lambda: state(amx, clerk) == "running", "the handler")
    answer = amx("instances", "kill", clerk, "--purge", "--reason", "it hangs")
    assert answer.out == "Killed; 1 handlers cancelled, 0 waiting messages dropped.\n"
    found = amx("invocations", "get", message_id, "--json").json
    assert (found["state"], found["failure"]["reason"]) == ("dead", "INSTANCE_KILLED")
    assert "it hangs" in found["failure"]["message"]
    assert amx("request", clerk, NOTE).json == 1


def test_migration_without_another_worker_is_refused_and_names_those_there_are(amx: Amx, clerk: str) -> None:
    amx("instances", "spawn", clerk)
    answer = amx("instances", "migrate", clerk, "--json")
    assert answer.code == 1
    error = Answer(0, answer.err, "").json["error"]
    assert error["reason"] == "LINK_UNSUITABLE"
    here = amx("instances", "describe", clerk, "--json").json["link_id"]
    assert here in error["message"]
    assert amx("instances", "migrate", clerk, "--link", here).out == f"{clerk} is on {here}.\n"


def test_operations_on_an_agent_that_nobody_knows_exit_with_4(amx: Amx) -> None:
    for operation in ("spawn", "suspend", "resume", "migrate", "kill"):
        answer = amx("instances", operation, "Nobody/1")
        assert answer.code == 4, operation
        assert "Nobody" in answer.err


def test_supervisors_show_their_children_restarts_and_reasons(amx: Amx) -> None:
    assert amx("request", "Clerk/supervised#refuse").code == 1
    until(
        lambda: amx("supervisors", "--json").json[0]["restarts"] >= 2,
        "the restart of the child and of the one after it",
    )
    (found,) = amx("supervisors", "--json").json
    assert found["agent"] == "Manager"
    children = {child["instance"]: child["last_reason"] for child in found["children"]}
    assert children == {"Clerk/supervised": "HANDLER_FAILED", "Clerk/spare": ""}
    table = amx("supervisors").out
    assert table.startswith("Manager: rest_for_one, 3 restarts within 5s; 2 so far, gave up 0 times\n")
    assert "HANDLER_FAILED" in table
    assert amx("instances", "describe", "Clerk/supervised", "--json").json["supervisor"] == "Manager"


def test_instance_says_what_it_waits_for(amx: Amx, clerk: str) -> None:
    other = f"{clerk}-2"
    text = json.dumps(other.partition("/")[2])
    asked = amx("send", clerk, text, "--handler", "ask", "--json").json["message_id"]
    running = ("instances", "list", "--state", "running", "--limit", "0", "--json")
    until(lambda: other in {found["instance"] for found in amx(*running).json}, f"{other} at work")
    (wait,) = amx("instances", "describe", clerk, "--json").json["waits"]
    assert (wait["reason"], wait["detail"]) == ("message", other)
    assert f"message ({other}) for " in amx("instances", "describe", clerk).out
    listed = amx("instances", "list", "--agent", "Clerk", "--limit", "0").out
    (line,) = [line for line in listed.splitlines() if line.startswith(f"{clerk} ")]
    assert line.split()[-1] == "message"
    assert amx("invocations", "cancel", asked).code == 0
