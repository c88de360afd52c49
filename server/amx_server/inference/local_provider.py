"""A model provider on this machine for tests, benchmarks and `amx vm`: real HTTP, no model.

Speaks the OpenAI interface (chat completions plain and streamed, embeddings, models). Answers are computed from the
request and are the same every time; how long they take, how many may come, and what goes wrong are options.
`python -m amx_server.inference.local_provider --help`
"""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
import struct
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from random import Random
from statistics import NormalDist
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web
from blake3 import blake3

from amx_server.inference.io.operations import canonical_json
from amx_server.inference.io.rates import RateBucket

_WORDS = (
    *("the", "a", "this", "each", "one", "agent", "task", "plan", "step", "result", "value", "answer", "question"),
    *("source", "record", "store", "message", "queue", "link", "state", "change", "reads", "writes", "finds", "keeps"),
    *("checks", "sends", "asks", "returns", "compares", "counts", "because", "then", "when", "while", "until"),
    *("before", "after", "first", "next", "last", "small", "large", "new", "old", "same", "other", "clear", "ready"),
)
_NORMAL = NormalDist()
_P95 = _NORMAL.inv_cdf(0.95)
_MAX_BODY_BYTES = 64 << 20
_MAX_PROMPTS = 1024


@dataclass(frozen=True, slots=True)
class LocalProviderOptions:
    """How the provider behaves. Seconds, and counts; 0 switches a limit off.

    latency_min, latency_max: of a whole answer; `uniform` between them, or `lognormal` with 5 % below and above.
    first_token: share of the latency before the first part of a stream. chunks: parts of a streamed answer.
    words: length of an answer, unless max_tokens is less.
    requests_per_second, burst: beyond them 429. capacity: answers computed at a time, others queue for it.
    overload_above: requests under way beyond which 503. retry_after: what both refusals advise; 0: nothing.
    error_rate: share of the requests answered with 500, drawn with `seed`.
    faults: whether the header `x-amx-fault` is obeyed, see `_fault`.
    """

    host: str = "127.0.0.1"
    port: int = 0
    latency_min: float = 1.0
    latency_max: float = 2.0
    distribution: str = "uniform"
    first_token: float = 0.3
    chunks: int = 8
    words: int = 40
    requests_per_second: float = 0.0
    burst: float = 0.0
    capacity: int = 0
    overload_above: int = 0
    retry_after: float = 1.0
    error_rate: float = 0.0
    dimensions: int = 64
    seed: int = 0
    faults: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.latency_min <= self.latency_max:
            raise ValueError("latency: needs 0 <= latency_min <= latency_max")
        if self.distribution not in ("uniform", "lognormal"):
            raise ValueError(f"distribution is 'uniform' or 'lognormal', not '{self.distribution}'")
        if self.distribution == "lognormal" and not self.latency_min:
            raise ValueError("a lognormal latency needs a latency_min above 0")
        if self.chunks < 1 or self.words < 1 or self.dimensions < 1:
            raise ValueError("chunks, words and dimensions are 1 or more")


class _Message(msgspec.Struct):
    role: str
    content: Any = None


class _Usage(msgspec.Struct):
    include_usage: bool = False


class _Chat(msgspec.Struct):
    messages: list[_Message]
    model: str = "local"
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: _Usage | None = None


class _Embeddings(msgspec.Struct):
    input: str | list[str]
    model: str = "local-embedding"


class _Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, kind: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after

    def response(self) -> web.Response:
        """The error in the interface's own form."""
        headers = {}
        if self.retry_after:
            headers = {
                "Retry-After": str(math.ceil(self.retry_after)),
                "retry-after-ms": str(round(self.retry_after * 1000)),
            }
        body = {"error": {"message": str(self), "type": self.kind, "param": None, "code": None}}
        return web.Response(
            body=msgspec.json.encode(body), status=self.status, headers=headers, content_type="application/json"
        )


class LocalProvider:
    """The server, listening while entered. `address` is its base address, ending in /v1."""

    def __init__(self, options: LocalProviderOptions | None = None) -> None:
        self.options = options or LocalProviderOptions()
        self.address = ""
        self.counts: Counter[str] = Counter()
        self._random = Random(self.options.seed)
        self._rate = RateBucket(self.options.requests_per_second, self.options.burst)
        self._capacity = asyncio.Semaphore(self.options.capacity) if self.options.capacity else None
        self._in_flight = 0
        self._seen_faults: Counter[tuple[str, bytes]] = Counter()
        self._prompts: OrderedDict[str, int] = OrderedDict()  # address -> bytes
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        """Raises OSError when it cannot listen."""
        # No router and no access log: they would cost as much as the rest of a request.
        server = web.Server(self._handle, access_log=None, handler_cancellation=True, keepalive_timeout=75.0)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.options.host, self.options.port, backlog=4096)
        try:
            await site.start()
        except BaseException:
            await self._runner.cleanup()
            raise
        host, port = self._runner.addresses[0][:2]
        self.address = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # --- requests ----------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        counts = self.counts
        path = request.path.removeprefix("/v1")
        if path == "/stats":
            return _json(dict(counts) | {"in_flight": self._in_flight})
        if path.startswith("/prompts/") and request.method == "PUT":
            return await self._keep_prompt(request, path.removeprefix("/prompts/"))
        if path == "/models":
            return _json({"object": "list", "data": [{"id": "local", "object": "model", "owned_by": "local"}]})
        counts["requests"] += 1
        self._in_flight += 1
        counts["most_in_flight"] = max(counts["most_in_flight"], self._in_flight)
        try:
            self._admit()
            if request.method != "POST" or path not in ("/chat/completions", "/embeddings"):
                raise _Refused(404, "invalid_request_error", f"there is no {request.method} {request.path}")
            body = await _read(request)
            if self._capacity is None:
                return await self._answer(request, path, body)
            async with self._capacity:
                return await self._answer(request, path, body)
        except _Refused as refused:
            counts[f"status_{refused.status}"] += 1
            return refused.response()
        except (asyncio.CancelledError, ConnectionError):
            counts["disconnected"] += 1
            raise
        finally:
            self._in_flight -= 1

    def _admit(self) -> None:
        options, now = self.options, time.monotonic()
        if options.overload_above and self._in_flight > options.overload_above:
            raise _Refused(503, "overloaded_error", "too many requests are under way", options.retry_after)
        wait = self._rate.wait(now)
        if wait:
            advice = max(wait, options.retry_after) if options.retry_after else 0.0
            raise _Refused(429, "rate_limit_error", f"more than {options.requests_per_second:g} requests/s", advice)
        self._rate.take(now)
        if options.error_rate and self._random.random() < options.error_rate:
            raise _Refused(500, "server_error", "an error that the options ask for")

    async def _answer(self, request: web.BaseRequest, path: str, body: bytes) -> web.StreamResponse:
        digest = blake3(body).digest()
        fault = await self._fault(request, digest)
        if path == "/embeddings":
            return await self._embed(_decoded(body, _Embeddings), digest)
        chat = _decoded(body, _Chat)
        if not chat.messages:
            raise _Refused(400, "invalid_request_error", "messages is empty; it has one message at least")
        text = answer_to(chat.model, chat.messages[-1].content, digest, self._words(chat))
        usage = _usage(len(body) + self._referred_bytes(chat), text)
        if chat.stream:
            return await self._stream(request, chat, digest, text, usage, fault)
        await asyncio.sleep(self.latency(digest))
        self.counts["completions"] += 1
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return _json({**_head(chat, digest, "chat.completion"), "choices": [choice], "usage": usage})

    async def _stream(
        self,
        request: web.BaseRequest,
        chat: _Chat,
        digest: bytes,
        text: str,
        usage: dict[str, int],
        fault: str,
    ) -> web.StreamResponse:
        latency, options = self.latency(digest), self.options
        await asyncio.sleep(latency * options.first_token)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        head = _head(chat, digest, "chat.completion.chunk")
        pieces = _pieces(text, options.chunks)
        pause = latency * (1 - options.first_token) / len(pieces)
        if fault.startswith("slow:"):
            pause = float(fault.removeprefix("slow:"))
        for number, piece in enumerate(pieces):
            delta = {"content": piece} | ({"role": "assistant"} if number == 0 else {})
            await response.write(_event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
            if number == len(pieces) // 2 and fault in ("break", "stall", "malformed"):
                await self._spoil(request, response, fault)
                return response
            await asyncio.sleep(pause)
        last: dict[str, Any] = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        await response.write(_event(last))
        if chat.stream_options is not None and chat.stream_options.include_usage:
            await response.write(_event({**head, "choices": [], "usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        self.counts["streams"] += 1
        return response

    async def _embed(self, asked: _Embeddings, digest: bytes) -> web.Response:
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        if not texts:
            raise _Refused(400, "invalid_request_error", "input is empty; it has one text at least")
        await asyncio.sleep(self.latency(digest))
        self.counts["embeddings"] += 1
        self.counts["embedded_texts"] += len(texts)
        data = [
            {"object": "embedding", "index": index, "embedding": embedding_of(text, self.options.dimensions)}
            for index, text in enumerate(texts)
        ]
        tokens = sum(len(text) // 4 + 1 for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return _json({"object": "list", "model": asked.model, "data": data, "usage": usage})

    async def _keep_prompt(self, request: web.BaseRequest, address: str) -> web.Response:
        """Takes a prompt that messages then name by its BLAKE3 address, as providers' explicit caches do: for
        `{"role": "system", "content": {"prompt": ADDRESS}}` the bytes need not travel with every request.
        """
        body = await _read(request)
        if blake3(body).hexdigest() != address:
            return _Refused(400, "invalid_request_error", "the address is not the BLAKE3 hash of the body").response()
        self._prompts[address] = len(body)
        if len(self._prompts) > _MAX_PROMPTS:
            self._prompts.popitem(last=False)
        self.counts["prompts"] += 1
        return _json({"prompt": address, "bytes": len(body)})

    def _referred_bytes(self, chat: _Chat) -> int:
        total = 0
        for message in chat.messages:
            address = message.content.get("prompt") if isinstance(message.content, dict) else None
            if address is None:
                continue
            if address not in self._prompts:
                raise _Refused(404, "prompt_not_found", f"there is no prompt {address}; PUT it to /v1/prompts first")
            total += self._prompts[address]
        return total

    # --- behaviour ---------------------------------------------------------------------------------------------------

    def latency(self, digest: bytes) -> float:
        """Seconds that the answer to a request with this digest takes: drawn from the distribution, always the same."""
        options = self.options
        share = (int.from_bytes(digest[:6], "little") + 0.5) / 2**48
        if options.distribution == "uniform" or options.latency_min == options.latency_max:
            return options.latency_min + share * (options.latency_max - options.latency_min)
        middle = math.log(options.latency_min * options.latency_max) / 2
        deviation = math.log(options.latency_max / options.latency_min) / (2 * _P95)
        return math.exp(middle + deviation * _NORMAL.inv_cdf(share))

    def _words(self, chat: _Chat) -> int:
        limit = chat.max_completion_tokens or chat.max_tokens
        return min(self.options.words, limit) if limit else self.options.words

    async def _fault(self, request: web.BaseRequest, digest: bytes) -> str:
        """What the header `x-amx-fault: KIND[;times=N]` asks for, the first N times that this very request comes.

        hang: never answers. reset: the connection is cut at once. status:CODE: that answer. Of streams, after half of
        it: break: the connection is cut; stall: nothing more comes; malformed: an event that is no JSON, then the end.
        slow:SECONDS: pause between parts.
        """
        text = request.headers.get("x-amx-fault", "") if self.options.faults else ""
        if not text:
            return ""
        fault, _, times = text.partition(";times=")
        seen = self._seen_faults
        if len(seen) > 10_000:
            seen.clear()
        seen[text, digest] += 1
        if times and seen[text, digest] > int(times):
            return ""
        self.counts["faults"] += 1
        if fault == "hang":
            await asyncio.Event().wait()
        if fault == "reset":
            self._cut(request)
        if fault.startswith("status:"):
            status = int(fault.removeprefix("status:"))
            raise _Refused(status, "fault", "the header x-amx-fault asks for it", self.options.retry_after)
        return fault

    async def _spoil(self, request: web.BaseRequest, response: web.StreamResponse, fault: str) -> None:
        if fault == "break":
            self._cut(request)
        elif fault == "stall":
            await asyncio.Event().wait()
        else:
            await response.write(b"data: {not json\n\n")
            await response.write_eof()

    def _cut(self, request: web.BaseRequest) -> None:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("cut, as the header x-amx-fault asks for")


def answer_to(model: str, content: Any, digest: bytes, words: int) -> str:
    """The text that a request gets: a word of greeting to what was said last, and words drawn from the digest."""
    said = content if isinstance(content, str) else canonical_json(content).decode()
    excerpt = " ".join(said.split())[:40]
    drawn = blake3(digest + model.encode()).digest(length=words)
    return f"[{excerpt}] " + " ".join(_WORDS[byte % len(_WORDS)] for byte in drawn)


def embedding_of(text: str, dimensions: int) -> list[float]:
    """A vector of length 1 that depends on the text alone."""
    drawn = blake3(text.encode()).digest(length=2 * dimensions)
    values = struct.unpack(f"<{dimensions}h", drawn)
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [round(value / length, 6) for value in values]


async def _read(request: web.BaseRequest) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
        if size > _MAX_BODY_BYTES:
            raise _Refused(413, "invalid_request_error", f"a request has at most {_MAX_BODY_BYTES} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _decoded(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Refused(400, "invalid_request_error", f"the request cannot be read: {error}") from None


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _event(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _head(chat: _Chat, digest: bytes, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{digest[:12].hex()}", "object": kind, "created": int(time.time()), "model": chat.model}


def _usage(prompt_bytes: int, text: str) -> dict[str, int]:
    prompt, completion = prompt_bytes // 4 + 1, len(text.split())
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _pieces(text: str, count: int) -> list[str]:
    size = max(1, math.ceil(len(text) / count))
    return [text[start : start + size] for start in range(0, len(text), size)]


# --- as a process ----------------------------------------------------------------------------------------------------


def options_of(argv: Sequence[str]) -> LocalProviderOptions:
    """Options from the command line. Exits with a message for those that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m amx_server.inference.local_provider", description=__doc__)
    for option in fields(LocalProviderOptions):
        name = f"--{option.name.replace('_', '-')}"
        if isinstance(option.default, bool):
            parser.add_argument(name, action="store_true")
        else:
            parser.add_argument(name, type=type(option.default), default=option.default, metavar=str(option.type))
    arguments = vars(parser.parse_args(argv))
    try:
        return LocalProviderOptions(**arguments)
    except ValueError as error:
        parser.error(str(error))


async def serve(options: LocalProviderOptions) -> None:
    """Serves until SIGTERM or SIGINT. Says its address in one line when it listens."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    async with LocalProvider(options) as server:
        print(f"local provider: {server.address}", flush=True)
        await stopped.wait()


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = options_of(sys.argv[1:] if argv is None else argv)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(options))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(options))


if __name__ == "__main__":
    main()
