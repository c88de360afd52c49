"""Kills an engine again and again while clients write to it, and compares what it holds with what it acknowledged.

Used by test_engine_killed.py and scripts/kill_engine.py. Finds lost messages, messages that counted twice, and
replies that spoke of changes that were lost.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from amx.v1 import engine_pb2
from amx_engine import AmxEngine, AmxError, Receipt
from tests.process.harness import PATIENCE, EngineProcess, WorkerProcess, client, hosted, unary, until

KEYS = 8
SENDERS = 24
SEND_TIMEOUT = 120.0  # a send that a restart interrupts is repeated by the SDK


@dataclass
class Ledger:
    """What the clients know."""

    acknowledged: dict[str, tuple[str, int]] = field(default_factory=dict)  # (key, amount) by message id
    duplicates: int = 0  # acknowledged as repeats of what had been stored
    replied: int = 0  # highest count a volatile request was told
    asked: int = 0  # volatile requests made
    relayed: dict[str, int] = field(default_factory=dict)

    def totals(self) -> dict[str, list[int]]:
        """Count and sum that each counter must have."""
        totals: dict[str, list[int]] = {}
        for key, amount in self.acknowledged.values():
            total = totals.setdefault(key, [0, 0])
            total[0] += 1
            total[1] += amount
        return totals


@dataclass
class Report:
    """What a run did."""

    kills: int
    acknowledged: int
    duplicates: int
    requests: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.kills} kills in {self.seconds:.0f} s, {self.acknowledged} messages acknowledged"
            f" ({self.duplicates} of them as repeats), {self.requests} requests answered: every total is exact"
        )


async def kill_rounds(
    folder: Path, kills: int, seed: int, say: Callable[[str], None] = print, longest: float = 1.0
) -> Report:
    """Starts an engine and a worker in `folder`, kills the engine `kills` times, and checks everything.

    longest: seconds between an engine that serves and its end, at most. Raises AssertionError, with the seed, when
    something was lost or counted twice.
    """
    generator = random.Random(seed)
    began = time.monotonic()
    say(f"seed {seed}")
    ledger = Ledger()
    # A message may be on its way to a handler at every kill.
    settings = (f"delivery.redelivery_attempts={kills + 10}", "limits.mailbox_capacity=3000", "logging.level=warning")
    engine = EngineProcess(folder, *settings)
    worker = WorkerProcess(folder, "", "Counter", "Relay")
    try:
        await asyncio.to_thread(engine.start)
        worker = WorkerProcess(folder, engine.address, "Counter", "Relay")
        await asyncio.to_thread(worker.start)
        async with client(engine.address) as application:
            stopping = asyncio.Event()
            senders = [asyncio.create_task(_send(application, ledger, stopping, n)) for n in range(SENDERS)]
            senders.append(asyncio.create_task(_ask(application, ledger, stopping)))
            senders.append(asyncio.create_task(_relay(application, ledger, stopping)))
            for kill in range(1, kills + 1):
                before = len(ledger.acknowledged)
                await until(lambda: len(ledger.acknowledged) > before, f"messages acknowledged (seed {seed})")  # noqa: B023
                await asyncio.sleep(generator.uniform(0, longest))
                await engine.restart()
                say(f"kill {kill}: {len(ledger.acknowledged)} messages acknowledged so far")
            stopping.set()
            await asyncio.wait_for(asyncio.gather(*senders), SEND_TIMEOUT)
            await hosted(engine.address, "Counter")
            await _check(application, engine.address, ledger, seed)
        return Report(kills, len(ledger.acknowledged), ledger.duplicates, ledger.replied, time.monotonic() - began)
    finally:
        worker.kill()
        engine.kill()


async def _send(application: AmxEngine, ledger: Ledger, stopping: asyncio.Event, number: int) -> None:
    sent = 0
    while not stopping.is_set():
        sent += 1
        id, key, amount = f"m-{number}-{sent}", f"k{(number + sent) % KEYS}", number * 1_000_000 + sent
        receipt = await _send_patiently(application, "Counter", amount, key, id)
        ledger.acknowledged[id] = (key, amount)
        ledger.duplicates += receipt.duplicate


async def _relay(application: AmxEngine, ledger: Ledger, stopping: asyncio.Event) -> None:
    sent = 0
    while not stopping.is_set():
        sent += 1
        await _send_patiently(application, "Relay", sent, "", f"r-{sent}")
        ledger.relayed[f"r-{sent}"] = sent
        await asyncio.sleep(0.005)  # what relays emit has to find room in one mailbox


async def _send_patiently(application: AmxEngine, agent: str, amount: int, key: str, id: str) -> Receipt:
    """Sends until there is room: senders are faster than a worker whose engine is killed all the time."""
    while True:
        try:
            return await application.send(agent, amount, key=key, message_id=id, timeout=SEND_TIMEOUT)
        except AmxError as error:
            if error.reason != "MAILBOX_FULL":
                raise
            await asyncio.sleep(0.2)


async def _ask(application: AmxEngine, ledger: Ledger, stopping: asyncio.Event) -> None:
    """Volatile requests that change persistent memory: what a reply says must outlive the engine that said it."""
    while not stopping.is_set():
        ledger.asked += 1
        try:
            ledger.replied = await application.request("Counter", 1, key="asked", timeout=10)
        except AmxError:
            await asyncio.sleep(0.05)  # the engine was killed: nobody knows whether it counted


async def _check(application: AmxEngine, address: str, ledger: Ledger, seed: int) -> None:
    async with unary(address) as stub:

        async def nothing_waits() -> bool:
            return (await stub.GetEngine(engine_pb2.GetEngineRequest())).queued_messages == 0

        async def counted() -> bool:
            return await _totals(application, ledger) == ledger.totals() and await _relayed(application) == [
                len(ledger.relayed),
                sum(ledger.relayed.values()),
            ]

        await until(nothing_waits, "empty mailboxes", 2 * PATIENCE)
        # Effects of handlers become messages of their own, and failed attempts wait for their turn: ask until a moment
        # in which everything is right, then once more, so that what counts twice is seen as well.
        deadline = time.monotonic() + PATIENCE
        while not await counted() and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        held = await _totals(application, ledger)
        wrong = {key: (held[key], total) for key, total in ledger.totals().items() if held[key] != total}
        assert not wrong, f"seed {seed}: counters hold (count, sum) of what was acknowledged: {wrong}"
        relayed = await _relayed(application)
        expected = [len(ledger.relayed), sum(ledger.relayed.values())]
        assert relayed == expected, f"seed {seed}: relayed {relayed}, should be {expected}"
        asked, _ = await application.request("Counter", key="asked", handler="totals")
        assert ledger.replied <= asked <= ledger.asked, f"seed {seed}: {ledger.replied} <= {asked} <= {ledger.asked}"
        dead = await stub.ListDeadLetters(engine_pb2.ListDeadLettersRequest())
        reasons = Counter(letter.failure.reason for letter in dead.dead_letters)
        assert not reasons, f"seed {seed}: dead letters {reasons}"


async def _totals(application: AmxEngine, ledger: Ledger) -> dict[str, list[int]]:
    return {key: await application.request("Counter", key=key, handler="totals") for key in ledger.totals()}


async def _relayed(application: AmxEngine) -> list[int]:
    totals: list[int] = await application.request("Counter", key="relayed", handler="totals")
    return totals
