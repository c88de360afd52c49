"""The client that providers ask with: answers of every form, connections used again or not, and hostile servers."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import ssl
import subprocess
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx_server.core.errors import AmxError
from amx_server.inference.io.http import HttpProvider, HttpRequest, HttpResponse
from amx_server.inference.io.http_connection import HttpConnection, HttpFailure, TooMuch
from amx_server.inference.io.http_decoding import Decoder, UndecodableError
from amx_server.inference.io.http_headers import Headers
from amx_server.inference.io.http_requests import Server

PATIENCE = 60.0
LIMIT = 1 << 20
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: t\r\n\r\n"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel"
TO_THE_END = b"HTTP/1.1 200 OK\r\n\r\nhello"


class Scripted:
    """A server that gives one answer of the script to each request, whatever it asks. An empty one: it hangs up.
    After CUT it hangs up, too.
    """

    def __init__(self, answers: Sequence[bytes], *, then_close: bool = False) -> None:
        self.answers = list(answers)
        self.then_close = then_close
        self.requests: list[bytes] = []
        self.connections = self.open = self.most_open = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(Headers(fields(head)).get("content-length", "0"))
                self.requests.append(head + await reader.readexactly(length))
                await self.gate.wait()
                answer = self.answers.pop(0) if self.answers else PLAIN
                if not answer:
                    break
                writer.write(answer)
                await writer.drain()
                if self.then_close or answer is CUT:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def until(self, condition: Callable[[], object]) -> None:
        """Returns when something is so."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)


def fields(head: bytes) -> list[tuple[bytes, bytes]]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:] if b":" in line)
    return [(name, value) for name, _, value in lines]


@asynccontextmanager
async def scripted(
    *answers: bytes, then_close: bool = False, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[tuple[Scripted, HttpProvider]]:
    script = Scripted(answers, then_close=then_close)
    server = await asyncio.start_server(script, "127.0.0.1", 0, ssl=options.pop("server_tls", None))
    script.port = server.sockets[0].getsockname()[1]
    address = f"https://localhost:{script.port}" if tls else f"http://127.0.0.1:{script.port}"
    async with asyncio.timeout(PATIENCE):
        try:
            async with HttpProvider("test", address, tls=tls, **options) as http:
                yield script, http
        finally:
            server.close()


def certify(folder: Path) -> None:
    """Writes `key` and `cert` for localhost."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key", "-out", "cert")
    named = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2")
    subprocess.run(["openssl", "req", "-x509", *key, *named], cwd=folder, check=True, capture_output=True)


async def get(http: HttpProvider, limit: int = LIMIT) -> HttpResponse:
    return await http.send(HttpRequest("GET", "/x", content_type=""), None, limit)


async def post(http: HttpProvider, limit: int = LIMIT) -> HttpResponse:
    return await http.send(HttpRequest("POST", "/x", b"{}"), None, limit)


async def reason(answer: Any) -> str:
    with pytest.raises(AmxError) as raised:
        await answer
    return raised.value.reason


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, TO_THE_END], ids=["length", "chunked", "to the end"])
async def test_answer_of_every_form_is_read_whole(answer: bytes) -> None:
    async with scripted(answer, answer, then_close=answer is TO_THE_END) as (script, http):
        assert [(await get(http)).body for _ in range(2)] == [b"hello"] * 2
        assert script.connections == (2 if answer is TO_THE_END else 1)


async def test_interim_answers_are_passed_over() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\nLink: x\r\n\r\n"
    async with scripted(b"HTTP/1.1 100 Continue\r\n\r\n" + hint + PLAIN) as (_, http):
        answer = await post(http)
        assert (answer.status, answer.body, dict(answer.headers)) == (200, b"hello", {"content-length": "5"})


async def test_answers_without_content_are_whole_at_once() -> None:
    async with scripted(b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") as (
        _,
        http,
    ):
        assert (await get(http)).status == 204
        answer = await http.send(HttpRequest("HEAD", "/x", content_type=""), None, LIMIT)
        assert (answer.status, answer.body, answer.headers["Content-LENGTH"]) == (200, b"", "9")


def test_headers_do_not_mind_case_and_join_what_came_twice() -> None:
    headers = Headers([(b"X-A", b" 1 "), (b"x-a", b"2"), (b"Y", b"\xe9")])
    assert dict(headers) == {"x-a": "1, 2", "y": "é"} and headers["X-a"] == "1, 2" and len(headers) == 2
    assert headers.get("z") is None and "Y" in headers


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"hello" * 1000)),
        ("gzip", gzip.compress(b"hello" * 400) + gzip.compress(b"hello" * 600)),
        ("deflate", zlib.compress(b"hello" * 1000)),
        ("deflate", zlib.compress(b"hello" * 1000)[2:-4]),
    ],
    ids=["gzip", "gzip in two", "deflate", "deflate without its frame"],
)
async def test_compressed_content_arrives_plain(encoding: str, packed: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    unknown = head.replace(encoding.encode(), b"br")
    async with scripted(head + packed, unknown + packed, head + packed) as (_, http):
        assert (await get(http)).body == b"hello" * 1000
        assert await reason(get(http)) == "PROVIDER_MALFORMED"
        assert await reason(get(http, limit=4999)) == "RESPONSE_TOO_LARGE"


async def test_compressed_content_that_ends_early_or_is_none_is_an_error() -> None:
    packed = gzip.compress(bytes(range(256)) * 40)[:-20]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    async with scripted(head % len(packed) + packed, head % 5 + b"hello") as (_, http):
        assert await reason(get(http)) == "STREAM_INTERRUPTED"
        assert await reason(get(http)) == "PROVIDER_MALFORMED"


async def test_compressed_content_is_counted_plain_before_it_is_held() -> None:
    packed = gzip.compress(bytes(300 << 20), 9)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with scripted(head + packed) as (_, http):
        assert await reason(get(http)) == "RESPONSE_TOO_LARGE"
    longest = max(map(len, Decoder("gzip").feed(packed)))
    assert longest <= 256 << 10


@given(st.binary(max_size=2000), st.lists(st.integers(1, 64), max_size=40), st.sampled_from(["gzip", "deflate"]))
def test_decoder_gives_the_same_however_it_is_fed(data: bytes, cuts: list[int], encoding: str) -> None:
    packed = gzip.compress(data) if encoding == "gzip" else zlib.compress(data)
    decoder, plain = Decoder(encoding), b""
    for piece in pieces_of(packed, cuts):
        plain += b"".join(decoder.feed(piece))
    assert plain == data and not decoder.pending


@given(st.binary(max_size=300))
def test_decoder_of_anything_ends_with_data_or_its_error(data: bytes) -> None:
    for encoding in ("gzip", "deflate"):
        try:
            list(Decoder(encoding).feed(data))
        except UndecodableError:
            pass


# --- connections -----------------------------------------------------------------------------------------------------


async def test_connection_is_used_again_only_where_both_sides_keep_it() -> None:
    closing = PLAIN.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")
    older = PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0")
    surplus = PLAIN + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    async with scripted(PLAIN, PLAIN, closing, older, surplus, PLAIN) as (script, http):
        for connections in (1, 1, 1, 2, 3, 4):
            assert (await post(http)).body == b"hello"
            assert script.connections == connections


async def test_what_comes_unasked_ends_the_connection_and_is_nobodys_answer() -> None:
    async with scripted(PLAIN + b"x") as (script, http):
        assert (await get(http)).body == b"hello"
        await script.until(lambda: not script.open)
        assert (await get(http)).body == b"hello" and script.connections == 2


async def test_request_on_a_connection_closed_meanwhile_is_repeated_if_it_changes_nothing() -> None:
    async with scripted(PLAIN, b"", PLAIN, b"", PLAIN, b"") as (script, http):
        for asked in (get, get, get):
            assert (await asked(http)).body == b"hello"
        assert script.connections == 3
        assert await reason(post(http)) == "STREAM_INTERRUPTED"
    async with scripted(b"") as (script, http):  # a connection of its own: it was not closed before
        assert await reason(get(http)) == "STREAM_INTERRUPTED" and len(script.requests) == 1


async def test_connection_lost_while_idle_is_not_asked_on() -> None:
    async with scripted(PLAIN, PLAIN, then_close=True) as (script, http):
        await post(http)
        await script.until(lambda: not script.open)
        await asyncio.sleep(0)
        assert (await post(http)).body == b"hello" and script.connections == 2


async def test_idle_connections_are_closed_after_a_while() -> None:
    async with scripted(keepalive=0.05) as (script, http):
        await asyncio.gather(*(get(http) for _ in range(5)))
        await script.until(lambda: not script.open)


async def test_cancelled_request_takes_its_connection_with_it() -> None:
    async with scripted() as (script, http):
        script.gate.clear()
        asked = asyncio.create_task(post(http))
        await script.until(lambda: script.requests)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        script.gate.set()
        await script.until(lambda: not script.open)
        assert (await post(http)).body == b"hello" and script.connections == 2


@pytest.mark.parametrize("connections", [1, 2])
async def test_no_more_connections_than_may_be_and_who_waits_is_served_in_order(connections: int) -> None:
    async with scripted(connections=connections) as (script, http):
        script.gate.clear()
        order: list[int] = []

        async def ask(number: int) -> None:
            await post(http)
            order.append(number)

        asked = [asyncio.create_task(ask(number)) for number in range(20)]
        await script.until(lambda: len(script.requests) == connections)
        for number in (0, 5, 6, 19):
            asked[number].cancel()
        script.gate.set()
        await asyncio.gather(*asked, return_exceptions=True)
        assert sorted(order) == [number for number in range(20) if number not in (0, 5, 6, 19)]
        assert script.most_open <= connections + 1  # the cancelled one's end may not have arrived yet
        if connections == 1:
            assert order == sorted(order)


@pytest.mark.fault
@pytest.mark.parametrize("seed", range(4))
async def test_no_place_is_lost_whatever_servers_and_callers_do(seed: int) -> None:
    random = Random(seed)
    closing = PLAIN.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")
    kinds = [PLAIN, PLAIN, CHUNKED, CUT, closing, PLAIN + b"surplus", b"", b"?"]
    async with scripted(*random.choices(kinds, k=300), connections=5) as (script, http):
        outcomes: list[str] = []

        async def ask() -> None:
            try:
                answer = await (get if random.random() < 0.5 else post)(http)
                outcomes.append(answer.body.decode())
            except AmxError as error:
                outcomes.append(error.reason)

        for _ in range(30):
            tasks = [asyncio.create_task(ask()) for _ in range(random.randint(1, 20))]
            for task in random.sample(tasks, len(tasks) // 3):
                for _ in range(random.randint(0, 12)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert {"hello", "STREAM_INTERRUPTED", "PROVIDER_MALFORMED"} <= set(outcomes)
        assert set(outcomes) <= {"hello", "STREAM_INTERRUPTED", "PROVIDER_MALFORMED"}
        script.answers.clear()
        script.gate.clear()
        last = HttpRequest("POST", "/last", b"{}")
        asked = [asyncio.create_task(http.send(last, None, LIMIT)) for _ in range(5)]
        # All five places are there still.
        await script.until(lambda: sum(b"/last " in request for request in script.requests) == 5)
        script.gate.set()
        assert [(await task).body for task in asked] == [b"hello"] * 5


async def test_waiting_for_a_connection_ends_when_one_fails_to_come() -> None:
    async with HttpProvider("test", "http://127.0.0.1:9", connections=1) as http, asyncio.timeout(PATIENCE):
        reasons = await asyncio.gather(*(reason(post(http)) for _ in range(5)))
        assert reasons == ["PROVIDER_UNREACHABLE"] * 5


async def test_stream_that_nobody_takes_from_is_not_read_on_and_that_is_no_silence_of_the_server() -> None:
    connection, transport = connected()
    connection.ask(b"", limit=LIMIT, streams=True, headless=False, begun=None)
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    fed = 0
    while not transport.paused:
        connection.data_received(b"x" * 10_000)
        fed += 10_000
        assert fed <= (256 << 10) + 10_000
    assert not connection.look(1000.0, 60.0) and not connection.look(2000.0, 60.0)
    assert len(await connection.part()) == fed and not transport.paused
    assert not connection.look(3000.0, 60.0) and connection.look(3060.0, 60.0)


async def test_request_that_is_still_being_sent_is_no_silence_of_the_server() -> None:
    connection, transport = connected()
    connection.ask(b"", limit=LIMIT, streams=False, headless=False, begun=None)
    transport.unsent = 1000
    assert not connection.look(1000.0, 60.0)
    transport.unsent = 500
    assert not connection.look(2000.0, 60.0) and connection.look(2060.0, 60.0)


async def test_first_address_that_answers_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted() as (script, _):
        loop = asyncio.get_running_loop()
        looked_up: list[str] = []

        async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
            looked_up.append(host)
            return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.3", "127.0.0.1")]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        async with HttpProvider("test", f"http://models.example:{script.port}") as http:
            answers = await asyncio.gather(*(post(http) for _ in range(5)))
            assert [answer.body for answer in answers] == [b"hello"] * 5
        assert looked_up == ["models.example"]


async def test_name_that_is_unknown_is_looked_up_again_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    looked_up: list[str] = []

    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        looked_up.append(host)
        raise OSError("name unknown")

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with HttpProvider("test", "http://models.example") as http:
        assert [await reason(post(http)) for _ in range(2)] == ["PROVIDER_UNREACHABLE"] * 2
    assert len(looked_up) == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
async def test_tls_is_spoken_with_servers_whose_certificate_is_trusted(tmp_path: Path) -> None:
    certify(tmp_path)
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert"))
    async with scripted(PLAIN, CHUNKED, server_tls=server_tls, tls=trusting) as (script, http):
        assert [(await post(http)).body for _ in range(3)] == [b"hello"] * 3
        assert script.connections == 1
    async with scripted(server_tls=server_tls, tls=ssl.create_default_context()) as (_, http):
        assert await reason(post(http)) == "PROVIDER_UNREACHABLE"


# --- requests --------------------------------------------------------------------------------------------------------


def test_request_says_where_who_and_what() -> None:
    server = Server("http://user:p%40ss@[::1]:81/v1", {"X-Key": "k"})
    head = server.head(HttpRequest("POST", "/a b?c=%20#d", b"{}", headers={"x-key": "other"}), 2)
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/a%20b?c=%20 HTTP/1.1" and lines[-2:] == ["", ""]
    assert {"Host: [::1]:81", "Authorization: Basic dXNlcjpwQHNz", "X-Key: other", "Content-Length: 2"} <= set(lines)
    assert (server.host, server.port, server.secure) == ("::1", 81, False)
    events = server.head(HttpRequest("GET", "", events=True, content_type=""), 0).decode()
    assert events.startswith("GET /v1 HTTP/1.1\r\n") and "Accept: text/event-stream\r\n" in events
    assert "Content-" not in events and "Host: bücher.example" not in events
    assert Server("https://bücher.example", {}).host == "xn--bcher-kva.example"


@pytest.mark.parametrize("headers", [{"x": "1\r\nHost: evil"}, {"x": "1\n2"}, {"x\r\ny": "1"}, {"": "1"}, {"x": "\0"}])
def test_header_that_breaks_a_line_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        Server("http://localhost", headers)
    with pytest.raises(ValueError, match="header"):
        Server("http://localhost", {}).head(HttpRequest("GET", "/", headers=headers), 0)


@given(st.text(max_size=60))
def test_no_path_breaks_the_request_line(path: str) -> None:
    head = Server("http://localhost", {}).head(HttpRequest("GET", "/" + path, content_type=""), 0)
    line = head.split(b"\r\n")[0]
    assert line.startswith(b"GET /") and line.endswith(b" HTTP/1.1") and line.count(b" ") == 2
    assert all(0x21 <= byte < 0x7F for byte in line.replace(b" ", b""))


# --- hostile servers -------------------------------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize(
    "flood",
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 200),
        (b"HTTP/1.1 ", b"2" * 1000),
        (b"HTTP/1.1 200 ", b"O" * 1000),
        (b"", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 30),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: ", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 20, b"0" * 1000),
    ],
    ids=["header", "headers", "status", "phrase", "interim", "extension", "trailer", "size"],
)
async def test_endless_framing_is_given_up(flood: tuple[bytes, bytes]) -> None:
    connection, transport = connected()
    connection.ask(b"", limit=LIMIT, streams=False, headless=False, begun=None)
    connection.data_received(flood[0])
    fed = 0
    while not transport.aborted:
        connection.data_received(flood[1])
        fed += len(flood[1])
        assert fed <= (64 << 10) + 1000
    with pytest.raises(HttpFailure):
        connection.answering()


@pytest.mark.fault
@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA\r\nB: \0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_answer_that_can_be_read_in_two_ways_is_malformed(answer: bytes) -> None:
    async with scripted(answer, then_close=True) as (_, http):
        assert await reason(post(http)) == "PROVIDER_MALFORMED"


@pytest.mark.fault
async def test_answer_larger_than_wanted_is_refused_at_its_head_or_when_it_is_too_much() -> None:
    stated = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n"
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n%s\r\n" % (b"x" * 1024) * 2000
    async with scripted(stated, chunks) as (_, http):
        for _ in range(2):
            assert await reason(post(http)) == "RESPONSE_TOO_LARGE"


@pytest.mark.fault
async def test_refusal_without_end_is_read_as_far_as_it_helps() -> None:
    head = b'HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\n\r\n{"error": {"message": "' + b"no " * 50_000
    async with scripted(head) as (script, http):
        with pytest.raises(AmxError, match=r"failed \(500\).*no no") as raised:
            await post(http)
        assert len(raised.value.message) < 2000
        await script.until(lambda: not script.open)


class FakeTransport(asyncio.Transport):
    """Says nothing to anybody."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = self.paused = False
        self.unsent = 0

    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return self.unsent


def connected() -> tuple[HttpConnection, FakeTransport]:
    connection = HttpConnection(asyncio.get_running_loop(), lambda _: None)
    transport = FakeTransport()
    connection.connection_made(transport)
    return connection, transport


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    return [piece for piece in (*pieces, data) if piece]


async def outcome(pieces: list[bytes], *, streams: bool, ends: bool) -> tuple[int, bytes] | HttpFailure:
    """What one request gets of a server that sends these pieces."""
    connection, transport = connected()
    connection.ask(b"", limit=5000, streams=streams, headless=False, begun=None)
    for piece in pieces:
        if not transport.aborted:
            connection.data_received(piece)
    if ends or transport.aborted:
        connection.connection_lost(None)
    try:
        async with asyncio.timeout(PATIENCE):
            while (answering := connection.answering()) is not None:
                await answering
            body = connection.take()
            while streams and (part := await connection.part()):
                body += part
    except HttpFailure as error:
        return error
    finally:
        connection.close()
    return connection.status, body


NAMES = st.sampled_from([b"X", b"Content-Type", b"Server", b"Date"])
VALUES = st.binary(max_size=20).map(lambda value: bytes(byte for byte in value if byte >= 0x20 and byte != 0x7F))


@given(
    status=st.sampled_from([200, 201, 404, 500]),
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=5),
    body=st.binary(max_size=4000),
    chunks=st.one_of(st.none(), st.lists(st.integers(1, 500), max_size=10)),
    cuts=st.lists(st.integers(1, 300), max_size=30),
    streams=st.booleans(),
)
def test_answer_is_the_same_however_it_is_cut(
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    chunks: list[int] | None,
    cuts: list[int],
    streams: bool,
) -> None:
    answer = b"HTTP/1.1 %d Said\r\n" % status + b"".join(b"%s: %s\r\n" % header for header in headers)
    if chunks is None:
        answer += b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    else:
        parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in pieces_of(body, chunks))
        answer += b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"
    assert asyncio.run(outcome(pieces_of(answer, cuts), streams=streams, ends=False)) == (status, body)


FRAGMENTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 404 No\r\n", b"HTTP/1.1 304 Same\r\n",
        b"Content-Length: 5\r\n", b"Content-Length: 70000\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n", b"Content-Encoding: gzip\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n",
        b"\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"fffffffff\r\n", b"hello", b"\r", b"\n", b" ", b"\0", b"x" * 3000,
    ]
)  # fmt: skip


@given(
    st.lists(st.one_of(FRAGMENTS, st.binary(max_size=30)), max_size=40),
    st.lists(st.integers(1, 200), max_size=20),
    st.booleans(),
)
def test_anything_a_server_says_ends_as_an_answer_or_a_failure_within_bounds(
    said: list[bytes], cuts: list[int], streams: bool
) -> None:
    found = asyncio.run(outcome(pieces_of(b"".join(said), cuts), streams=streams, ends=True))
    assert isinstance(found, HttpFailure) or len(found[1]) <= (len(b"".join(said)) if streams else 5000 + 3000)
    if isinstance(found, TooMuch):
        assert not streams
