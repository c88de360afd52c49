"""The engine over plain HTTP: is it alive, is it ready, what has it counted. The gateway to agents is not here yet."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from amx_server.core.config import HttpConfig
from amx_server.core.version import VERSION


class HealthSource(Protocol):
    """What the HTTP server asks of the engine. Both methods answer at once."""

    def not_ready(self) -> list[str]:
        """Why the engine takes no work now, one sentence each; empty: it does."""
        ...

    def render_metrics(self, accept: str) -> tuple[str, bytes]:
        """(content type, text) of all metrics, in the format that the Accept header asks for."""
        ...


Metrics = Callable[[str], Awaitable[tuple[str, bytes]]]


def _is_ours(record: logging.LogRecord) -> bool:
    """Not what callers send that is no HTTP (gRPC at the wrong port, a scan): they are told, with 400."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_quiet = logging.getLogger("amx_server.api.http")
_quiet.addFilter(_is_ours)


class HttpServer:
    """Listens while entered. Stateless: every answer comes from the HealthSource."""

    def __init__(
        self, source: HealthSource, config: HttpConfig, *, shared: bool = False, metrics: Metrics | None = None
    ) -> None:
        """shared: other processes listen at the same port. metrics: instead of the source's own."""
        self._all_metrics = metrics
        self._shared = shared
        self._source = source
        self._config = config
        self._runner: web.AppRunner | None = None
        self.address = ""
        """`host:port` it listens on; empty before it does."""

    async def __aenter__(self) -> HttpServer:
        """Raises OSError, which names the address, when it cannot listen."""
        app = web.Application(client_max_size=64 * 1024, middlewares=[_plain_errors])
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/health/live", self._live),
                web.get("/health/ready", self._ready),
                web.get("/metrics", self._metrics),
            ]
        )
        runner = web.AppRunner(app, access_log=None, logger=_quiet, shutdown_timeout=2.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._config.host, self._config.port, reuse_port=self._shared or None)
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _index(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "name": "amx-engine",
                "version": VERSION,
                "links": {"live": "/health/live", "ready": "/health/ready", "metrics": "/metrics"},
            }
        )

    async def _live(self, _: web.Request) -> web.Response:
        # Answering at all is the proof: this runs on the loop that does the engine's work.
        return web.json_response({"status": "alive"}, headers=_NO_STORE)

    async def _ready(self, _: web.Request) -> web.Response:
        reasons = self._source.not_ready()
        if reasons:
            return web.json_response({"status": "not ready", "reasons": reasons}, status=503, headers=_NO_STORE)
        return web.json_response({"status": "ready"}, headers=_NO_STORE)

    async def _metrics(self, request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        if self._all_metrics is not None:
            content_type, text = await self._all_metrics(accept)
        else:
            content_type, text = self._source.render_metrics(accept)
        return web.Response(body=text, headers={"Content-Type": content_type})


_NO_STORE = {"Cache-Control": "no-store"}


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as JSON, like everything else here."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        message = f"{request.method} {request.path}: {error.reason}; GET / lists what there is"
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return web.json_response({"error": message}, status=error.status, headers=allowed)
