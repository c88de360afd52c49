"""`amx dev` and `amx serve` as processes: starting, reloading, stopping, and what goes wrong at that."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from amx_server.cluster.shards import ShardedStore
from amx_server.core.config import EngineConfig
from tests.cli.conftest import Answer, EngineProcess, amx_process, call, running, until

pytestmark = pytest.mark.process

GREETER = """
from amx_engine import Agent, handler
from words import GREETING


@Agent
class Greeter:
    @handler
    async def greet(self, name: str) -> str:
        return f"{GREETING}, {name}!"
"""


def ask(engine: EngineProcess, *arguments: str, **environment: str) -> Answer:
    return call(*arguments, environment={"AMX_ADDRESS": engine.address, **environment})


@pytest.fixture
def greeter(tmp_path: Path) -> Path:
    (tmp_path / "greeter.py").write_text(GREETER)
    (tmp_path / "words.py").write_text('GREETING = "Hello"\n')
    return tmp_path


DEV = ("dev", "--grpc-port", "0", "--http-port", "0")


def test_dev_prints_addresses_and_a_first_command_that_works(greeter: Path) -> None:
    with running(*DEV, "--load", "greeter", folder=greeter) as engine:
        engine.wait_for("Try: ")
        line = next(line for line in engine.output.splitlines() if line.startswith("Try: amx "))
        import shlex

        answer = call(*shlex.split(line.removeprefix("Try: amx ")))
        assert answer.json == "Hello, hello!"
        with urllib.request.urlopen(f"http://{engine.http}/health/ready", timeout=10) as response:
            assert response.status == 200
        assert (greeter / ".amx" / "amx.db").exists()


def test_dev_reloads_a_module_and_what_it_imports(greeter: Path) -> None:
    with running(*DEV, "--load", "greeter.py", folder=greeter) as engine:
        assert ask(engine, "request", "Greeter", '"Ada"').json == "Hello, Ada!"
        (greeter / "words.py").write_text('GREETING = "Good evening"\n')
        engine.wait_for("reloaded after a change of words.py")
        assert ask(engine, "request", "Greeter", '"Ada"').json == "Good evening, Ada!"


def test_dev_keeps_the_agents_when_a_change_does_not_work(greeter: Path) -> None:
    with running(*DEV, "--load", "greeter", folder=greeter) as engine:
        (greeter / "greeter.py").write_text("this is no Python")
        engine.wait_for("the agents stay as they were")
        assert "SyntaxError" in engine.output
        assert ask(engine, "request", "Greeter", '"Ada"').json == "Hello, Ada!"
        (greeter / "greeter.py").write_text(GREETER.replace("!", "?"))
        engine.wait_for("reloaded after a change of greeter.py")
        assert ask(engine, "request", "Greeter", '"Ada"').json == "Hello, Ada?"


def test_dev_keeps_memory_over_a_restart(greeter: Path) -> None:
    (greeter / "counter.py").write_text(
        "from amx_engine import Agent, handler, memory\n\n\n"
        "@Agent\nclass Counter:\n"
        "    @memory(persistent=True)\n    def seen(self) -> dict[str, int]:\n        return {}\n\n"
        "    @handler\n    async def count(self) -> int:\n"
        "        self.seen['n'] = self.seen.get('n', 0) + 1\n        return self.seen['n']\n"
    )
    for expected in (1, 2):
        with running(*DEV, "--load", "counter", "--data-dir", "data", folder=greeter) as engine:
            assert ask(engine, "request", "Counter").json == expected
        assert engine.process.returncode == 0


@pytest.mark.parametrize(
    ("started", "path", "shown"),
    [
        ("/opt/venv/bin/amx", "{folder}", "amx"),
        (".venv/bin/amx", "", ".venv/bin/amx"),
        ("/opt/my agents/amx", "", "'/opt/my agents/amx'"),
        ("/x/amx_server/cli/__main__.py", "", "amx"),
    ],
)
def test_dev_shows_commands_as_they_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: str, path: str, shown: str
) -> None:
    from amx_server.cli.dev import program

    (tmp_path / "amx").write_text("#!/bin/sh\n")
    (tmp_path / "amx").chmod(0o755)
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.setenv("PATH", path.format(folder=tmp_path))
    assert program() == shown


@pytest.mark.parametrize(
    ("arguments", "text", "code"),
    [
        (("dev", "--load", "nowhere"), "there is no module 'nowhere'", 1),
        (("dev", "--load", "words"), "'words' holds no agent; decorate a class", 1),
        (("dev", "--load", "broken"), "ZeroDivisionError", 1),
        (("dev", "--load", "missing.py"), "there is no file missing.py", 1),
        (("dev", "--load", "wanting"), "imports 'no_such_package', which is not installed", 1),
        (("dev", "--set", "grpc.prt=1"), "did you mean 'port'", 2),
        (("dev", "--set", "nonsense"), "is not SECTION.FIELD=VALUE", 2),
        (("serve", "--config", "nowhere.yaml"), "nowhere.yaml: cannot be read", 2),
        (("serve", "--config", "foreign.yaml"), "aws: unknown section", 2),
        (("serve", "--set", "security.tokens=[{token: a, subject: b, roles: [boss]}]"), "unknown role 'boss'", 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_start_that_cannot_work_says_why(greeter: Path, arguments: tuple[str, ...], text: str, code: int) -> None:
    (greeter / "broken.py").write_text("1 / 0")
    (greeter / "wanting.py").write_text("import no_such_package")
    (greeter / "foreign.yaml").write_text("aws: {}")
    process = amx_process(*arguments, folder=greeter)
    assert process.wait(30) == code, (greeter / "out.txt").read_text()
    assert text in (greeter / "out.txt").read_text()


def test_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = amx_process("serve", "--set", f"grpc.port={port}", "--set", "http.port=0", folder=tmp_path)
        assert process.wait(30) == 1
    assert f"127.0.0.1:{port}" in (tmp_path / "out.txt").read_text()


SERVE = ("serve", "--set", "grpc.port=0", "--set", "http.port=0")


def test_serve_that_asks_for_tokens_and_knows_none_says_so(tmp_path: Path) -> None:
    with running(*SERVE, "--set", "security.require_token=true", folder=tmp_path) as engine:
        engine.wait_for("no_tokens_configured")


def test_serve_asks_for_tokens_and_roles(tmp_path: Path) -> None:
    (tmp_path / "amx-config.yaml").write_text(
        "engine:\n  security:\n    tokens:\n"
        "      - {token: '${ADMIN_TOKEN}', subject: root, roles: [admin]}\n"
        "      - {token: looker, subject: eve, roles: [viewer]}\n"
    )
    with running(*SERVE, folder=tmp_path, environment={"ADMIN_TOKEN": "s3cret"}) as engine:
        assert ask(engine, "status", AMX_TOKEN="s3cret").code == 0
        none = ask(engine, "status")
        assert none.code == 5
        assert "AMX_TOKEN" in none.err
        wrong = ask(engine, "status", "--token", "guess")
        assert wrong.code == 5
        assert "guess" not in wrong.err
        viewer = ask(engine, "send", "A", "1", AMX_TOKEN="looker")
        assert viewer.code == 5
        assert "messages:send" in viewer.err
        assert ask(engine, "agents", "list", AMX_TOKEN="looker").code == 0
        assert "s3cret" not in engine.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_engine_politely(tmp_path: Path, number: signal.Signals) -> None:
    with running(*SERVE, folder=tmp_path) as engine:
        engine.process.send_signal(number)
        assert engine.process.wait(20) == 0
    assert "engine_stopped" in engine.output


def test_running_handler_may_finish_before_the_engine_stops(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import asyncio\nfrom amx_engine import Agent, handler\n\n\n"
        "@Agent\nclass Slow:\n    @handler\n    async def work(self) -> str:\n"
        "        print('at work', flush=True)\n        await asyncio.sleep(1)\n        return 'finished'\n"
    )
    with running(*DEV, "--load", "slow", folder=tmp_path) as engine:
        asking = amx_process("request", "Slow", folder=tmp_path / "..", environment={"AMX_ADDRESS": engine.address})
        engine.wait_for("at work")
        engine.process.send_signal(signal.SIGTERM)
        assert asking.wait(20) == 0
        assert engine.process.wait(20) == 0
    assert (tmp_path / ".." / "out.txt").read_text() == '"finished"\n'


def test_handler_that_never_ends_does_not_keep_the_engine_from_stopping(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(
        "import asyncio\nfrom amx_engine import Agent, handler\n\n\n"
        "@Agent\nclass Stuck:\n    @handler\n    async def work(self) -> None:\n"
        "        print('at work', flush=True)\n        await asyncio.sleep(3600)\n"
    )
    with running(*DEV, "--load", "stuck", "--set", "shutdown_deadline=1s", folder=tmp_path) as engine:
        assert ask(engine, "send", "Stuck").code == 0
        engine.wait_for("at work")
        engine.process.send_signal(signal.SIGTERM)
        engine.process.wait(20)
    # The message was stored and is not lost: the next engine runs it again.
    with running(*DEV, "--load", "stuck", "--set", "shutdown_deadline=1s", folder=tmp_path) as engine:
        engine.wait_for("at work")


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(
        "import asyncio\nfrom amx_engine import Agent, handler\n\n\n"
        "@Agent\nclass Stuck:\n    @handler\n    async def work(self) -> None:\n"
        "        print('at work', flush=True)\n        await asyncio.sleep(3600)\n"
    )
    with running(*DEV, "--load", "stuck", "--set", "shutdown_deadline=1h", folder=tmp_path) as engine:
        assert ask(engine, "send", "Stuck").code == 0
        engine.wait_for("at work")
        engine.process.send_signal(signal.SIGTERM)

        def again() -> bool:
            engine.process.send_signal(signal.SIGTERM)
            return engine.process.poll() is not None

        until(again, "the process to end")
        assert engine.process.returncode in (130, -signal.SIGTERM)


def test_metrics_count_what_was_processed(greeter: Path) -> None:
    with running(*DEV, "--load", "greeter", folder=greeter) as engine:
        ask(engine, "request", "Greeter", '"Ada"')
        with urllib.request.urlopen(f"http://{engine.http}/metrics", timeout=10) as response:
            text = response.read().decode()
    assert 'amx_messages_processed_total{agent_name="Greeter",message_type="greet",status="success"} 1.0' in text
    assert "amx_active_agents 1.0" in text


def test_logs_follow_what_comes(tmp_path: Path) -> None:
    with running(*SERVE, folder=tmp_path) as engine:
        (tmp_path / "follow").mkdir()
        output = tmp_path / "follow" / "out.txt"
        follower = amx_process(
            "logs", "--follow", "--json", folder=tmp_path / "follow", environment={"AMX_ADDRESS": engine.address}
        )
        try:
            until(lambda: "engine_started" in output.read_text(), "the past", output.read_text)
        finally:
            follower.send_signal(signal.SIGINT)
            assert follower.wait(20) == 130
    assert all(json.loads(line)["at_ms"] for line in output.read_text().splitlines())


def test_doctor_finds_a_healthy_machine_and_a_running_engine(greeter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(*DEV, "--load", "greeter", folder=greeter) as engine:
        monkeypatch.chdir(greeter)
        answer = ask(engine, "doctor", "--json")
        findings = {finding["check"]: finding for finding in answer.json}
        assert findings["engine"]["status"] == "ok"
        assert findings["store"]["status"] == "ok"
        assert findings["fsync"]["message"].endswith("ms")
        assert findings["data folder"]["status"] == "ok"


def test_doctor_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".amx").mkdir()
    (tmp_path / ".amx" / "amx.db").write_bytes(b"this is not a database, however long one looks at it" * 100)
    answer = call("doctor", "--address", "127.0.0.1:1", "--json")
    assert answer.code == 1
    problems = {finding["check"]: finding["message"] for finding in answer.json if finding["status"] == "problem"}
    assert "cannot be opened" in problems["store"]
    assert "no engine answers" in problems["engine"]


def test_doctor_looks_at_the_store_of_each_of_several_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = EngineConfig()
    store = ShardedStore(config)
    store.claim(2)
    damaged = Path(store.config(config, 1, 2).storage.file)
    damaged.parent.mkdir()
    damaged.write_bytes(b"no database" * 1000)
    answer = call("doctor", "--json")
    stores = [(each["status"], each["message"]) for each in answer.json if each["check"] == "store"]
    assert [status for status, _ in stores] == ["ok", "problem"]
    assert "engine-0" in stores[0][1] and "engine-1" in stores[1][1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_doctor_finds_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o500)
    answer = call("doctor", "--json")
    tmp_path.chmod(0o700)
    assert answer.code == 1
    assert any("cannot be written" in finding["message"] for finding in answer.json)
