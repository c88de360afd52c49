"""`amx scheduler` against a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amx.v1 import engine_pb2
from amx_server.cli.output import Page, plain
from amx_server.cli.scheduler import _decisions, _place, _status
from tests.cli.conftest import AGENTS, Amx, EngineProcess, amx_process, call, running, until

pytestmark = pytest.mark.process


@pytest.fixture
def policy(amx: Amx) -> Iterator[None]:
    """Leaves the engine's policy as it was."""
    yield
    assert amx("scheduler", "policy", "fair-share").code == 0


def test_status_shows_pressure_with_its_readings(amx: Amx) -> None:
    answer = amx("scheduler", "status")
    assert answer.code == 0
    assert "nothing is scarce" in answer.out
    assert "fair-share" in answer.out
    for reading in ("memory", "writes", "loop delay", "queue delay"):
        assert reading in answer.out
    found = amx("scheduler", "status", "--json").json
    assert (found["pressure"], found["policy"], found["mode"]) == ("normal", "fair-share", "fair-share")
    memory = {reading["signal"]: reading for reading in found["readings"]}["memory"]
    assert 0 < memory["value"] < memory["elevated"] == 0.75


@pytest.mark.usefixtures("policy")
def test_policy_is_chosen_and_shown(amx: Amx) -> None:
    assert amx("scheduler", "policy").out == "fair-share\n"
    chosen = amx("scheduler", "policy", "adaptive", "--json").json
    assert chosen == {"policy": "adaptive", "mode": "fair-share", "previous": "fair-share"}
    assert amx("scheduler", "policy").out == "adaptive, now fair-share\n"
    assert "performance, adaptive before" in amx("scheduler", "policy", "performance").out


def test_unknown_policy_names_the_known_ones(amx: Amx) -> None:
    answer = amx("scheduler", "policy", "nepotism")
    assert answer.code == 1
    assert "fair-share, priority, performance, adaptive" in answer.err


def test_decisions_of_an_engine_that_took_none(amx: Amx) -> None:
    assert amx("scheduler", "decisions").code == 0
    assert isinstance(amx("scheduler", "decisions", "--json").json, list)


def test_status_goes_on_with_a_line_of_json_each_time(engine: EngineProcess, tmp_path: Path) -> None:
    watching = amx_process(
        "scheduler", "status", "--watch", "--interval", "100ms", "--json",
        folder=tmp_path, environment={"AMX_ADDRESS": engine.address},
    )  # fmt: skip
    output = tmp_path / "out.txt"
    try:
        until(lambda: output.read_text().count('"pressure": "normal"') >= 3, "three looks", output.read_text)
    finally:
        watching.kill()
        watching.wait()
    assert len(output.read_text().splitlines()) >= 3


def test_policy_needs_a_permission_that_looking_does_not(tmp_path: Path) -> None:
    (tmp_path / "clerks.py").write_text(AGENTS)
    (tmp_path / "amx-config.yaml").write_text(
        "security:\n  tokens:\n"
        "    - {token: looks, subject: v, roles: [viewer]}\n"
        "    - {token: steers, subject: a, roles: [admin]}\n"
    )
    with running("serve", "--set", "grpc.port=0", "--set", "http.enabled=false", folder=tmp_path) as engine:
        environment = {"AMX_ADDRESS": engine.address}
        assert call("scheduler", "status", "--token", "looks", environment=environment).code == 0
        refused = call("scheduler", "policy", "adaptive", "--token", "looks", environment=environment)
        assert refused.code != 0
        assert "engine:write" in refused.err
        assert call("scheduler", "policy", "adaptive", "--token", "steers", environment=environment).code == 0


# --- what people see -------------------------------------------------------------------------------------------------


def busy() -> dict[str, Any]:
    """What a busy engine answers."""
    response = engine_pb2.GetSchedulerResponse(
        policy="adaptive",
        mode="priority",
        pressure=engine_pb2.PRESSURE_LEVEL_HIGH,
        pressure_because="memory: 14.00 GiB of 16.00 GiB are taken (88%), HIGH from 85%",
        refused=7,
    )
    response.readings.add(signal="memory", value=0.875, elevated=0.75, high=0.85, critical=0.95)
    response.readings.add(signal="queue_delay", value=0.25, elevated=2, high=8)
    response.shares.add(namespace="default", agent="Cart", weight=0.75, used=0.5, ready=3, running=16)
    response.waits.add(reason=engine_pb2.WAIT_REASON_LINK, instances=3)
    response.blocks.add(at_ms=1, for_ms=300, instance="Cart/c1", handler="add", place="carts.py:7")
    response.decisions.add(
        at_ms=1, kind="rebalance", agent="Cart", amount=12, because="link w1 has 90% of its slots", applied=True
    )
    response.decisions.add(at_ms=1, kind="switch_policy", amount=0.9, because="urgent work waits", applied=True)
    response.decisions.add(at_ms=1, kind="scale_up", agent="Cart", amount=4, because="100% of 16 slots", applied=False)
    return plain(response)


def shown(show: Any) -> list[str]:
    """The lines of a page, with single spaces between words."""
    page = Page()
    show(page, busy())
    return [" ".join(line.split()) for text in page._lines for line in text.splitlines()]


def test_status_of_a_busy_engine_names_what_is_scarce_and_who_waits() -> None:
    lines = shown(_status)
    for line in (
        "pressure: high: memory: 14.00 GiB of 16.00 GiB are taken (88%), HIGH from 85%",
        "policy: adaptive, now priority",
        "memory 88% 75% 85% 95%",
        "queue delay 250ms 2s 8s never",
        "Cart 0.75 50% 16 3",
        "link 3",
    ):
        assert line in lines
    assert any(line.endswith("300ms Cart/c1#add carts.py:7") for line in lines)


def test_decisions_say_what_was_done_and_what_is_advice() -> None:
    page = "\n".join(shown(_decisions))
    for line in (
        "rebalance Cart 12 yes link w1 has 90% of its slots",
        "switch policy all yes urgent work waits",
        "scale up Cart 4 advice 100% of 16 slots",
    ):
        assert line in page


def test_place_of_a_block_is_short_on_a_terminal_and_whole_in_a_pipe() -> None:
    place = "/home/ada/shop/agents/carts.py:7 in add"
    assert _place(place, terminal=True) == "…/agents/carts.py:7 in add"
    assert _place(place, terminal=False) == place
    assert _place("carts.py:7", terminal=True) == "carts.py:7"
