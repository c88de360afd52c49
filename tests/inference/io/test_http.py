"""HTTP providers and a real server: sharing, storms of refusals, connections that hang or break, a server killed."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
from multidict import CIMultiDict

from amx_server.core.clock import ManualClock
from amx_server.core.errors import AmxError
from amx_server.inference.io import (
    BatchPolicy,
    Call,
    ConcurrencyPolicy,
    IoConfig,
    IoManager,
    Operation,
    ProviderPolicy,
    Response,
    RetryPolicy,
    Waiter,
    address,
)
from amx_server.inference.io.http import HttpProvider, HttpRequest, HttpResponse, retry_after
from amx_server.inference.io.sse import ServerEvent
from amx_server.inference.local_provider import LocalProvider, LocalProviderOptions

PATIENCE = 60.0
QUICK = RetryPolicy(attempts=3, initial_backoff=0.01, budget=1.0)
ONCE = ProviderPolicy(retry=RetryPolicy(attempts=1))


class Embedder(HttpProvider):
    """What a model provider does with batches: several texts in one request."""

    def embed(self, text: str) -> Operation[list[float], Any]:
        """The embedding of one text."""
        return self.post("/embeddings", text, shared=True, idempotent=True, batch="local")  # type: ignore[return-value]

    async def perform_batch(self, calls: Sequence[Call]) -> Sequence[Response[Any] | AmxError]:
        texts = [json.loads(call.operation.request.body) for call in calls]
        request = HttpRequest("POST", "/embeddings", json.dumps({"input": texts}).encode())
        answer = await self.send(request, None, calls[0].max_response_bytes)
        return [Response(entry["embedding"], 8 * len(entry["embedding"])) for entry in answer.json()["data"]]


class World:
    """A manager with one HTTP provider, the local one."""

    def __init__(self, io: IoManager, http: HttpProvider, server: LocalProvider) -> None:
        self.io = io
        self.http = http
        self.server = server

    def chat(self, text: str = "hello", fault: str = "", **fields: Any) -> Operation[HttpResponse, Any]:
        headers = {"x-amx-fault": fault} if fault else {}
        return self.http.post("/chat/completions", body(text), headers=headers, shared=True, **fields)

    def stream(self, text: str = "hello", fault: str = "", **fields: Any) -> Operation[HttpResponse, ServerEvent]:
        headers = {"x-amx-fault": fault} if fault else {}
        fields = {"shared": True, **fields}
        return self.http.events("/chat/completions", body(text) | {"stream": True}, headers=headers, **fields)


def body(text: str) -> dict[str, Any]:
    return {"model": "local", "messages": [{"role": "user", "content": text}]}


def said(event: ServerEvent) -> str:
    choices = json.loads(event.data)["choices"]
    return str(choices[0]["delta"].get("content", ""))


@asynccontextmanager
async def world(
    policy: ProviderPolicy | None = None, idle_timeout: float = 10.0, **options: Any
) -> AsyncIterator[World]:
    latency = {"latency_min": 0.0, "latency_max": 0.0, "faults": True}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(LocalProvider(LocalProviderOptions(**{**latency, **options})))
        io = await stack.enter_async_context(IoManager())
        http = Embedder("local", server.address, headers={"Authorization": "Bearer s3cret"}, idle_timeout=idle_timeout)
        await io.add(http, policy or ProviderPolicy(retry=QUICK))
        await stack.enter_async_context(asyncio.timeout(PATIENCE))
        yield World(io, http, server)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def failure(task: Any) -> AmxError:
    with pytest.raises(AmxError) as raised:
        await task
    return raised.value


# --- sharing ---------------------------------------------------------------------------------------------------------


async def test_hundred_agents_with_one_question_are_one_request() -> None:
    async with world(latency_min=0.1, latency_max=0.1) as w:
        answers = await asyncio.gather(*(w.io.call(w.chat(), Waiter(f"a/{n}")) for n in range(100)))
        texts = {answer.json()["choices"][0]["message"]["content"] for answer in answers}
        assert len(texts) == 1 and texts.pop().startswith("[hello]")
        assert w.server.counts["requests"] == 1


async def test_thousand_agents_with_questions_of_their_own_wait_together() -> None:
    policy = ProviderPolicy(concurrency=ConcurrencyPolicy(1000, 1, 1000))
    async with world(policy) as w:
        answers = await asyncio.gather(*(w.io.call(w.chat(f"question {n}")) for n in range(1000)))
        for number, answer in enumerate(answers):
            assert answer.json()["choices"][0]["message"]["content"].startswith(f"[question {number}]")
        assert w.server.counts["requests"] == 1000
    async with world(policy, latency_min=600.0, latency_max=600.0) as w:
        waiting = [asyncio.create_task(w.io.call(w.chat(f"question {n}"))) for n in range(1000)]
        await until(lambda: w.server.counts["most_in_flight"] == 1000)
        assert w.io.stats().providers["local"].in_flight == w.io.stats().waiting == 1000
        for task in waiting:
            task.cancel()
        await until(lambda: w.server.counts["disconnected"] == 1000)
        assert w.io.stats().waiting == w.io.stats().in_flight == 0


async def test_stream_reaches_every_reader_in_the_same_parts() -> None:
    async with world(latency_min=0.2, latency_max=0.2) as w:

        async def read() -> list[str]:
            async with w.io.stream(w.stream()) as stream:
                return [said(event) async for event in stream]

        texts = await asyncio.gather(*(read() for _ in range(50)))
        assert texts == [texts[0]] * 50 and len(texts[0]) == 9
        plain = await w.io.call(w.http.post("/chat/completions", body("hello") | {"stream": False}))
        assert len("".join(texts[0]).split()) == len(plain.json()["choices"][0]["message"]["content"].split())
        assert w.server.counts["requests"] == 2


async def test_answer_is_remembered_and_scopes_do_not_share() -> None:
    async with world() as w:
        for scope in ("tenant-1", "tenant-2", "tenant-1"):
            await w.io.call(w.chat(scope=scope, ttl=60))
        assert w.server.counts["requests"] == 2


async def test_operations_share_by_method_path_headers_body_or_given_key_and_only_when_told_so() -> None:
    async with world() as w:
        post = w.http.post
        assert post("/a", {"x": 1, "y": 2}, shared=True).key == post("/a", {"y": 2, "x": 1}, shared=True).key
        keys = [
            post("/a", b"1", shared=True).key,
            post("/b", b"1", shared=True).key,
            post("/a", b"2", shared=True).key,
            post("/a", b"1", shared=True, headers={"x": "y"}).key,
            post("/a", b"1", shared=True, scope="s").key,
            post("/a", b"1", key=address("content")).key,
            w.http.events("/a", b"1", shared=True).key,
            w.http.get("/a").key,
        ]
        assert len(set(keys)) == len(keys) and all(keys)
        assert post("/a", b"1").key == b"" and not post("/a", b"1").idempotent
        with pytest.raises(ValueError, match="has a ttl and is not shared"):
            post("/a", b"1", ttl=5)


async def test_texts_to_embed_travel_together() -> None:
    policy = ProviderPolicy(batch=BatchPolicy(max_items=16, max_wait=0.02))
    async with world(policy) as w:
        assert isinstance(w.http, Embedder)
        texts = [f"text {number % 40}" for number in range(64)]
        vectors = await asyncio.gather(*(w.io.call(w.http.embed(text)) for text in texts))
        assert vectors[:24] == vectors[40:] and len({tuple(vector) for vector in vectors}) == 40
        assert w.server.counts["embedded_texts"] == 40
        assert w.server.counts["requests"] == 3


async def test_last_waiter_that_leaves_ends_the_request_at_the_server() -> None:
    async with world(latency_min=60.0, latency_max=60.0) as w:
        waiters = [asyncio.create_task(w.io.call(w.chat())) for _ in range(3)]
        await until(lambda: w.server.counts["requests"])
        for waiter in waiters:
            waiter.cancel()
        await until(lambda: w.server.counts["disconnected"])
        assert w.io.stats().in_flight == 0


async def test_body_of_a_function_is_made_for_every_attempt_and_not_held_while_it_waits() -> None:
    made = 0
    whole = json.dumps(body("made anew")).encode()
    before = sys.getrefcount(whole)

    def make() -> bytes:
        nonlocal made
        made += 1
        return whole

    async with world(latency_min=3600, latency_max=3600) as w:
        headers = {"x-amx-fault": "status:503;times=1"}
        call = asyncio.create_task(w.io.call(w.http.post("/chat/completions", make, headers=headers)))
        await until(lambda: made == 2 and sys.getrefcount(whole) == before)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_shared_requests_whose_bodies_are_made_are_one_by_what_was_made() -> None:
    content = json.dumps(body("the same")).encode()
    async with world(latency_min=0.05, latency_max=0.05) as w:
        operations = [w.http.post("/chat/completions", partial(bytes, content), shared=True) for _ in range(3)]
        await asyncio.gather(*(w.io.call(operation) for operation in operations))
        assert w.io.stats().providers["local"].requests == 1


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.fault
async def test_storm_of_429_is_waited_out_and_everybody_is_answered() -> None:
    policy = ProviderPolicy(
        concurrency=ConcurrencyPolicy(16, 1, 64),
        retry=RetryPolicy(attempts=3, rate_limited_attempts=50, initial_backoff=0.05),
    )
    async with world(policy, requests_per_second=100, burst=5, retry_after=0.1) as w:
        answers = await asyncio.gather(*(w.io.call(w.chat(f"{n}")) for n in range(150)))
        assert len(answers) == 150
        stats = w.io.stats().providers["local"]
        assert stats.rate_limited > 0 and stats.succeeded == 150 and stats.failed == 0
        assert w.server.counts["status_429"] < 150  # it did not hammer
        assert stats.concurrency_limit < 16


@pytest.mark.fault
async def test_overloaded_server_is_approached_with_less_until_it_copes() -> None:
    policy = ProviderPolicy(
        concurrency=ConcurrencyPolicy(32, 1, 32, decrease=0.5),
        retry=RetryPolicy(attempts=30, initial_backoff=0.02, max_backoff=0.1, budget=5.0, budget_burst=1000),
    )
    async with world(policy, overload_above=6, retry_after=0.02, latency_min=0.02, latency_max=0.02) as w:
        await asyncio.gather(*(w.io.call(w.chat(f"{n}")) for n in range(200)))
        stats = w.io.stats().providers["local"]
        assert stats.overloaded > 0 and stats.succeeded == 200
        assert stats.concurrency_limit < 12


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (400, "PROVIDER_REJECTED", False),
        (401, "PROVIDER_UNAUTHENTICATED", False),
        (403, "PROVIDER_DENIED", False),
        (404, "PROVIDER_REJECTED", False),
        (302, "PROVIDER_REJECTED", False),
        (408, "PROVIDER_FAILED", True),
        (429, "PROVIDER_RATE_LIMITED", True),
        (500, "PROVIDER_FAILED", True),
        (503, "PROVIDER_OVERLOADED", True),
        (529, "PROVIDER_OVERLOADED", True),
    ],
)
async def test_status_becomes_an_error_with_a_reason_the_servers_words_and_no_credentials(
    status: int, reason: str, retryable: bool
) -> None:
    policy = ProviderPolicy(retry=RetryPolicy(attempts=1, rate_limited_attempts=1))
    async with world(policy, retry_after=1.5) as w:
        error = await failure(w.io.call(w.chat(fault=f"status:{status}")))
        assert (error.reason, error.retryable, error.retry_delay_ms) == (reason, retryable, 1500 if retryable else 0)
        assert "'local'" in error.message and "the header x-amx-fault asks for it" in error.message
        assert "s3cret" not in repr(error) + str(error.metadata)


async def test_failure_is_repeated_only_where_that_is_safe() -> None:
    async with world(retry_after=0.05) as w:
        answer = await w.io.call(w.chat("again", fault="status:500;times=2", idempotent=True))
        assert answer.status == 200 and w.io.stats().retries == 2
        error = await failure(w.io.call(w.chat("once", fault="status:500;times=2")))
        assert error.reason == "PROVIDER_FAILED"
        error = await failure(w.io.call(w.chat("cut", fault="reset;times=1")))
        assert error.reason == "STREAM_INTERRUPTED"
        assert (await w.io.call(w.chat("cut twice", fault="reset;times=2", idempotent=True))).status == 200
        assert (await w.io.call(w.chat("refused", fault="status:503;times=1"), timeout=20)).status == 200


def test_advice_is_read_in_every_form() -> None:
    clock = ManualClock(start_ms=1_700_000_000_000)  # Tue, 14 Nov 2023 22:13:20 GMT
    for headers, seconds in (
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After": "3", "retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:00 GMT"}, 0.0),
        ({"Retry-After": "-1"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({}, None),
    ):
        assert retry_after(CIMultiDict(headers), clock) == seconds


# --- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.fault
async def test_connection_that_says_nothing_is_given_up_and_the_next_attempt_made() -> None:
    async with world(idle_timeout=0.3) as w:
        answer = await w.io.call(w.chat(fault="hang;times=1", idempotent=True))
        assert answer.status == 200 and w.io.stats().retries == 1
        await until(lambda: w.server.counts["disconnected"])


@pytest.mark.fault
async def test_half_open_connection_ends_with_an_error_that_says_so() -> None:
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, IoManager() as io, asyncio.timeout(PATIENCE):
        http = HttpProvider("dead", f"http://127.0.0.1:{port}", idle_timeout=0.2)
        await io.add(http, ONCE)
        error = await failure(io.call(http.get("/")))
        assert error.reason == "PROVIDER_TIMEOUT" and "sent nothing for 0.2 s during GET /" in error.message
        assert len(accepted) == 1
        for writer in accepted:
            writer.close()


async def test_server_that_is_not_there_is_named_with_its_address() -> None:
    async with IoManager() as io:
        http = HttpProvider("absent", "http://127.0.0.1:9/v1", connect_timeout=2)
        await io.add(http, ONCE)
        error = await failure(io.call(http.get("/")))
        assert error.reason == "PROVIDER_UNREACHABLE" and "http://127.0.0.1:9/v1" in error.message


@pytest.mark.fault
async def test_server_that_speaks_something_else_is_malformed() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-not-http\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, IoManager() as io, asyncio.timeout(PATIENCE):
        http = HttpProvider("ssh", f"http://127.0.0.1:{port}")
        await io.add(http, ONCE)
        assert (await failure(io.call(http.get("/")))).reason == "PROVIDER_MALFORMED"


async def test_answer_beyond_its_bound_is_refused_before_it_is_held() -> None:
    async with (
        IoManager(IoConfig(max_response_bytes=1000)) as io,
        LocalProvider(LocalProviderOptions(latency_min=0, latency_max=0, words=1000)) as server,
    ):
        http = HttpProvider("local", server.address)
        await io.add(http, ONCE)
        for operation in (
            http.post("/chat/completions", body("x")),
            http.events("/chat/completions", body("x") | {"stream": True}),
        ):
            assert (await failure(io.call(operation))).reason == "RESPONSE_TOO_LARGE"


# --- streams that go wrong -------------------------------------------------------------------------------------------


@pytest.mark.fault
async def test_slow_stream_is_fine_as_long_as_something_comes() -> None:
    async with world(idle_timeout=0.5) as w, w.io.stream(w.stream(fault="slow:0.2")) as stream:
        assert len([event async for event in stream]) == 9


@pytest.mark.fault
@pytest.mark.parametrize(
    ("fault", "reason"),
    [("break", "STREAM_INTERRUPTED"), ("stall", "PROVIDER_TIMEOUT"), ("malformed", "STREAM_INTERRUPTED")],
)
async def test_stream_that_breaks_off_is_an_error_after_the_parts_that_came(fault: str, reason: str) -> None:
    async with world(ONCE, idle_timeout=0.3) as w:
        parts = []
        stream = w.io.stream(w.stream(fault=fault))

        async def read() -> None:
            async for event in stream:
                parts.append(event)

        assert (await failure(read())).reason == reason
        assert len(parts) == (6 if fault == "malformed" else 5)


@pytest.mark.fault
async def test_broken_stream_is_repeated_for_who_waits_for_the_whole() -> None:
    async with world() as w:
        operation = w.stream(fault="break;times=1", idempotent=True)
        reader = w.io.stream(operation)
        whole = asyncio.create_task(w.io.call(operation))

        async def read() -> None:
            async for _ in reader:
                pass

        assert (await failure(read())).reason == "STREAM_INTERRUPTED"
        assert (await whole).status == 200
        assert w.server.counts["streams"] == 1


class ServerProcess:
    """The local provider as a process, on a port that it keeps."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "amx_server.inference.local_provider", f"--port={self.port}", *self._options,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        match = re.search(r":(\d+)/v1", line)
        assert match, line
        self.port = int(match[1])

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


@pytest.fixture
async def process() -> AsyncIterator[ServerProcess]:
    server = ServerProcess("--latency-min=3", "--latency-max=3", "--first-token=0.01", "--chunks=30")
    await server.start()
    yield server
    await server.kill()


@pytest.mark.fault
@pytest.mark.process
async def test_server_killed_in_the_middle_of_a_stream_and_back_again(process: ServerProcess) -> None:
    async with IoManager() as io, asyncio.timeout(2 * PATIENCE):
        http = HttpProvider("local", f"http://127.0.0.1:{process.port}/v1")
        retry = RetryPolicy(attempts=20, initial_backoff=0.2, max_backoff=1.0, budget_burst=100)
        await io.add(http, ProviderPolicy(retry=retry))
        operation = http.events("/chat/completions", body("x") | {"stream": True}, shared=True, idempotent=True)
        whole = asyncio.create_task(io.call(operation))
        async with io.stream(operation) as stream:
            parts = [said(await anext(stream)) for _ in range(5)]
            await process.kill()

            async def rest() -> None:
                async for event in stream:
                    parts.append(said(event))

            assert (await failure(rest())).reason == "STREAM_INTERRUPTED"
        assert 5 <= len(parts) < 30
        waiting = asyncio.create_task(io.call(http.get("/models")))
        await until(lambda: io.stats().retries > 1)
        await process.start()
        assert (await waiting).json()["data"]
        assert (await whole).status == 200
        assert io.stats().buffered_bytes == 0
