"""The smallest agent that remembers. `python -m examples.hello` runs it, with the engine in the same process."""

from __future__ import annotations

from amx_engine import Agent, AmxEngine, handler, memory, run


@Agent
class Greeter:
    """Greets, and remembers how often it has greeted whom."""

    counts: dict[str, int] = memory(persistent=True, default_factory=dict)

    @handler
    async def greet(self, name: str) -> str:
        self.counts[name] = self.counts.get(name, 0) + 1
        return f"Hello, {name}! (time {self.counts[name]})"


async def main() -> None:
    async with AmxEngine.builder().embedded().with_agent(Greeter).build() as engine:
        for name in ("Ada", "Grace", "Ada"):
            print(await engine.request("Greeter", name))


if __name__ == "__main__":
    run(main())
