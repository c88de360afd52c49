"""The suite bites: a testee with one fault fails the case that is about it, and without the fault passes it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

import pytest

from conformance.runner.loader import load
from conformance.runner.outcomes import Outcome, Result
from conformance.runner.suite import Task, run
from conformance.runner.testees import Testee
from conformance.testees.broken import FAULTS

pytestmark = [pytest.mark.process]

AT_A_TIME = 4
CASES = {case.id: case for case in load()}

# Each fault, the case that it must fail, and a part of what the failure says.
BITES = {
    "wrong-code": ("errors/code", "failure.code"),
    "wrong-reason": ("errors/reason-and-message", "failure.reason"),
    "swallowed-error": ("errors/retryable", "at failure, got nothing"),
    "lost-cause": ("errors/causes", "failure.cause"),
    "lost-metadata": ("errors/metadata", "failure.metadata"),
    "never-retryable": ("errors/retryable", "failure.retryable"),
    "wrong-epoch": ("redelivery/attempt-is-seen-and-echoed", "epoch"),
    "wrong-attempt": ("redelivery/attempt-is-seen-and-echoed", "attempt"),
    "double-completion": ("invoke/handler-by-name", "second Complete"),
    "lost-completion": ("invoke/no-value", "nothing came in time"),
    "dropped-cancel": ("cancellation/of-a-handler", "nothing came in time"),
    "no-deadlines": ("deadlines/end-the-handler", "nothing came in time"),
    "lost-effects": ("effects/messages", "effects.messages"),
    "lost-headers": ("calls/request", "headers"),
    "lost-trace": ("headers/trace-of-a-call", "traceparent"),
    "reordered-chunks": ("streaming/chunks-in-order", "chunks[0]"),
    "forgotten-window": ("streaming/not-more-than-the-window", "expected nothing"),
    "forgotten-credit": ("handshake/hello-grants-credit", "hello.credit"),
    "lost-rollback": ("memory/undone-after-a-failure", '"lost"'),
    "ignored-memory": ("memory/image-of-every-kind", "result"),
    "lost-memory-changes": ("memory/list-as-the-engine-knows-it", "result"),
    "endless-lifetimes": ("memory/lifetime-of-an-image", '"soon"'),
    "no-pong": ("heartbeats/answers-pings", "nothing came in time"),
    "no-pong-while-blocking": ("heartbeats/blocking-handler", "pong"),
    "careless-json": ("serialization/duplicate-keys", "INVALID_VALUE"),
    "sorted-keys": ("serialization/order-of-keys", "result"),
    "null-is-absent": ("serialization/typed-null-is-not-absent", "null"),
    "ignored-unknown-item": ("unknown-items/answered", "nothing came in time"),
    "link-ends-at-unknown-item": ("unknown-items/answered", "there is no connection"),
    "forgotten-acknowledgement": ("batching/acknowledges-after-32-frames", "at ack"),
    "gap-in-numbers": ("batching/at-most-so-many-items", "frame 4 after frame 2"),
    "repeats-taken-again": ("resume/drops-repeats", "expected nothing"),
    "forgotten-token": ("resume/says-where-it-was", "resume_token"),
    "nothing-repeated": ("resume/repeats-what-was-lost", "nothing came in time"),
    "no-drain": ("drain/running-handlers-end-first", "drain"),
    "hasty-drained": ("drain/running-handlers-end-first", "drained"),
}


@pytest.fixture(scope="module")
def found() -> Mapping[str, Result]:
    """What became of each faulty testee at its case."""
    tasks = [
        Task(CASES[case], _testee("conformance.testees.broken", "--break", fault), "stdio")
        for fault, (case, _) in BITES.items()
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conformance.runner.cases.DEFAULT_WITHIN", 5.0)  # some of them are waited for in vain
        results = asyncio.run(run(tasks, lambda result: None, AT_A_TIME))
    return dict(zip(BITES, results, strict=True))


def _testee(module: str, *more: str) -> Testee:
    everything = frozenset(feature for case in CASES.values() for feature in case.features)
    return Testee("checked", "checked", (sys.executable, "-m", module, *more), everything)


@pytest.mark.parametrize("fault", BITES)
def test_a_testee_with_this_fault_fails_its_case(fault: str, found: Mapping[str, Result]) -> None:
    case, complaint = BITES[fault]
    assert (found[fault].case, found[fault].outcome) == (case, Outcome.FAIL), found[fault].message
    assert complaint in found[fault].message


def test_every_fault_has_its_case() -> None:
    assert set(FAULTS) == set(BITES)


def test_the_testee_without_faults_passes_the_same_cases() -> None:
    names = sorted({case for case, _ in BITES.values()})
    tasks = [Task(CASES[name], _testee("conformance.testees.python"), "stdio") for name in names]
    results = asyncio.run(run(tasks, lambda result: None, AT_A_TIME))
    assert [(one.case, one.outcome, one.message) for one in results] == [(name, Outcome.PASS, "") for name in names]


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('hello')", "import time; time.sleep(60)"])
def test_a_program_that_is_no_testee_is_an_error_and_no_pass(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.runner.sdk_steps.START_SECONDS", 1.0)
    testee = Testee("checked", "checked", (sys.executable, "-c", program))
    (result,) = asyncio.run(run([Task(CASES["invoke/no-value"], testee, "stdio")], lambda result: None))
    assert result.outcome in (Outcome.ERROR, Outcome.FAIL)
