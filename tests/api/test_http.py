"""Health and metrics over HTTP."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

from amx_server.api.http import HttpServer
from amx_server.core.config import HttpConfig
from amx_server.telemetry.metrics import EngineMetrics


class Source:
    """An engine whose readiness the test decides."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.metrics = EngineMetrics()

    def not_ready(self) -> list[str]:
        return self.reasons

    def render_metrics(self, accept: str) -> tuple[str, bytes]:
        return self.metrics.render(accept)


@pytest.fixture
def source() -> Source:
    return Source()


async def get(server: HttpServer, path: str, method: str = "GET") -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.request(method, f"http://{server.address}{path}") as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_ready_follows_the_engine(source: Source) -> None:
    async with HttpServer(source, HttpConfig(port=0)) as server:
        assert (await get(server, "/health/ready"))[0] == 200
        source.reasons = ["storage: the disk is full"]
        status, _, text = await get(server, "/health/ready")
        assert status == 503
        assert "the disk is full" in text
        # An engine that must not get work is alive all the same: restarting it would help nobody.
        assert (await get(server, "/health/live"))[0] == 200


async def test_metrics_are_in_the_text_format(source: Source) -> None:
    source.metrics.counters.commits = 7
    async with HttpServer(source, HttpConfig(port=0)) as server:
        status, content_type, text = await get(server, "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    assert "amx_commits_total 7.0" in text


async def test_index_lists_what_there_is(source: Source) -> None:
    async with HttpServer(source, HttpConfig(port=0)) as server:
        status, content_type, text = await get(server, "/")
    assert status == 200
    assert content_type.startswith("application/json")
    assert "/health/ready" in text
    assert "/metrics" in text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/metrics", 405)])
async def test_other_paths_and_methods_are_refused_as_json(source: Source, method: str, path: str, status: int) -> None:
    async with HttpServer(source, HttpConfig(port=0)) as server:
        answered, content_type, text = await get(server, path, method)
    assert answered == status
    assert content_type.startswith("application/json")
    assert "GET / lists what there is" in text


async def test_port_in_use_is_an_os_error(source: Source) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="address already in use"):
            async with HttpServer(source, HttpConfig(port=taken.getsockname()[1])):
                pass


async def test_port_is_free_again_after_leaving(source: Source) -> None:
    async with HttpServer(source, HttpConfig(port=0)) as server:
        port = int(server.address.rpartition(":")[2])
    async with HttpServer(source, HttpConfig(port=port)) as server:
        assert (await get(server, "/health/live"))[0] == 200


async def test_who_speaks_no_http_is_answered_and_is_no_error_in_the_log(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    async with HttpServer(source, HttpConfig(port=0)) as server:
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
    assert not caplog.records
