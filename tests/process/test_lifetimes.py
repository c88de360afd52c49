"""Lifetimes of single memory entries, from a handler to the engine and back, by a clock that the tests move."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from amx_engine import Agent, expire, handler, memory
from amx_engine.testing import AgentHarness, EmbeddedEngine


@Agent
class Keeper:
    cache: Any = memory(persistent=True, ttl="24h", default_factory=dict)
    seen: Any = memory(persistent=True, default_factory=set)
    rows: Any = memory(persistent=True, default_factory=list)
    token: str = memory(persistent=True, default="")

    @handler
    async def keep(self, name: str, ttl: str) -> None:
        self.cache.put(name, {"of": name}, ttl=ttl)
        self.seen.add(name, ttl=ttl)
        self.rows.append(name, ttl=ttl)
        self.token = name
        expire(self, "token", ttl)

    @handler
    async def keep_usual(self, name: str) -> None:
        self.cache[name] = {"of": name}
        self.seen.add(name)
        self.rows.append(name)

    @handler
    async def kept(self) -> list[Any]:
        return [sorted(self.cache), sorted(self.seen), list(self.rows), self.token]


async def test_entries_expire_when_their_own_lifetime_is_over() -> None:
    async with EmbeddedEngine(Keeper) as engine:
        await engine.request("Keeper", {"name": "short", "ttl": "10m"}, handler="keep")
        await engine.request("Keeper", "usual", handler="keep_usual")
        await engine.request("Keeper", {"name": "long", "ttl": "30d"}, handler="keep")
        both = ["short", "usual", "long"]
        assert await engine.request("Keeper", handler="kept") == [sorted(both), sorted(both), both, "long"]
        await engine.advance(timedelta(minutes=11))
        left = ["usual", "long"]
        assert await engine.request("Keeper", handler="kept") == [sorted(left), sorted(left), left, "long"]
        await engine.advance(timedelta(hours=25))
        assert await engine.memory("Keeper").list("cache") == ["long"]
        assert await engine.request("Keeper", handler="kept") == [["long"], sorted(left), left, "long"]
        await engine.advance(timedelta(days=30), step=timedelta(hours=12))
        assert await engine.request("Keeper", handler="kept") == [[], ["usual"], ["usual"], ""]


async def test_what_is_left_of_a_lifetime_survives_hibernation_and_restarts(tmp_path: Path) -> None:
    async with EmbeddedEngine(Keeper, data_dir=tmp_path) as engine:
        await engine.request("Keeper", {"name": "a", "ttl": "3h"}, handler="keep")
        await engine.advance(timedelta(hours=2))
        assert await engine.request("Keeper", handler="kept") == [["a"], ["a"], ["a"], "a"]
        stopped_at = engine.clock.now_ms()
    async with EmbeddedEngine(Keeper, data_dir=tmp_path, start_ms=stopped_at) as engine:
        assert await engine.request("Keeper", handler="kept") == [["a"], ["a"], ["a"], "a"]
        await engine.advance(timedelta(minutes=61))
        assert await engine.request("Keeper", handler="kept") == [[], [], [], ""]


async def test_entries_written_from_outside_have_lifetimes_of_their_own() -> None:
    async with EmbeddedEngine(Keeper) as engine:
        remote = engine.memory("Keeper")
        await remote.put("cache", {"of": "x"}, item="x", ttl="10m")
        await remote.put("seen", item="x", ttl=timedelta(minutes=10))
        await remote.put("token", "x")
        assert await engine.request("Keeper", handler="kept") == [["x"], ["x"], [], "x"]
        await engine.advance(timedelta(minutes=11))
        assert await engine.request("Keeper", handler="kept") == [[], [], [], "x"]
        assert await remote.get("cache", "x") is None and not await remote.contains("seen", "x")


async def test_the_harness_knows_lifetimes_of_entries() -> None:
    async with AgentHarness(Keeper) as agent:
        await agent.run({"name": "short", "ttl": "10m"}, handler="keep")
        await agent.run("usual", handler="keep_usual")
        await agent.advance(timedelta(minutes=11))
        assert await agent.request(handler="kept") == [["usual"], ["usual"], ["usual"], ""]
        await agent.hibernate()
        assert await agent.request(handler="kept") == [["usual"], ["usual"], ["usual"], ""]
        assert agent.memory()["cache"] == {"usual": {"of": "usual"}}
