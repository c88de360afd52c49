"""The local model provider: answers that depend on the request alone; latency, limits and faults as asked for."""

from __future__ import annotations

import asyncio
import json
import math
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import quantiles
from typing import Any

import aiohttp
import pytest
from blake3 import blake3

from amx_server.inference.io.sse import EventParser
from amx_server.inference.local_provider import LocalProvider, LocalProviderOptions, embedding_of, options_of

AT_ONCE = {"latency_min": 0.0, "latency_max": 0.0}


@asynccontextmanager
async def provider(**options: Any) -> AsyncIterator[tuple[LocalProvider, aiohttp.ClientSession]]:
    async with (
        LocalProvider(LocalProviderOptions(**{**AT_ONCE, **options})) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield server, session


def chat(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "local", "messages": [{"role": "user", "content": text}], **fields}


async def ask(
    server: LocalProvider, session: aiohttp.ClientSession, body: Any, path: str = "/chat/completions", **headers: str
) -> tuple[int, Any, Any]:
    async with session.post(server.address + path, json=body, headers=headers) as answer:
        text = await answer.read()
        return answer.status, json.loads(text) if "json" in answer.content_type else text, answer.headers


async def test_answer_depends_on_the_request_alone() -> None:
    answers = []
    for _ in range(2):
        async with provider() as (server, session):
            for body in (chat("one"), chat("two"), chat("one", model="other")):
                status, answer, _ = await ask(server, session, body)
                assert status == 200 and answer["object"] == "chat.completion"
                answers.append(answer["choices"][0]["message"]["content"])
    assert answers[:3] == answers[3:] and len(set(answers)) == 3
    assert answers[0].startswith("[one] ") and len(answers[0].split()) == 41


async def test_stream_says_in_parts_what_the_plain_answer_says_at_once() -> None:
    async with provider(chunks=5) as (server, session):
        body = chat(stream=True, stream_options={"include_usage": True}, max_tokens=7)
        status, text, headers = await ask(server, session, body)
        assert status == 200 and headers["Content-Type"] == "text/event-stream"
        events = [event.data for event in EventParser().feed(text)]
        assert events[-1] == b"[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        pieces = [c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]]
        assert len([piece for piece in pieces if piece]) == 5
        said = "".join(pieces)
        assert said.startswith("[hello] ") and len(said.split()) == 8
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        assert chunks[-1]["usage"]["completion_tokens"] == 8


async def test_embeddings_are_of_each_text_and_of_length_one() -> None:
    async with provider(dimensions=16) as (server, session):
        _, both, _ = await ask(server, session, {"input": ["a", "b"]}, "/embeddings")
        _, one, _ = await ask(server, session, {"input": "b"}, "/embeddings")
        vectors = [entry["embedding"] for entry in both["data"]]
        assert vectors[1] == one["data"][0]["embedding"] != vectors[0]
        assert math.isclose(sum(value * value for value in vectors[0]), 1, rel_tol=1e-4) and len(vectors[0]) == 16
    assert embedding_of("a", 16) == vectors[0]


async def test_prompt_that_was_put_may_be_named_by_its_address() -> None:
    async with provider() as (server, session):
        prompt = b"x" * 100_000
        address = blake3(prompt).hexdigest()
        body = chat()
        body["messages"].insert(0, {"role": "system", "content": {"prompt": address}})
        assert (await ask(server, session, body))[0] == 404
        async with session.put(f"{server.address}/prompts/{address}", data=b"other") as answer:
            assert answer.status == 400
        async with session.put(f"{server.address}/prompts/{address}", data=prompt) as answer:
            assert answer.status == 200
        status, answer_, _ = await ask(server, session, body)
        assert status == 200 and answer_["usage"]["prompt_tokens"] > 25_000


@pytest.mark.parametrize(
    ("body", "path", "status", "words"),
    [
        ({"messages": []}, "/chat/completions", 400, "messages is empty"),
        ({}, "/chat/completions", 400, "missing required field `messages`"),
        ({"messages": "x"}, "/chat/completions", 400, "Expected `array`"),
        ({"input": []}, "/embeddings", 400, "input is empty"),
        ({}, "/completions", 404, "there is no POST /v1/completions"),
    ],
)
async def test_bad_request_is_refused_in_the_interfaces_form(body: Any, path: str, status: int, words: str) -> None:
    async with provider() as (server, session):
        got, answer, _ = await ask(server, session, body, path)
        assert got == status and words in answer["error"]["message"]


def test_latency_is_drawn_from_its_distribution_and_the_same_for_the_same_request() -> None:
    digests = [blake3(str(number).encode()).digest() for number in range(20_000)]
    for distribution in ("uniform", "lognormal"):
        server = LocalProvider(LocalProviderOptions(distribution=distribution))
        drawn = [server.latency(digest) for digest in digests]
        assert drawn == [server.latency(digest) for digest in digests]
        cuts = quantiles(drawn, n=20)
        low, high = (1.05, 1.95) if distribution == "uniform" else (1.0, 2.0)
        assert cuts[0] == pytest.approx(low, rel=0.02) and cuts[-1] == pytest.approx(high, rel=0.02)
    assert min(LocalProvider(LocalProviderOptions()).latency(digest) for digest in digests) >= 1


async def test_requests_beyond_the_rate_are_refused_with_advice() -> None:
    async with provider(requests_per_second=0.5, burst=2, retry_after=1.5) as (server, session):
        answers = [await ask(server, session, chat(str(number))) for number in range(3)]
        assert [status for status, _, _ in answers] == [200, 200, 429]
        _, body, headers = answers[-1]
        assert body["error"]["type"] == "rate_limit_error"
        assert int(headers["retry-after-ms"]) >= 1500 and int(headers["Retry-After"]) >= 2


async def test_requests_beyond_the_load_are_refused_as_overload_and_beyond_capacity_wait() -> None:
    async with provider(latency_min=0.5, latency_max=0.5, overload_above=3, capacity=1) as (server, session):
        began = time.monotonic()
        answers = await asyncio.gather(*(ask(server, session, chat(str(number))) for number in range(5)))
        assert sorted(status for status, _, _ in answers) == [200, 200, 200, 503, 503]
        assert time.monotonic() - began >= 1.5  # one after the other


async def test_errors_come_at_their_share_and_are_the_same_for_the_same_seed() -> None:
    outcomes = []
    for _ in range(2):
        async with provider(error_rate=0.3, seed=7) as (server, session):
            outcomes.append([(await ask(server, session, chat(str(number))))[0] for number in range(60)])
    assert outcomes[0] == outcomes[1] and set(outcomes[0]) == {200, 500}


async def test_faults_happen_only_where_they_are_allowed_and_as_often_as_asked() -> None:
    fault = {"x-amx-fault": "status:502;times=2"}
    async with provider() as (server, session):
        assert (await ask(server, session, chat(), **fault))[0] == 200
    async with provider(faults=True) as (server, session):
        assert [(await ask(server, session, chat(), **fault))[0] for _ in range(4)] == [502, 502, 200, 200]
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await ask(server, session, chat(), **{"x-amx-fault": "reset"})
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(server, session, chat(stream=True), **{"x-amx-fault": "break"})


async def test_request_whose_client_leaves_is_ended() -> None:
    async with provider(latency_min=60.0, latency_max=60.0) as (server, session):
        asking = asyncio.create_task(ask(server, session, chat()))
        async with asyncio.timeout(30):
            while not server.counts["most_in_flight"]:
                await asyncio.sleep(0.01)
            asking.cancel()
            while not server.counts["disconnected"]:
                await asyncio.sleep(0.01)
        async with session.get(server.address + "/stats") as answer:
            assert (await answer.json())["in_flight"] == 0


async def test_thousand_connections_are_served_at_once() -> None:
    async with provider(latency_min=600.0, latency_max=600.0) as (server, session):
        asking = [asyncio.create_task(ask(server, session, chat(str(number)))) for number in range(1000)]
        async with asyncio.timeout(60):
            while server.counts["most_in_flight"] < 1000:
                await asyncio.sleep(0.05)
            for task in asking:
                task.cancel()
            while server.counts["disconnected"] < 1000:
                await asyncio.sleep(0.05)


def test_options_come_from_the_command_line_and_are_checked() -> None:
    options = options_of(["--latency-min", "0.5", "--port", "7", "--faults", "--distribution", "lognormal"])
    assert (options.latency_min, options.port, options.faults, options.distribution) == (0.5, 7, True, "lognormal")
    for bad in (["--latency-min", "3"], ["--distribution", "normal"], ["--chunks", "0"], ["--nothing"]):
        with pytest.raises(SystemExit):
            options_of(bad)


@pytest.mark.process
async def test_process_says_where_it_listens_and_stops_when_told() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "amx_server.inference.local_provider", "--latency-max=0", "--latency-min=0",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = (await process.stdout.readline()).decode()
        match = re.fullmatch(r"local provider: (http://127\.0\.0\.1:\d+/v1)\n", line)
        assert match, line
        async with aiohttp.ClientSession() as session, session.get(match[1] + "/models") as answer:
            assert (await answer.json())["data"][0]["id"] == "local"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
