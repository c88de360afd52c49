"""An engine with an agent that remembers large values, under load until it is killed.

`python -m tests.faults.content_load FOLDER SEED` prints a line `KEY NUMBER` for every write that was acknowledged.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from amx_engine import Agent, handler, memory
from amx_engine.testing import EmbeddedEngine

KEYS = 8
PAGES = 4


def text(number: int) -> str:
    """What write `number` stores: some large, some small, some the same as others'."""
    generator = random.Random(number % 40 if number % 3 else number)
    return f"{number % 40 if number % 3 else number}:" + generator.randbytes(generator.choice((20, 600, 3000))).hex()


@Agent
class Archive:
    """Overwrites its pages in turn."""

    @memory(persistent=True)
    def pages(self) -> dict[str, str]:
        return {}

    @memory(persistent=True)
    def last(self) -> int:
        return 0

    @handler(default=True)
    async def write(self, number: int) -> str:
        page = str(number % PAGES)
        if number % 11 == 0:
            self.pages.pop(page, None)
        else:
            self.pages[page] = text(number)
        self.last = number
        return text(number + 1)

    @handler
    async def keep(self, number: int) -> None:
        """Adds a page that no other has."""
        self.pages[f"kept {number}"] = random.Random(number).randbytes(4000).hex()

    @handler
    async def count(self) -> list[int]:
        """How many pages there are, and 1 if each is what was kept."""
        whole = all(
            page == random.Random(int(name.split()[1])).randbytes(4000).hex() for name, page in self.pages.items()
        )
        return [len(self.pages), int(whole)]


async def load(folder: Path, seed: int) -> None:
    """Runs until it is killed."""
    generator = random.Random(seed)
    async with EmbeddedEngine(Archive, data_dir=folder) as engine:
        inside = engine._process.engine
        assert inside is not None

        async def write(key: int) -> None:
            found = await inside.store.memory("default", "Archive", f"k{key}")
            number = next((int(row.value) for row in found if row.name == "last"), 0)
            while True:
                number += 1
                await engine.request(f"Archive/k{key}", number)
                print(f"k{key} {number}", flush=True)

        async def tidy() -> None:
            while True:
                await asyncio.sleep(generator.uniform(0, 0.05))
                after: tuple[str, str, str] | None = ("", "", "")
                while after is not None:
                    after = (await inside.store.forget_versions(0, 3, after, 3)).after
                await asyncio.to_thread(inside.content.collect)
                if generator.random() < 0.2:
                    await asyncio.to_thread(inside.content.compact, 0.3)

        await asyncio.gather(tidy(), *(write(key) for key in range(KEYS)))


if __name__ == "__main__":
    asyncio.run(load(Path(sys.argv[1]), int(sys.argv[2])))
