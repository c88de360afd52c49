"""Agents that compute, loaded into an engine: hosted by helper processes, which hold nobody up, may die, and end with
the engine. Real processes throughout.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Answer, EngineProcess, amx_process, call, running, until

pytestmark = pytest.mark.process

AGENTS = '''
import os
import time

from amx_engine import Agent, handler, memory


@Agent
class Solver:
    solved: int = memory(persistent=True, default=0)

    @handler(default=True, execution="process")
    def solve(self, until: str) -> list[int]:
        """Computes until there is a file of that name."""
        self.solved += 1
        print(f"solving in {os.getpid()}", flush=True)
        while not os.path.exists(until):
            pass
        return [os.getpid(), self.solved]

    @handler(execution="process")
    def crash(self) -> None:
        print(f"crashing {os.getpid()}", flush=True)
        os.kill(os.getpid(), 9)

    @handler(execution="process")
    def hold(self, steps: int) -> int:
        """Holds the interpreter lock for so long."""
        print(f"solving in {os.getpid()}", flush=True)
        return sum(range(steps))


@Agent
class Spinner:
    @handler(execution="thread")
    def spin(self, until: str) -> int:
        print("spinning", flush=True)
        while not os.path.exists(until):
            pass
        return os.getpid()


@Agent
class Front:
    @handler
    async def pid(self) -> int:
        return os.getpid()
'''

SERVE = ("serve", "--load", "solver", "--set", "grpc.port=0", "--set", "http.port=0", "--set", "shutdown_deadline=5")
TWO = ("--set", "scheduler.processes=2")
ONE = ("--set", "scheduler.processes=1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "solver.py").write_text(AGENTS)
    return tmp_path


def ask(engine: EngineProcess, *arguments: str) -> Answer:
    return call("request", *arguments, environment={"AMX_ADDRESS": engine.address})


def asking(engine: EngineProcess, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A request in a process of its own, whose answer lands in the folder `name`."""
    (engine.folder / name).mkdir()
    return amx_process(
        "request",
        *arguments,
        "--timeout",
        "60",
        folder=engine.folder / name,
        environment={"AMX_ADDRESS": engine.address},
    )


def answer(engine: EngineProcess, name: str) -> Any:
    return json.loads((engine.folder / name / "out.txt").read_text())


def helpers(engine: EngineProcess) -> list[int]:
    """Process ids of the helpers in the order of their start."""
    return [int(pid) for pid in re.findall(r'"helper_started".*?"pid":(\d+)', engine.output)]


def solving(engine: EngineProcess) -> list[int]:
    """Process ids in which the Solver has begun to solve."""
    return [int(pid) for pid in re.findall(r"^solving in (\d+)$", engine.output, re.MULTILINE)]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return (Path("/proc") / str(pid) / "stat").read_text().split()[2] == "Z"  # dead, and nobody has asked


def test_others_are_served_while_processes_and_threads_compute(folder: Path) -> None:
    with running(*SERVE, *TWO, folder=folder) as engine:
        computing = [asking(engine, f"solver-{key}", f"Solver/{key}", '"done"') for key in "ab"]
        computing.append(asking(engine, "spinner", "Spinner", '"done"'))
        until(
            lambda: len(solving(engine)) == 2 and "spinning" in engine.output, "all to compute", lambda: engine.output
        )
        assert set(solving(engine)) == set(helpers(engine))  # each in a process of its own
        assert ask(engine, "Front").json == engine.process.pid
        assert ask(engine, "Spinner/other", '"solver.py"').json == engine.process.pid  # a thread for each
        (folder / "done").touch()
        assert [process.wait(60) for process in computing] == [0, 0, 0]
        assert sorted(answer(engine, f"solver-{key}")[0] for key in "ab") == sorted(helpers(engine))


def test_work_of_a_killed_helper_goes_on_in_another(folder: Path) -> None:
    with running(*SERVE, *TWO, folder=folder) as engine:
        assert ask(engine, "Solver", '"solver.py"').json[1] == 1
        request = asking(engine, "killed", "Solver", '"done"')
        until(lambda: len(solving(engine)) == 2, "the Solver to solve", lambda: engine.output)
        first = solving(engine)[-1]
        os.kill(first, signal.SIGKILL)
        until(lambda: len(solving(engine)) == 3, "the Solver to solve again", lambda: engine.output)
        second = solving(engine)[-1]
        assert second != first
        (folder / "done").touch()
        assert request.wait(60) == 0
        # What the killed attempt remembered was never committed.
        assert answer(engine, "killed") == [second, 2]
        until(lambda: len(helpers(engine)) == 3, "a new helper", lambda: engine.output)
        assert '"how":"SIGKILL"' in engine.output


def test_durable_work_and_callers_wait_for_the_only_helper_to_be_started_again(folder: Path) -> None:
    with running(*SERVE, *ONE, folder=folder) as engine:
        sent = call("send", "Solver/sent", '"done"', environment={"AMX_ADDRESS": engine.address})
        assert sent.code == 0
        until(lambda: len(solving(engine)) == 1, "the Solver to solve", lambda: engine.output)
        os.kill(helpers(engine)[0], signal.SIGKILL)
        request = asking(engine, "meanwhile", "Solver/asked", '"done"')
        until(lambda: len(solving(engine)) == 3, "both to run in the new helper", lambda: engine.output)
        (folder / "done").touch()
        assert request.wait(60) == 0
        assert answer(engine, "meanwhile") == [helpers(engine)[1], 1]
        assert ask(engine, "Solver/sent", '"done"').json == [helpers(engine)[1], 2]


def test_message_that_kills_every_helper_is_given_up_and_others_are_served(folder: Path) -> None:
    with running(*SERVE, *ONE, "--set", "delivery.redelivery_attempts=2", folder=folder) as engine:
        crashed = ask(engine, "Solver", "--handler", "crash", "--timeout", "60")
        assert crashed.code != 0
        assert "LINK_LOST" in crashed.err
        assert len(re.findall(r"^crashing \d+$", engine.output, re.MULTILINE)) == 3
        assert ask(engine, "Solver", '"solver.py"', "--timeout", "60").json[1] == 1


def test_helper_that_holds_the_interpreter_lock_is_not_taken_for_dead(folder: Path) -> None:
    with running(*SERVE, *ONE, "--set", "links.heartbeat_interval=0.1", folder=folder) as engine:
        assert ask(engine, "Solver", str(40_000_000), "--handler", "hold").json == sum(range(40_000_000))
        assert len(helpers(engine)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the interpreter lock must be let go of first")
@pytest.mark.parametrize("computes", [('"never"',), (str(10**12), "--handler", "hold")], ids=["in Python", "in C"])
def test_helpers_end_with_a_killed_engine_whatever_they_compute(folder: Path, computes: tuple[str, ...]) -> None:
    with running(*SERVE, *TWO, folder=folder) as engine:
        request = asking(engine, "lost", "Solver", *computes)
        until(lambda: len(solving(engine)) == 1, "the Solver to solve", lambda: engine.output)
        engine.process.kill()
        until(lambda: all(gone(pid) for pid in helpers(engine)), "the helpers to end", lambda: engine.output)
        assert request.wait(60) != 0


def test_running_handlers_of_helpers_may_finish_before_the_engine_stops(folder: Path) -> None:
    with running(*SERVE, *ONE, folder=folder) as engine:
        request = asking(engine, "last", "Solver", '"done"')
        until(lambda: len(solving(engine)) == 1, "the Solver to solve", lambda: engine.output)
        engine.process.send_signal(signal.SIGTERM)
        (folder / "done").touch()
        assert request.wait(60) == 0
        assert engine.process.wait(20) == 0
        assert answer(engine, "last") == [helpers(engine)[0], 1]
        assert all(gone(pid) for pid in helpers(engine))


def test_handler_that_never_ends_does_not_keep_engine_and_helper_from_stopping(folder: Path) -> None:
    with running(*SERVE, *ONE, "--set", "shutdown_deadline=1", folder=folder) as engine:
        assert call("send", "Solver", '"never"', environment={"AMX_ADDRESS": engine.address}).code == 0
        until(lambda: len(solving(engine)) == 1, "the Solver to solve", lambda: engine.output)
        engine.process.send_signal(signal.SIGTERM)
        engine.process.wait(20)
        assert all(gone(pid) for pid in helpers(engine))
    (folder / "never").touch()
    with running(*SERVE, *ONE, folder=folder) as engine:  # it was stored, and runs again
        until(lambda: len(solving(engine)) == 1, "the Solver to solve", lambda: engine.output)


def test_without_helper_processes_such_handlers_run_on_threads_of_the_engine(folder: Path) -> None:
    with running(*SERVE, "--set", "scheduler.processes=0", folder=folder) as engine:
        assert ask(engine, "Solver", '"solver.py"').json == [engine.process.pid, 1]
        assert not helpers(engine)


def test_dev_reloads_helpers_and_says_what_they_host(folder: Path) -> None:
    arguments = ("dev", "--load", "solver", "--grpc-port", "0", "--http-port", "0", *ONE)
    with running(*arguments, folder=folder) as engine:
        engine.wait_for("In 1 helper process: Solver")
        before = ask(engine, "Solver", '"solver.py"').json
        assert before == [helpers(engine)[0], 1]
        (folder / "solver.py").write_text(AGENTS.replace("self.solved += 1", "self.solved += 100"))
        engine.wait_for("reloaded after a change of solver.py")
        assert ask(engine, "Solver", '"solver.py"').json == [helpers(engine)[1], 101]
        until(lambda: gone(helpers(engine)[0]), "the old helper to end", lambda: engine.output)


def test_agents_that_helpers_cannot_host_end_the_start_with_the_reason(folder: Path) -> None:
    (folder / "solver.py").write_text(AGENTS + "\nimport sys\nif sys.argv[0].endswith('helper.py'):\n    1 / 0\n")
    process = amx_process(*SERVE, *TWO, folder=folder)
    assert process.wait(60) == 1
    output = (folder / "out.txt").read_text()
    assert "ZeroDivisionError" in output
    assert "could not host its agents: it ended with exit code 1" in output
    assert "HELPER_FAILED" in output


def test_served_agents_act_as_workers_and_keep_their_definitions(folder: Path) -> None:
    (folder / "amx-config.yaml").write_text(
        "engine:\n  security:\n    tokens:\n      - {token: looker, subject: eve, roles: [client]}\n"
    )
    with running(*SERVE, *ONE, folder=folder) as engine:
        environment = {"AMX_ADDRESS": engine.address, "AMX_TOKEN": "looker"}
        assert call("request", "Solver", '"solver.py"', environment=environment).json == [helpers(engine)[0], 1]
        assert call("request", "Front", environment=environment).json == engine.process.pid
    (folder / "solver.py").write_text(AGENTS.replace("def hold", "def holds"))
    process = amx_process(*SERVE, *ONE, folder=folder)
    assert process.wait(60) == 1
    output = (folder / "out.txt").read_text()
    assert "DEFINITION_CHANGED" in output
    assert "give the changed agent a new version" in output
