"""Runs cases: which with which testee on which transport, several at a time, and what became of each."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from conformance.runner import sdk_steps
from conformance.runner.cases import FIXTURES, Case, chosen
from conformance.runner.outcomes import Outcome, Result
from conformance.runner.peer import Broken, CaseFailure, Trace
from conformance.runner.stdio import StdioTestee
from conformance.runner.testee_link import TesteeLink
from conformance.runner.testees import ENGINE, Testee

if TYPE_CHECKING:
    from conformance.runner.engine_process import EngineProcess
    from conformance.runner.grpc_testee import ConnectingTestee

_CASE_SECONDS = 120.0
"""After this a case is given up, whatever it waits for."""

# Agents and operations that leave something behind, in memory, in the store, or in the testee's process.
_REMEMBERING = re.compile(
    r"Counter|Slow|Scheduled|Monitor|Listener|observed|durable|idempotency|'(memory|publish|publish_now|send|send_now|"
    r"schedule|unschedule|wait|expire|broadcast|subscribe)'"
)

# What a case may do that shares a process with others, and what it may not speak of.
_WITHIN_A_SESSION = frozenset({"exchange", "send", "expect", "expect_nothing", "hibernate", "note"})
_OUTLIVING_A_SESSION = re.compile(
    r"Slow|Monitor|observed|'(call|hello|register|drain|ping|wait|outside|outcomes|parallel)'"
)

Report = Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class Task:
    """One case, with one testee, on one transport."""

    case: Case
    testee: Testee
    transport: str


def plan(cases: Sequence[Case], testees: Sequence[Testee], transports: Sequence[str] = ()) -> list[Task]:
    """Everything there is to run. transports: only these; none: all."""
    return [
        Task(case, testee, transport)
        for testee in testees
        for case in cases
        if (case.subject == "engine") == (testee.name == ENGINE)
        for transport in case.transports
        if not transports or transport in transports
    ]


async def run(tasks: Sequence[Task], report: Report, jobs: int = 2) -> list[Result]:
    """Runs everything, `jobs` at a time, and reports each result as it comes. The results are in the tasks' order."""
    results: dict[int, Result] = {}
    waiting = list(enumerate(tasks))[::-1]

    async def work(workplace: Workplace) -> None:
        try:
            while waiting:
                index, task = waiting.pop()
                results[index] = result = await workplace.run(task)
                report(result)
        finally:
            await workplace.close()

    # Whatever stops one of them, the others go on, and what nobody ran is NOT_RUN.
    await asyncio.gather(*(work(Workplace()) for _ in range(max(1, jobs))), return_exceptions=True)
    found = []
    for index, task in enumerate(tasks):
        missing = Result(task.case.id, task.testee.name, task.transport, Outcome.NOT_RUN, "it has no result")
        found.append(results.get(index, missing))
    return found


async def check(command: Sequence[str], patterns: Sequence[str], transport: str = "stdio") -> list[Result]:
    """Runs the cases of subject sdk that the patterns choose against any command, as if it claimed every feature.

    For tests of testees and of the suite itself.
    """
    from conformance.runner.loader import load

    cases = [case for case in load() if case.subject == "sdk" and chosen(case.id, patterns)]
    features = frozenset(feature for case in cases for feature in case.features)
    testee = Testee("checked", "checked", tuple(command), features)
    return await run(plan(cases, [testee], [transport]), lambda result: None)


class Workplace:
    """Runs one case at a time, and keeps what can be used for the next."""

    def __init__(self) -> None:
        from conformance.runner.engine_process import EngineProcess

        self._engine = EngineProcess()
        self._hosting: Hosting | None = None
        self._kept: dict[tuple[str, str], TesteeLink] = {}

    async def close(self) -> None:
        """Ends what is kept."""
        for testee in self._kept.values():
            await testee.kill()
        await self._end_hosting()
        await self._engine.close()

    async def run(self, task: Task) -> Result:
        """Runs a case. Never raises but for cancellation."""
        case, testee = task.case, task.testee
        result = Result(case.id, testee.name, task.transport, Outcome.PASS)
        missing = testee.missing(case)
        if missing:
            return replace(result, outcome=Outcome.UNSUPPORTED, message=f"not claimed: {', '.join(missing)}")
        trace = Trace()
        complaints: list[str] = []
        began = time.monotonic()
        try:
            async with asyncio.timeout(_CASE_SECONDS):
                await self._carry_out(task, trace, complaints)
        except CaseFailure as failure:
            result = replace(result, outcome=Outcome.FAIL, message=str(failure))
        except Broken as broken:
            result = replace(result, outcome=Outcome.ERROR, message=str(broken))
        except TimeoutError:
            result = replace(result, outcome=Outcome.ERROR, message=f"not over after {_CASE_SECONDS:.0f} s")
        except Exception as error:
            result = replace(result, outcome=Outcome.ERROR, message=f"the runner failed: {error!r}")
        result = replace(result, seconds=time.monotonic() - began)
        if result.outcome is not Outcome.PASS:
            result = replace(result, trace=trace.lines(), complaints=complaints)
        return judged(result, testee.reason_to_fail(case, task.transport))

    async def _carry_out(self, task: Task, trace: Trace, complaints: list[str]) -> None:
        case = task.case
        if case.subject == "engine":
            from conformance.runner import engine_steps

            await self._end_hosting()
            try:
                await self._engine.start(case.config, manual=case.uses("advance"))
                await engine_steps.carry_out(case, self._engine, trace)
            finally:
                complaints += self._engine.complaints()
                await self._engine.end()
        elif task.transport in ("stdio", "grpc"):
            await self._scripted(task, trace, complaints)
        else:
            await self._through_engine(task, trace, complaints)

    async def _scripted(self, task: Task, trace: Trace, complaints: list[str]) -> None:
        """With the scripted engine: in a process of its own, or, where that can make no difference, in one that has
        served other cases. What fails there is done again in a process of its own, and only that counts.
        """
        case = task.case
        if needs_a_session_only(case):
            key = (task.testee.name, task.transport)
            kept = self._kept.pop(key, None)
            if kept is not None and kept.alive:
                try:
                    await sdk_steps.carry_out(case, kept, trace, again=True, leave=True)
                    self._kept[key] = kept
                    return
                except (CaseFailure, Broken):
                    trace.clear()
            if kept is not None:
                await kept.kill()
            self._kept[key] = await _started(task, [*task.testee.start])
            try:
                await sdk_steps.carry_out(case, self._kept[key], trace, leave=True)
                return
            except BaseException:
                kept = self._kept.pop(key)
                await kept.kill()
                complaints += kept.complaints()
                raise
        testee = await _started(task, task.testee.command(case))
        try:
            await sdk_steps.carry_out(case, testee, trace)
        finally:
            await testee.kill()
            complaints += testee.complaints()

    async def _through_engine(self, task: Task, trace: Trace, complaints: list[str]) -> None:
        from conformance.runner import engine_client

        hosting = self._hosting
        if hosting is None or not hosting.fits(task):
            await self._end_hosting()
            hosting = self._hosting = await Hosting.start(self._engine, task)
        finished = False
        try:
            await hosting.ready()
            await engine_client.carry_out(task.case, self._engine.address, trace)
            finished = True
        finally:
            complaints += hosting.testee.complaints()
            complaints += [f"engine: {line}" for line in self._engine.complaints()]
            if not (finished and leaves_no_trace(task.case)):
                await self._end_hosting()

    async def _end_hosting(self) -> None:
        if self._hosting is not None:
            await self._hosting.testee.kill()
            self._hosting = None
        await self._engine.end()


@dataclass(frozen=True, slots=True)
class Hosting:
    """A testee that hosts its fixtures at the real engine, for one case after the other."""

    name: str
    agents: tuple[str, ...]
    credit: int | None
    testee: ConnectingTestee
    address: str

    @classmethod
    async def start(cls, engine: EngineProcess, task: Task) -> Hosting:
        """Starts an engine, and a testee at it."""
        from conformance.runner.grpc_testee import ConnectingTestee

        # Handlers that fail case after case must not open the circuit for the next one.
        await engine.start({"breaker.failure_threshold": 1_000_000})
        process = await ConnectingTestee.launch(task.testee.command(task.case), engine.address)
        return cls(task.testee.name, task.case.agents, task.case.credit, ConnectingTestee(process), engine.address)

    def fits(self, task: Task) -> bool:
        """Whether it can serve this one, too."""
        wanted = (task.testee.name, task.case.agents, task.case.credit)
        return self.testee.alive and wanted == (self.name, self.agents, self.credit)

    async def ready(self) -> None:
        """Returns when the fixtures are hosted."""
        from conformance.runner import engine_client

        await engine_client.hosted(self.address, list(self.agents or FIXTURES), self.testee)


async def _started(task: Task, command: list[str]) -> TesteeLink:
    if task.transport == "stdio":
        return await StdioTestee.start(command)
    from conformance.runner.grpc_testee import GrpcTestee

    return await GrpcTestee.start(command)


def needs_a_session_only(case: Case) -> bool:
    """Whether the case is about invocations of a new session, and about nothing that outlives one: not the process,
    not the handshake, not time, no calls (their ids rise over sessions).
    """
    plain = not case.welcome and not case.manual_handshake and case.answer_pings and case.stop and case.credit is None
    return (
        plain
        and all(step.kind in _WITHIN_A_SESSION for step in case.steps)
        and not _OUTLIVING_A_SESSION.search(_text(case))
    )


def leaves_no_trace(case: Case) -> bool:
    """Whether the next case may go to the same engine and the same process: neither remembers anything."""
    return not _REMEMBERING.search(_text(case))


def _text(case: Case) -> str:
    return repr([(step.args, step.more) for step in case.steps])


def judged(result: Result, known: str) -> Result:
    """The result in the light of the known list. known: why the case is known to fail; empty: it is not."""
    if known and result.outcome is Outcome.FAIL:
        return replace(result, outcome=Outcome.KNOWN_FAIL, message=f"{known}\n{result.message}")
    if known and result.outcome is Outcome.PASS:
        return replace(
            result,
            outcome=Outcome.UNEXPECTED_PASS,
            message=f"the known list says that it fails ({known}); take it off the list",
        )
    return result
