"""One run of a testee that is not judged: for what its runtime records of a run, to start faster the next time."""

from __future__ import annotations

from conformance.runner import engine_client
from conformance.runner.cases import FIXTURES
from conformance.runner.engine_process import EngineProcess
from conformance.runner.grpc_testee import ConnectingTestee
from conformance.runner.peer import Broken, CaseFailure
from conformance.runner.testees import Testee

_STOP_SECONDS = 60.0
"""A runtime may have much to write."""


async def train(testee: Testee) -> str:
    """Has it host its fixtures at the real engine, and stops it politely. Returns what went wrong; empty: nothing."""
    engine = EngineProcess()
    try:
        await engine.start({})
        process = ConnectingTestee(await ConnectingTestee.launch(testee.train, engine.address))
        try:
            await engine_client.hosted(engine.address, list(FIXTURES), process)
            await process.stop()
            code = await process.stopped(_STOP_SECONDS)
        finally:
            await process.kill()
        return f"'{' '.join(testee.train)}' ended with {code}" if code else ""
    except (Broken, CaseFailure) as problem:
        return f"'{' '.join(testee.train)}': {problem}"
    finally:
        await engine.close()
