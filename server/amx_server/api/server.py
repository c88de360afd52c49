"""The engine's listeners: gRPC (links, unary calls, health, reflection) and HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from amx.v1 import engine_pb2, link_pb2
from amx_server.api import peer_metrics
from amx_server.api.engine_service import EngineService
from amx_server.api.http import HttpServer
from amx_server.api.link_service import LinkService
from amx_server.api.passing import Passing
from amx_server.cluster.trust import PeerTrust
from amx_server.core import errors
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError
from amx_server.security.identity import Authenticator, Identity
from amx_server.telemetry.logs import get_logger

if TYPE_CHECKING:
    from amx_server.runtime.engine import Engine

log = get_logger(__name__)

_FRAMING = 64 * 1024  # bytes that a message may be larger than its largest item


class Server:
    """Listens while entered; leaving it closes every connection. The engine is drained by its owner before."""

    def __init__(
        self,
        engine: Engine,
        config: EngineConfig,
        *,
        trust: PeerTrust | None = None,
        shared: bool = False,
        sockets: Sequence[str] = (),
    ) -> None:
        """trust: how other engines of the address are recognised; None: there are none. shared: other processes listen
        at the same TCP ports, and the operating system gives each connection to one of them. sockets: paths of Unix
        sockets to listen on besides the configured one.
        """
        self._sockets = [*([config.grpc.unix_socket] if config.grpc.unix_socket else []), *sockets]
        self._engine = engine
        self._config = config
        self._trust = trust
        self._shared = shared
        self._passing = Passing(engine.shard) if engine.shard is not None else None
        self._authenticator = Authenticator(config)
        self._server: grpc.aio.Server | None = None
        self._http: HttpServer | None = None
        self._health = health.aio.HealthServicer()
        self._stopped = asyncio.Event()
        self.grpc_address = ""
        """`host:port` that gRPC listens on; empty before it does."""
        self.http_address = ""
        """`host:port` that HTTP listens on; empty if it does not."""

    async def __aenter__(self) -> Server:
        """Raises AmxError ADDRESS_IN_USE, which names the address, when it cannot listen."""
        config = self._config
        largest = max(config.limits.max_item_bytes, 2 * config.limits.max_frame_bytes) + _FRAMING
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", largest),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(self._shared)),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ]
        )
        server.add_generic_rpc_handlers(
            (
                LinkService(self._engine, self._identify).handler(),
                EngineService(self._engine, self._identify, self._passing).handler(),
            )
        )
        if self._trust is not None:
            server.add_generic_rpc_handlers((peer_metrics.handler(self._trust, self._engine.render_metrics),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [
            link_pb2.DESCRIPTOR.services_by_name["LinkService"].full_name,
            engine_pb2.DESCRIPTOR.services_by_name["EngineService"].full_name,
        ]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        address = f"{config.grpc.host}:{config.grpc.port}"
        if ":" in config.grpc.host and not config.grpc.host.startswith("["):
            address = f"[{config.grpc.host}]:{config.grpc.port}"
        try:
            port = self._bind(server, address)
            for path in self._sockets:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise AmxError(
                errors.UNAVAILABLE,
                "ADDRESS_IN_USE",
                f"cannot listen on {address}: another process may use it;"
                " stop that, or set grpc.port (`amx dev`: --grpc-port)",
            ) from error
        self.grpc_address = f"{address.rsplit(':', 1)[0]}:{port}"
        await server.start()
        self._server = server
        if config.http.enabled:
            try:
                metrics = self._metrics if self._passing is not None else None
                http = HttpServer(self._engine, config.http, shared=self._shared, metrics=metrics)
                self._http = await http.__aenter__()
            except OSError as error:
                await server.stop(None)
                raise AmxError(
                    errors.UNAVAILABLE,
                    "ADDRESS_IN_USE",
                    f"cannot listen on {config.http.host}:{config.http.port}: {error.strerror or error};"
                    " set http.port (`amx dev`: --http-port), or http.enabled to false",
                ) from error
            self.http_address = self._http.address
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("listening", grpc=self.grpc_address, http=self.http_address)
        if self._authenticator.refuses_everybody:
            log.warning("no_tokens_configured", advice="nobody can connect: put tokens into security.tokens")
        return self

    def _bind(self, server: grpc.aio.Server, address: str) -> int:
        tls = self._config.grpc.tls
        if tls is None:
            return server.add_insecure_port(address)
        client_ca = Path(tls.client_ca).read_bytes() if tls.client_ca else None
        credentials = grpc.ssl_server_credentials(
            [(Path(tls.key).read_bytes(), Path(tls.cert).read_bytes())],
            root_certificates=client_ca,
            require_client_auth=client_ca is not None,
        )
        return server.add_secure_port(address, credentials)

    async def _metrics(self, accept: str) -> tuple[str, bytes]:
        """(content type, text) of the metrics of all engines of the address."""
        assert self._passing is not None
        content_type, own = self._engine.render_metrics(accept)
        return content_type, await self._passing.metrics(accept, own.decode())

    def _identify(self, context: Any) -> Identity:
        """The identity behind a call: bearer token in its metadata, or client certificate, or what a peer says."""
        if self._trust is not None:
            identity = self._trust.identity(context.invocation_metadata())
            if identity is not None:
                return identity
        return self._authenticator.authenticate_metadata(context.invocation_metadata(), context.auth_context())

    async def not_serving(self) -> None:
        """Health checks answer NOT_SERVING from now on, so that load balancers look elsewhere."""
        await self._health.enter_graceful_shutdown()

    async def __aexit__(self, *exc: object) -> None:
        await self._health.enter_graceful_shutdown()
        if self._http is not None:
            await self._http.__aexit__(None, None, None)
        if self._server is not None:
            await self._server.stop(grace=0.5)
        if self._passing is not None:
            await self._passing.close()
        self._stopped.set()

    async def wait_stopped(self) -> None:
        """Returns once the server has been left."""
        await self._stopped.wait()
