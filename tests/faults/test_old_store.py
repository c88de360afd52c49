"""A data folder that the first version left opens in this one, with everything in it, and goes on working."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from amx.v1 import common_pb2, engine_pb2
from amx_engine import Agent, Context, HandlerError, handler, memory, scheduled
from tests.process.harness import client, engine_process, unary, until

pytestmark = [pytest.mark.process, pytest.mark.fault]

FIXTURE = Path(__file__).parent / "fixtures" / "first_version"
# What had ended is recognised as long as it is kept; the fixture gets older every day.
SETTINGS = ("storage.dedup_window=36500d", "links.resume_window=0s")


@Agent(version="1.0.0", groups=["archive"], labels={"age": "old"})
class Keeper:
    """What the fixture was written with. Never changed: a change would be another agent's definition."""

    @memory(persistent=True)
    def motto(self) -> str:
        return ""

    @memory(persistent=True)
    def pages(self) -> dict[str, int]:
        return {}

    @memory(persistent=True)
    def tags(self) -> set[str]:
        return set()

    @memory(persistent=True)
    def events(self) -> list[str]:
        return []

    @handler(default=True)
    async def write(self, text: str, context: Context) -> int:
        self.motto = text
        self.pages[text] = len(text)
        self.tags.add(text[:1])
        self.events.append(text)
        if text == "prepare":
            context.schedule("far", "write", "from the timer", after=timedelta(days=36500))
            context.subscribe("archive.**", "write", "kind = letter")
        return len(self.events)

    @handler
    async def refuse(self, why: str) -> None:
        raise HandlerError(why, reason="REFUSED")

    @handler
    @scheduled(cron="0 3 1 1 *", zone="Europe/Berlin", missed="skip")
    async def yearly(self) -> None:
        self.events.append("new year")

    @handler
    async def all(self) -> list[Any]:
        return [self.motto, dict(self.pages), sorted(self.tags), list(self.events)]


async def write_fixture(folder: Path) -> None:
    """Made the fixture, once: `python -m tests.faults.test_old_store FOLDER` at the first version."""
    (folder / "logs").mkdir(parents=True)
    with engine_process(folder / "logs", *SETTINGS, data=folder) as engine:
        async with client(engine.address, Keeper) as application, unary(engine.address) as stub:
            await application.request("Keeper", "prepare", key="one")
            await application.send("Keeper", "stored", key="one", message_id="done-1")
            await application.send("Keeper", "no room", handler="refuse", key="one", message_id="dead-1")
            for id in ("done-1", "dead-1"):
                await stub.WaitInvocation(engine_pb2.WaitInvocationRequest(message_id=id))
            await application.request("Keeper", "ä\u0000😀", key="ключ")
        async with client(engine.address) as application:
            for number in range(3):
                await application.send("Keeper", f"waiting {number}", key="one", message_id=f"pending-{number}")
        assert await asyncio.to_thread(engine.stop) == 0
    shutil.rmtree(folder / "logs")
    (folder / "amx.db.lock").unlink(missing_ok=True)


async def test_data_folder_of_the_first_version_opens_complete_and_works(tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(FIXTURE, data)
    with engine_process(tmp_path, *SETTINGS, data=data) as engine:
        async with unary(engine.address) as stub:
            agent = (await stub.GetAgent(engine_pb2.GetAgentRequest(name="Keeper"))).agent
            assert agent.definition.version == "1.0.0"
            assert {one.name for one in agent.definition.memories} == {"motto", "pages", "tags", "events"}
            assert agent.queued_messages == 3
            schedules = await stub.ListSchedules(engine_pb2.ListSchedulesRequest())
            assert {one.schedule_id for one in schedules.schedules} == {"Keeper/default/yearly", "Keeper/one/far"}
            assert all(one.next_run_at_ms for one in schedules.schedules)
            dead = await stub.ListDeadLetters(engine_pb2.ListDeadLettersRequest())
            assert [(one.message.message_id, one.failure.reason, one.failure.message) for one in dead.dead_letters] == [
                ("dead-1", "REFUSED", "no room")
            ]
            done = await stub.GetInvocation(engine_pb2.GetInvocationRequest(message_id="done-1"))
            assert done.invocation.state == engine_pb2.INVOCATION_STATE_SUCCEEDED
            assert json.loads(done.invocation.result.data) == 2
            ref = common_pb2.InstanceRef(agent="Keeper", key="one")
            entry = await stub.GetMemory(engine_pb2.GetMemoryRequest(instance=ref, name="motto"))
            assert json.loads(entry.entry.value) == "stored"

        async with client(engine.address, Keeper) as application:

            async def worked_off() -> bool:
                return len((await application.request("Keeper", key="one", handler="all"))[3]) == 5

            await until(worked_off, "what waited")
            texts = ["prepare", "stored", "waiting 0", "waiting 1", "waiting 2"]
            held = await application.request("Keeper", key="one", handler="all")
            assert held == ["waiting 2", {text: len(text) for text in texts}, ["p", "s", "w"], texts]
            odd = "ä\u0000😀"
            assert await application.request("Keeper", key="ключ", handler="all") == [odd, {odd: 3}, ["ä"], [odd]]
            # A message id of the first version is still taken, and the subscription still in force.
            assert (await application.send("Keeper", "again", key="one", message_id="done-1")).duplicate
            published = await application.publish("archive.mail", "by event", attributes={"kind": "letter"})
            assert published.subscribers == 1
            await until(lambda: _last_event(application, "by event"), "the event")
            async with unary(engine.address) as stub:
                back = await stub.RetryDeadLetters(engine_pb2.RetryDeadLettersRequest(message_ids=["dead-1"]))
                assert back.count == 1


async def _last_event(application: Any, text: str) -> bool:
    held = await application.request("Keeper", key="one", handler="all")
    return bool(held[3][-1] == text)


if __name__ == "__main__":
    asyncio.run(write_fixture(Path(sys.argv[1])))
