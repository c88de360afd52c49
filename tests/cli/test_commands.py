"""Commands against a real engine: what they do, print and exit with."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.cli.conftest import AGENTS, Amx, Answer, EngineProcess, amx_process, call, clean_environment, running, until

pytestmark = pytest.mark.process


@pytest.fixture
def clerk() -> str:
    """An instance that no other test has used."""
    return f"Clerk/{uuid.uuid4().hex}"


# --- talking to agents -----------------------------------------------------------------------------------------------


def test_request_prints_the_reply_as_json(amx: Amx, clerk: str) -> None:
    answer = amx("request", clerk, '{"key": "a", "text": "ä"}')
    assert (answer.code, answer.json, answer.err) == (0, 1, "")


def test_request_reads_standard_input(amx: Amx, clerk: str) -> None:
    assert amx("request", clerk, "-", stdin='{"key": "a", "text": "b"}\n').json == 1


def test_request_names_its_handler_in_the_target_or_beside_it(amx: Amx, clerk: str) -> None:
    content = '{"key": "a", "text": "b"}'
    assert amx("request", f"{clerk}#note", content).json == 1
    assert amx("request", clerk, content, "--handler", "note").json == 1
    twice = amx("request", f"{clerk}#note", content, "--handler", "count")
    assert twice.code == 2
    assert "name it once" in twice.err


def test_request_streams_a_line_for_each_part(amx: Amx, clerk: str) -> None:
    assert amx("request", f"{clerk}#count", "3", "--stream").lines == [0, 1, 2]
    marked = amx("request", f"{clerk}#count", "2", "--stream", "--json").lines
    assert marked[:2] == [{"chunk": 0}, {"chunk": 1}]


def test_request_that_fails_in_its_handler_exits_with_1(amx: Amx, clerk: str) -> None:
    answer = amx("request", f"{clerk}#refuse")
    assert answer.code == 1
    assert "not today" in answer.err
    assert answer.out == ""


def test_failure_is_json_on_standard_error_for_programs(amx: Amx) -> None:
    answer = amx("request", "Nobody", "1", "--json")
    assert (answer.code, answer.out) == (4, "")
    error = Answer(0, answer.err, "").json["error"]
    assert error["reason"] == "AGENT_UNKNOWN"
    assert error["retryable"] is False
    assert "Nobody" in error["message"]


def test_request_whose_time_runs_out_exits_with_6(amx: Amx, clerk: str) -> None:
    assert amx("request", f"{clerk}#wait", "--timeout", "200ms").code == 6


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{bad", "not JSON"),
        ("NaN", "NaN cannot be said"),
        ('{"a": 1, "a": 2}', "'a' appears twice"),
        ("hello", "quotes"),
    ],
)
def test_content_that_is_not_json_is_a_usage_error(amx: Amx, content: str, part: str) -> None:
    answer = amx("request", "Clerk", content)
    assert answer.code == 2
    assert part in answer.err


def test_unknown_priority_lists_the_known_ones(amx: Amx) -> None:
    answer = amx("send", "Clerk", "1", "--priority", "urgent")
    assert answer.code == 2
    assert "critical, high, normal, low, background" in answer.err


def test_send_is_idempotent_by_message_id_and_can_be_waited_for(amx: Amx, clerk: str) -> None:
    message_id = uuid.uuid4().hex
    first = amx("send", clerk, '{"key": "a", "text": "b"}', "--message-id", message_id, "--json")
    assert first.json == {"message_id": message_id, "duplicate": False}
    assert amx("send", clerk, '{"key": "a", "text": "b"}', "--message-id", message_id, "--json").json["duplicate"]
    waited = amx("invocations", "wait", message_id, "--json")
    assert waited.code == 0
    assert (waited.json["state"], waited.json["instance"], waited.json["result"]) == ("succeeded", clerk, 1)


def test_wait_for_a_message_that_failed_exits_with_1(amx: Amx, clerk: str) -> None:
    message_id = amx("send", f"{clerk}#note", '{"key": 5}', "--json").json["message_id"]
    answer = amx("invocations", "wait", message_id, "--json")
    assert answer.code == 1
    assert answer.json["failure"]["reason"] == "INVALID_INPUT"


def test_publish_reaches_agents_and_subscribers(amx: Amx, engine: EngineProcess) -> None:
    key = uuid.uuid4().hex
    subscriber = amx_process(
        "subscribe", "orders.*", "--filter", f"mark = {key}", "--count", "1", "--json",
        folder=engine.folder / "..", environment={"AMX_ADDRESS": engine.address},
    )  # fmt: skip
    output = (engine.folder / ".." / "out.txt").resolve()
    try:

        def published() -> bool:
            amx("publish", "orders.new", "42", "--key", key, "--attribute", f"mark={key}")
            return subscriber.poll() is not None

        until(published, "the subscriber", output.read_text)
    finally:
        subscriber.kill()
        subscriber.wait()
    event = Answer(0, output.read_text(), "").json
    assert (event["topic"], event["payload"], event["attributes"]) == ("orders.new", 42, {"mark": key})
    until(
        lambda: amx("memory", "get", f"Clerk/{key}", "notes", "order").out.strip() == '"42"',
        "the agent's note of the order",
    )


def test_broadcast_needs_exactly_one_scope(amx: Amx) -> None:
    assert amx("broadcast", "1").code == 2
    assert amx("broadcast", "1", "--all", "--agent", "Clerk").code == 2


def test_broadcast_reports_each_recipient(amx: Amx, clerk: str) -> None:
    amx("request", clerk, '{"key": "a", "text": "b"}')
    for scope in (("--agent", "Clerk"), ("--group", "clerks"), ("--labels", "tier = gold")):
        answer = amx("broadcast", '{"key": "z", "text": "b"}', *scope, "--json")
        assert answer.code == 0, answer
        assert clerk in [each["instance"] for each in answer.json["recipients"]]


# --- looking and steering --------------------------------------------------------------------------------------------


def test_agents_are_listed_and_described(amx: Amx, clerk: str) -> None:
    amx("request", clerk, '{"key": "a", "text": "b"}')
    (listed,) = [each for each in amx("agents", "list", "--json").json if each["definition"]["name"] == "Clerk"]
    assert listed["versions"] == [{"version": "1.2.0", "links": 1, "active": True}]
    assert listed["processed"] >= 1
    table = amx("agents", "list").out
    assert table.splitlines()[0].split()[:3] == ["AGENT", "KIND", "VERSION"]
    described = amx("agents", "describe", "Clerk").out
    for part in ("Keeps notes.", "note", "Writes a note down.", "orders.*", "notes", "tidy", "every 6h", "tier=gold"):
        assert part in described, part


def test_agent_version_is_pinned_and_unpinned(amx: Amx) -> None:
    assert amx("agents", "activate", "Clerk", "1.2.0", "--json").json["pinned_version"] == "1.2.0"
    assert amx("agents", "activate", "Clerk", "--json").json["pinned_version"] == ""
    assert amx("agents", "activate", "Clerk", "9.9.9").code != 0


@pytest.mark.parametrize(
    "command",
    [
        ("agents", "describe", "Nobody"),
        ("instances", "describe", "Nobody/1"),
        ("invocations", "get", "no-such-message"),
        ("schedules", "pause", "Nobody/default/never"),
        ("memory", "get", "Clerk", "no-such-memory"),
    ],
    ids=" ".join,
)
def test_what_does_not_exist_exits_with_4(amx: Amx, command: tuple[str, ...]) -> None:
    answer = amx(*command)
    assert answer.code == 4, answer
    assert answer.err.startswith("amx: ")


def test_instances_are_listed_by_agent_and_state(amx: Amx, clerk: str) -> None:
    amx("request", clerk, '{"key": "a", "text": "b"}')
    listed = amx("instances", "list", "--agent", "Clerk", "--limit", "0", "--json").json
    assert clerk in [each["instance"] for each in listed]
    described = amx("instances", "describe", clerk, "--json").json
    assert (described["state"], described["memory_version"]) == ("idle", 1)
    assert amx("instances", "list", "--state", "asleep").code == 2


def test_running_invocation_is_listed_and_cancelled(amx: Amx, clerk: str) -> None:
    message_id = amx("send", f"{clerk}#wait", "--json").json["message_id"]
    until(
        lambda: amx("invocations", "get", message_id, "--json").json["state"] == "running",
        "the invocation to run",
    )
    listed = amx("invocations", "list", "--agent", "Clerk", "--state", "running", "--json").json
    assert message_id in [each["message_id"] for each in listed]
    assert amx("invocations", "cancel", message_id, "--reason", "enough").code == 0
    assert amx("invocations", "wait", message_id, "--json").json["state"] == "cancelled"
    assert amx("invocations", "cancel", message_id).code == 1


def test_memory_is_read_written_searched_and_removed(amx: Amx, clerk: str) -> None:
    amx("request", clerk, '{"key": "alpha", "text": "one"}')
    amx("request", clerk, '{"key": "alps", "text": "two"}')
    assert amx("memory", "get", clerk, "notes", "alpha").json == "one"
    found = amx("memory", "search", clerk, "notes", "alp", "--json").json
    assert sorted(each["value"] for each in found) == ["one", "two"]
    written = amx("memory", "put", clerk, "notes", '"three"', "--entry", "beta", "--json").json
    stale = amx("memory", "put", clerk, "notes", '"four"', "--entry", "beta", "--if-version", "1")
    assert written["version"] > 1
    assert stale.code == 1
    assert "MEMORY_VERSION_MISMATCH" in stale.err
    assert amx("memory", "get", clerk, "notes", "beta", "--json").json["entry"]["value"] == "three"
    kinds = {
        each["name"]: (each["kind"], each["entries"])
        for each in amx("memory", "list", clerk, "--json").json["memories"]
    }
    assert kinds["notes"] == ("map", 3)
    assert amx("memory", "delete", clerk, "notes", "beta").code == 0
    assert amx("memory", "delete", clerk, "notes", "beta").code == 4
    # The handler sees what was written from outside.
    assert amx("request", clerk, '{"key": "gamma", "text": "x"}').json == 3


def test_memory_of_sets_and_values_is_written(amx: Amx, clerk: str) -> None:
    assert amx("memory", "put", clerk, "tags", '"blue"').code == 0
    assert amx("memory", "search", clerk, "tags", "--json").json[0]["id"] == '"blue"'
    assert amx("memory", "put", clerk, "motto", '"onward"').code == 0
    assert amx("memory", "get", clerk, "motto").json == "onward"
    assert amx("memory", "put", clerk, "notes", '"x"').code == 2  # which entry?


def test_an_entry_is_written_with_a_lifetime_of_its_own(amx: Amx, clerk: str) -> None:
    assert amx("memory", "put", clerk, "notes", '"soon gone"', "--entry", "a", "--ttl", "30m").code == 0
    assert amx("memory", "put", clerk, "tags", '"brief"', "--ttl", "1h30m").code == 0
    assert 0 < int(amx("memory", "get", clerk, "notes", "a", "--json").json["entry"]["expires_in_ms"]) <= 1_800_000
    (tag,) = amx("memory", "search", clerk, "tags", "--json").json
    assert 1_800_000 < int(tag["expires_in_ms"]) <= 5_400_000
    assert amx("memory", "put", clerk, "notes", '"stays"', "--entry", "a").code == 0
    assert not int(amx("memory", "get", clerk, "notes", "a", "--json").json["entry"].get("expires_in_ms", 0))
    refused = amx("memory", "put", clerk, "notes", '"x"', "--entry", "a", "--ttl", "0s")
    assert refused.code == 2 and "zero" in refused.err


def test_versions_of_memory_are_listed_read_named_and_deleted(amx: Amx, clerk: str) -> None:
    for text in ("one", "two", "three"):
        amx("request", clerk, json.dumps({"key": "a", "text": text}))
    amx("memory", "put", clerk, "notes", '"four"', "--entry", "a")
    history = amx("memory", "history", clerk, "--json").json
    assert [each["version"] for each in history["versions"]] == [4, 3, 2, 1]
    assert [bool(each["message_id"]) for each in history["versions"]] == [False, True, True, True]
    assert history["forked_from"] is None
    assert len(amx("memory", "history", clerk, "--json", "--limit", "2").json["versions"]) == 2
    assert amx("memory", "get", clerk, "notes", "a", "--at", "2").json == "two"
    assert amx("memory", "snapshot", clerk, "start", "--version", "1", "--json").json["snapshots"] == ["start"]
    assert "keeps version 4" in amx("memory", "snapshot", clerk, "now").out
    assert amx("memory", "get", clerk, "notes", "a", "--at", "start").json == "one"
    assert amx("memory", "search", clerk, "notes", "a", "--at", "3", "--json").json[0]["value"] == "three"
    listed = amx("memory", "list", clerk, "--at", "1", "--json").json
    assert (listed["version"], {each["name"]: each["entries"] for each in listed["memories"]}["notes"]) == (1, 1)
    table = amx("memory", "history", clerk).out
    assert "SNAPSHOTS" in table and "start" in table
    assert amx("memory", "snapshot", clerk, "start").code == 1  # it is another version's
    assert amx("memory", "snapshot", clerk, "12").code == 1  # a number would be taken for a version
    assert amx("memory", "snapshot", clerk, "start", "--delete").code == 0
    assert amx("memory", "snapshot", clerk, "start", "--delete").code == 4
    assert amx("memory", "get", clerk, "notes", "a", "--at", "start").code == 4
    assert amx("memory", "get", clerk, "notes", "a", "--at", "77").code == 4
    assert amx("memory", "get", f"{clerk}-new", "notes", "a", "--at", "1").code == 4


def test_instance_is_forked_and_restored(amx: Amx, clerk: str) -> None:
    for text in ("one", "two"):
        amx("request", clerk, json.dumps({"key": "a", "text": text}))
    fork = f"{clerk}-fork"
    assert amx("memory", "fork", clerk, fork, "--version", "1", "--json").json == {
        "source": clerk, "target": fork, "version": 1,
    }  # fmt: skip
    assert amx("memory", "get", fork, "notes", "a").json == "one"
    assert f"Forked from {clerk} at version 1" in amx("memory", "history", fork).out
    assert amx("request", fork, '{"key": "b", "text": "x"}').json == 2  # its handler sees what it inherited
    assert amx("memory", "get", clerk, "notes", "b").code == 4
    assert "FORK_TARGET_EXISTS" in amx("memory", "fork", clerk, fork).err
    assert amx("memory", "restore", clerk, "--version", "1", "--json").json == {"version": 3}
    assert amx("memory", "get", clerk, "notes", "a").json == "one"
    amx("memory", "snapshot", clerk, "second", "--version", "2")
    assert "now has version 4" in amx("memory", "restore", clerk, "--snapshot", "second").out
    assert amx("memory", "get", clerk, "notes", "a").json == "two"
    assert amx("memory", "restore", clerk).code == 2
    assert amx("memory", "restore", clerk, "--version", "1", "--snapshot", "second").code == 2


def test_memory_is_described_collected_and_verified(amx: Amx, clerk: str) -> None:
    text = uuid.uuid4().hex * 100
    for key in "ab":
        amx("request", clerk, json.dumps({"key": key, "text": text}))
    stats = amx("memory", "stats", "--json").json
    assert stats["referenced_bytes"] - stats["unique_bytes"] >= len(text)  # two entries, stored once
    assert [tier["name"] for tier in stats["tiers"]] == ["hot", "warm", "cold"]
    assert {"namespace": "default", "agent": "Clerk"}.items() <= stats["owners"][-1].items()
    shown = amx("memory", "stats").out
    assert "as if nothing were shared" in shown and "default Clerk" in shown
    assert "less by sharing" in shown and "less by compression" in shown
    *parts, last = amx("memory", "gc", "--json").lines
    assert (last["done"], last["progress"]) == (True, 1.0)
    assert not any(part["done"] for part in parts)
    assert [part["progress"] for part in parts] == sorted(part["progress"] for part in parts)
    assert "Forgot 0 versions" in amx("memory", "gc").out
    last = amx("memory", "verify", "--json").lines[-1]
    assert (last["done"], last["damages"], last["objects"] > 0, last["bytes"] > 0) == (True, [], True, True)
    answer = amx("memory", "verify")
    assert (answer.code, answer.err) == (0, "")
    assert "all is what its address says" in answer.out


@pytest.mark.parametrize(("command", "shows"), [("gc", "Collecting"), ("verify", "Verifying")])
def test_long_work_shows_how_far_it_is_on_terminals_only(engine: EngineProcess, command: str, shows: str) -> None:
    arguments = [sys.executable, "-m", "amx_server.cli", "memory", command, "--address", engine.address]
    terminal, end = pty.openpty()
    process = subprocess.Popen(arguments, stdout=end, stderr=end, env={**clean_environment(), "TERM": "xterm"})
    os.close(end)
    seen = b""
    with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
        while data := os.read(terminal, 65536):
            seen += data
    os.close(terminal)
    assert process.wait(60) == 0
    assert shows in seen.decode() and "100%" in seen.decode()
    piped = subprocess.run(arguments, capture_output=True, text=True, env=clean_environment(), timeout=60, check=True)
    assert piped.stderr == ""
    assert len(piped.stdout.splitlines()) == 1


def test_damaged_memory_is_named_and_makes_verify_fail(tmp_path: Path) -> None:
    (tmp_path / "clerks.py").write_text(AGENTS)
    arguments = ("dev", "--load", "clerks", "--grpc-port", "0", "--http-port", "0")
    with running(*arguments, folder=tmp_path) as engine:
        text = "".join(uuid.uuid4().hex for _ in range(200))  # most of the file
        note = json.dumps({"key": "a", "text": text})
        assert call("request", "Clerk/a", note, "--address", engine.address).code == 0
    (segment,) = (tmp_path / ".amx").glob("*-content/*.segment")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with running(*arguments, folder=tmp_path) as engine:
        answer = call("memory", "verify", "--address", engine.address)
        assert answer.code == 1
        assert "Clerk/a" in answer.out and "damaged:" in answer.out
        assert "problem" in answer.out.splitlines()[-1]
        last = call("memory", "verify", "--json", "--address", engine.address)
        assert (last.code, last.lines[-1]["damages"] != []) == (1, True)
        assert call("memory", "stats", "--json", "--address", engine.address).json["damages"]


def test_schedules_are_listed_paused_resumed_and_triggered(amx: Amx) -> None:
    (schedule,) = amx("schedules", "list", "--agent", "Clerk", "--json").json
    name = schedule["schedule_id"]
    assert schedule["definition"]["fixed_rate_ms"] or schedule["definition"]["fixed_delay_ms"]
    assert amx("schedules", "pause", name, "--json").json["paused"] is True
    assert "paused" in amx("schedules", "list").out
    assert amx("schedules", "resume", name, "--json").json["paused"] is False
    message_id = amx("schedules", "trigger", name).out.strip()
    assert amx("invocations", "wait", message_id, "--json").json["state"] == "succeeded"


def test_dead_letters_are_listed_retried_and_dropped(amx: Amx, clerk: str) -> None:
    message_id = amx("send", f"{clerk}#note", '{"key": 5}', "--json").json["message_id"]
    assert amx("invocations", "wait", message_id).code == 1
    listed = {each["message"]["message_id"]: each for each in amx("dead-letters", "list", "--json").json}
    assert listed[message_id]["failure"]["reason"] == "INVALID_INPUT"
    assert message_id in amx("dead-letters", "list").out
    assert amx("dead-letters", "drop").code == 2  # never everything by accident
    assert amx("dead-letters", "retry", message_id, "--json").json == {"count": 1}
    until(
        lambda: message_id in amx("dead-letters", "list", "--json").out,
        "the message to die again",
    )
    assert amx("dead-letters", "drop", message_id).out == "1 dropped.\n"
    for again in ("drop", "retry"):
        unknown = amx("dead-letters", again, message_id)
        assert (unknown.code, unknown.out[:2]) == (4, "0 ") and "[DEAD_LETTER_UNKNOWN]" in unknown.err


def test_logs_are_read_and_followed(amx: Amx) -> None:
    events = [line["event"] for line in amx("logs", "--json").lines]
    assert "engine_started" in events
    assert "engine_started" in amx("logs").out
    assert amx("logs", "--level", "error", "--json").lines == []
    assert amx("logs", "--level", "loud").code == 2


def test_status_describes_the_engine(amx: Amx, engine: EngineProcess) -> None:
    status = amx("status", "--json").json
    assert status["address"] == engine.address
    assert status["links"] >= 1
    assert "SQLite" in amx("status").out


# --- the command itself ----------------------------------------------------------------------------------------------


def test_engine_that_cannot_be_reached_exits_with_3() -> None:
    answer = call("agents", "list", "--address", "127.0.0.1:1")
    assert answer.code == 3
    assert "no engine answers at 127.0.0.1:1" in answer.err
    assert "amx dev" in answer.err
    assert "[ENGINE_UNREACHABLE]" in answer.err


def test_address_that_is_none_is_said_so() -> None:
    for address, problem in (("ftp://x", "is not an engine's address"), ("localhost", "names no port")):
        answer = call("agents", "list", "--address", address)
        assert answer.code == 2
        assert problem in answer.err


def test_unknown_command_and_missing_argument_exit_with_2() -> None:
    assert call("agnets").code == 2
    assert call("agents", "describe").code == 2
    assert call("request", "A", "--timeout", "soon").code == 2


def test_every_command_has_help() -> None:
    from typer.main import get_command

    from amx_server.cli.app import app

    def visit(command: object, path: tuple[str, ...]) -> None:
        assert getattr(command, "help", ""), path
        for name, inner in getattr(command, "commands", {}).items():
            visit(inner, (*path, name))

    visit(get_command(app), ("amx",))
    assert "Exit codes:" in call("--help").out


def test_version_is_printed() -> None:
    from amx_server.core.version import VERSION

    assert VERSION in call("version").out
    assert call("version", "--json").json["version"] == VERSION
    assert call("--version").out == f"amx {VERSION}\n"


def test_version_loads_neither_grpc_nor_the_engine() -> None:
    code = (
        "import sys; sys.argv = ['amx', 'version']\n"
        "from amx_server.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('grpc', 'aiohttp', 'apsw', 'structlog', 'amx_server.core.config', 'rich.table')\n"
        "heavy = [module for module in heavy if module in sys.modules]\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=clean_environment(), timeout=60)


def test_reader_that_has_seen_enough_is_no_error(engine: EngineProcess) -> None:
    command = f"{sys.executable} -m amx_server.cli agents list --address {engine.address} | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True, text=True, env=clean_environment(), timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert done.stderr == ""


def test_completion_is_offered() -> None:
    environment = {**clean_environment(), "_AMX_COMPLETE": "complete_bash", "COMP_WORDS": "amx dead", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['amx']\nfrom amx_server.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert "dead-letters" in done.stdout
