"""Agents that process and fault tests talk to; `python -m tests.process.agents NAME…` hosts them until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from amx_engine import (
    Agent,
    AmxEngine,
    Context,
    HandlerError,
    handler,
    memory,
    requires_permission,
    scheduled,
    subscribe,
)

VERSION = os.environ.get("TEST_AGENT_VERSION", "1.0.0")


@Agent(version=VERSION, groups=["talkers"], labels={"tier": "gold"})
class Echo:
    """Answers, in every way there is."""

    @memory(persistent=True)
    def heard(self) -> list[str]:
        return []

    @handler(default=True)
    async def echo(self, value: Any) -> Any:
        return value

    @handler
    async def version(self) -> str:
        return VERSION

    @handler
    async def count(self, up_to: int) -> AsyncIterator[int]:
        for number in range(up_to):
            yield number

    @handler
    async def refuse(self, seat: str) -> None:
        try:
            raise KeyError(seat)
        except KeyError as error:
            raise HandlerError(f"seat {seat} is taken", reason="SEAT_TAKEN", metadata={"seat": seat}) from error

    @handler
    @requires_permission("vault:open")
    async def open_vault(self) -> str:
        return "open"

    @handler
    @subscribe("news.*")
    async def on_news(self, title: Any) -> None:
        self.heard.append(title)

    @handler
    async def slow(self, seconds: float) -> str:
        print("slow began", flush=True)
        await asyncio.sleep(seconds)
        return f"finished {VERSION}"

    @handler
    async def hang(self) -> str:
        print("hang began", flush=True)
        try:
            await asyncio.sleep(3600)
        finally:
            print("hang ended", flush=True)
        return "never"

    @handler
    async def stubborn(self) -> str:
        """Does not stop when it is cancelled."""
        print("stubborn began", flush=True)
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                print("stubborn goes on", flush=True)


@Agent(version=VERSION)
class Counter:
    """Counts, durably. The sum tells one message twice from two messages."""

    @memory(persistent=True)
    def count(self) -> int:
        return 0

    @memory(persistent=True)
    def sum(self) -> int:
        return 0

    @handler(default=True)
    async def add(self, amount: int) -> int:
        self.count += 1
        self.sum += amount
        return self.count

    @handler
    async def add_slowly(self, amount: int) -> int:
        """Long enough for its process to be killed in the middle."""
        print(f"adding {amount}", flush=True)
        await asyncio.sleep(float(os.environ.get("TEST_SLOW_SECONDS", "0")))
        return await self.add(amount)

    @handler
    async def add_padded(self, amount: int) -> int:
        """For messages whose headers take room."""
        return await self.add(amount)

    @handler
    async def totals(self) -> list[int]:
        return [self.count, self.sum]


@Agent(version=VERSION)
class Relay:
    """Passes numbers on, as an effect of its handler."""

    @memory(persistent=True)
    def passed(self) -> int:
        return 0

    @handler(default=True)
    async def relay(self, amount: int, context: Context) -> None:
        self.passed += 1
        context.send("Counter", amount, key="relayed", handler="add")


@Agent(version=VERSION)
class Ticker:
    """Runs by itself, and writes down in a file when: TEST_TICKS."""

    @handler
    async def ready(self) -> bool:
        return True

    @scheduled(interval=timedelta(milliseconds=400))
    async def often(self, context: Context) -> None:
        _tick("often", context)

    @scheduled(cron="* * * * * *")
    async def every_second(self, context: Context) -> None:
        _tick("every_second", context)

    @scheduled(cron="0 0 * * * *")
    async def on_the_hour(self, context: Context) -> None:
        _tick("on_the_hour", context)


def _tick(name: str, context: Context) -> None:
    with Path(os.environ["TEST_TICKS"]).open("a") as file:
        file.write(f"{name} {context.message.id} {context.attempt} {time.time()}\n")


async def main() -> None:
    builder = AmxEngine.builder()
    for name in sys.argv[1:]:
        builder = builder.with_agent(globals()[name])
    engine = builder.build()
    await engine.start(patience=60)
    print("hosting", *sys.argv[1:], flush=True)
    await engine.run_forever()


if __name__ == "__main__":
    asyncio.run(main())
