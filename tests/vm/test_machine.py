"""The machine at work, with few agents and a quick model: a process, stopped early, beside processes, a command."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

from amx_server.core.errors import AmxError
from amx_server.vm.baseline import measure
from amx_server.vm.options import VmOptions
from amx_server.vm.running import running

QUICK = VmOptions(
    agents=20, seconds=30.0, steps=3, memory=64_000_000, prompt_bytes=50_000, latency_min=0.02, latency_max=0.04
)


async def test_agents_converse_and_share_their_prompt() -> None:
    async with asyncio.timeout(60), running(QUICK) as machine:
        states = [state async for state in machine]
    events = [state.report.event for state in states]
    assert events[:2] == ["engine", "spawned"] and events[-1] == "ended"
    last = states[-1].report
    assert last.agents == 20
    assert last.failures == 0
    assert last.steps == 20 * QUICK.steps  # none is missed between the end of a step and the next
    assert last.retained >= 20 * QUICK.prompt_bytes
    assert last.plain < last.retained / 4
    assert last.waiting == {}
    assert states[-1].memory.private > 0


async def test_machine_that_is_stopped_reports_once_more_and_is_gone() -> None:
    async with asyncio.timeout(60), running(VmOptions(agents=5, seconds=0, prompt_bytes=1000)) as machine:
        async for state in machine:
            if state.report.event == "spawned":
                machine.stop()
    assert state.report.event == "ended"
    with pytest.raises(ProcessLookupError):
        os.kill(machine.pid, 0)


async def test_processes_do_the_same_work_and_totals_are_extrapolated() -> None:
    async with asyncio.timeout(60):
        found = await measure(QUICK, 2)
    assert (found.processes, found.agents, found.extrapolated) == (2, 20, True)
    assert found.steps > 2 * 2
    assert found.total_start == pytest.approx(found.start * 20)
    assert found.total_memory > 20 * 1_000_000
    assert found.cpu > 0


async def test_process_that_cannot_start_is_an_error_with_its_last_words() -> None:
    with pytest.raises(AmxError, match="openai") as caught:
        await measure(QUICK, 1, openai=True, python=sys.executable)
    assert caught.value.reason == "BASELINE_FAILED"


def test_command_prints_one_object_for_programs() -> None:
    arguments = ["--agents", "10", "--seconds", "0.3", "--latency", "10ms", "20ms", "--prompt", "10kB", "--json"]
    command = [sys.executable, "-m", "amx_server.cli", "vm", *arguments, "--baseline", "processes", "--processes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    outcome = json.loads(done.stdout)
    assert outcome["machine"]["agents"] == 10
    assert outcome["machine"]["memory"]["pss"] > 0
    assert [one["extrapolated"] for one in outcome["baselines"]] == [True]


def test_command_shows_what_it_does_and_refuses_what_makes_no_sense() -> None:
    command = [sys.executable, "-m", "amx_server.cli", "vm", "--agents", "5", "--seconds", "0.2", "--prompt", "1kB"]
    shown = subprocess.run(
        [*command, "--latency", "10ms", "20ms"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert shown.startswith("Agent VM starting...\n✓ Memory manager initialized (16.0 GB")
    assert "Agents running:     5" in shown
    assert "\x1b" not in shown
    wrong = subprocess.run([*command, "--latency", "2s", "1s"], capture_output=True, text=True, timeout=60, check=False)
    assert wrong.returncode == 2 and "latency" in wrong.stderr
