"""Cases of subject engine against a real engine in a process of its own: links, callers, time, death."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.runner.loader import load_case
from conformance.runner.outcomes import Outcome, Result
from conformance.runner.suite import plan, run
from conformance.runner.testees import ENGINE, Testee
from conformance.runner.testees import load as load_testees

pytestmark = pytest.mark.process

HEAD = """\
title: A case of the runner's own tests
clause: docs/protocol.md#invocations
level: must
subject: engine
"""
WORKER = "  - connect: {agents: [{name: Echo, version: 1.0.0, handlers: [{name: echo}]}]}\n"


async def outcome(tmp_path: Path, steps: str, head: str = "") -> Result:
    """What becomes of a case."""
    path = tmp_path / "tests" / "one.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{HEAD}{head}steps:\n{steps}")
    (result,) = await run(plan([load_case(path, tmp_path)], [Testee(ENGINE, "Engine")]), lambda result: None, jobs=1)
    return result


async def test_caller_and_link_meet(tmp_path: Path) -> None:
    steps = f"""\
{WORKER}
  - unary: {{method: Request, request: {{message: {{agent: Echo, payload: {{$json: 1}}}}}}, as: asked}}
  - expect: {{id: {{$bind: i}}, invoke: {{epoch: {{$bind: e}}, message: {{payload: {{$json: 1}}}}}}}}
  - send: {{id: {{$ref: i}}, complete: {{attempt: 1, epoch: {{$ref: e}}, result: {{$json: 2}}}}}}
  - {{outcome: asked, expect: {{result: {{$json: 2}}}}}}
  - unary: {{method: Request, request: {{message: {{agent: Nobody}}}}}}
    status: {{code: NOT_FOUND, reason: AGENT_UNKNOWN}}
"""
    result = await outcome(tmp_path, steps)
    assert (result.outcome, result.message) == (Outcome.PASS, "")


async def test_failure_tells_the_step_and_the_frames(tmp_path: Path) -> None:
    result = await outcome(tmp_path, f"{WORKER}  - send: {{ping: {{nonce: 4}}}}\n  - expect: {{pong: {{nonce: 5}}}}\n")
    assert result.outcome is Outcome.FAIL
    assert result.message.startswith("step 3 (expect, line 8): expected 5 at item.pong.nonce, got 4")
    assert '→ main {"items":[{"ping":{"nonce":4}}],"seq":1}' in result.trace


async def test_status_that_is_not_expected_fails(tmp_path: Path) -> None:
    steps = "  - unary: {method: GetAgent, request: {name: Nobody}}\n    expect: {}\n"
    assert "got the status" in (await outcome(tmp_path, steps)).message


async def test_time_moves_when_a_step_says_so(tmp_path: Path) -> None:
    steps = f"""\
{WORKER.replace("handlers:", "schedules: [{name: hourly, handler: echo, fixed_rate_ms: 3600000}], handlers:")}
  - advance: 59m
  - expect_nothing: true
  - advance: 1m
  - expect: {{invoke: {{message: {{agent: Echo}}}}}}
"""
    assert (await outcome(tmp_path, steps)).outcome is Outcome.PASS


async def test_engine_that_was_killed_comes_back_on_its_store(tmp_path: Path) -> None:
    steps = f"""\
{WORKER}
  - unary: {{method: Send, request: {{message: {{agent: Echo, message_id: m1}}}}}}
    expect: {{message_id: m1}}
  - kill: true
  - restart: true
  - unary: {{method: Send, request: {{message: {{agent: Echo, message_id: m1}}}}}}
    expect: {{message_id: m1, duplicate: true}}
"""
    assert (await outcome(tmp_path, steps)).outcome is Outcome.PASS


async def test_setting_that_does_not_exist_is_an_error_not_a_failure(tmp_path: Path) -> None:
    result = await outcome(tmp_path, WORKER, "config: {links.no_such_thing: 1}\n")
    assert result.outcome is Outcome.ERROR
    assert "no_such_thing" in result.message


async def test_trained_testee_has_hosted_its_fixtures_and_ended_politely() -> None:
    assert await replace(load_testees()["python"], build=(), train=load_testees()["python"].start).built() == ""


async def test_testee_that_cannot_be_trained_is_named_with_the_reason() -> None:
    assert "'false': the testee has ended before" in await replace(load_testees()["python"], train=("false",)).built()
