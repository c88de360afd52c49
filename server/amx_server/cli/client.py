"""The command line's connection to an engine: one synchronous gRPC channel with the engine's generated stubs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

# Before gRPC is imported: its own messages would mix with the command's output.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from amx.v1 import engine_pb2_grpc
from amx_server.api.status import answered_by_engine, error_of
from amx_server.core.errors import DEADLINE_EXCEEDED, INVALID_ARGUMENT, UNAUTHENTICATED, UNAVAILABLE, AmxError

if TYPE_CHECKING:
    from amx.v1.engine_pb2_grpc import EngineServiceStub

DEFAULT_ADDRESS = "127.0.0.1:9090"

_Page = TypeVar("_Page")


class UnreachableError(Exception):
    """No engine answered. The message says where, why, and what to do."""


class Client:
    """An engine at an address. A context manager; nothing is sent before the first call.

    address: `host:port`, `unix:/path`, or `https://host:port` for TLS. Certificates come from the environment: AMX_CA
        (authority to trust), AMX_CERT and AMX_KEY (client certificate), all paths of PEM files.
    token: bearer token; None: none is sent. timeout: seconds for one unary call; None: without end.
    """

    def __init__(self, address: str | None = None, token: str | None = None, timeout: float | None = 30.0) -> None:
        self.address = address or DEFAULT_ADDRESS
        self.timeout = timeout
        self._token = token
        self._channel = _channel(self.address)
        self.metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {token}"),) if token else ()
        self.engine: EngineServiceStub = engine_pb2_grpc.EngineServiceStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self._channel.close()

    def call(self, method: Callable[..., Any], request: object, *, timeout: float | None = -1) -> Any:
        """Calls a unary method of `engine`. timeout: seconds, None: without end; by default the client's.

        Raises UnreachableError, or AmxError with what the engine answered.
        """
        try:
            return method(request, timeout=self.timeout if timeout == -1 else timeout, metadata=self.metadata)
        except grpc.RpcError as error:
            raise self._meaning(error) from None

    def stream(self, method: Callable[..., Any], request: object, *, timeout: float | None = None) -> Iterator[Any]:
        """Calls a server-streaming method of `engine` and yields its responses. Leaving the loop cancels the call.

        Raises UnreachableError, or AmxError with what the engine answered.
        """
        responses = method(request, timeout=timeout, metadata=self.metadata)
        try:
            yield from responses
        except grpc.RpcError as error:
            raise self._meaning(error) from None
        finally:
            responses.cancel()

    def pages(self, method: Callable[..., Any], request: Any, field: str, limit: int) -> list[Any]:
        """Entries of `field` from as many pages as `limit` needs; limit 0: all of them."""
        entries: list[Any] = []
        while True:
            request.page_size = min(1000, limit - len(entries)) if limit else 1000
            response = self.call(method, request)
            entries.extend(getattr(response, field))
            request.page_token = response.next_page_token
            if not request.page_token or (limit and len(entries) >= limit):
                return entries

    def _meaning(self, error: grpc.RpcError) -> Exception:
        meaning = error_of(error)
        if answered_by_engine(error) or meaning.code not in (UNAVAILABLE, UNAUTHENTICATED, DEADLINE_EXCEEDED):
            return meaning
        if meaning.code == UNAVAILABLE:
            return UnreachableError(
                f"no engine answers at {self.address} ({_last_cause(meaning.message)});"
                " start one with 'amx dev', or name another with --address or AMX_ADDRESS"
            )
        if meaning.code == DEADLINE_EXCEEDED:
            meaning.message = f"no answer from {self.address} in time; give it longer with --timeout"
        return meaning


def _channel(address: str) -> grpc.Channel:
    # One request never exceeds what the engine allows by default; its own limit decides, and names itself.
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    parts = urlsplit(address) if "://" in address else None
    if parts is None:
        if not address.startswith("unix:") and not address.rpartition(":")[2].isdigit():
            raise AmxError(
                INVALID_ARGUMENT,
                "ADDRESS_INVALID",
                f"'{address}' names no port; write host:port (the engine's is 9090 unless configured), or unix:/path",
            )
        return grpc.insecure_channel(address, options=options)
    if parts.scheme in ("http", "grpc"):
        return grpc.insecure_channel(parts.netloc, options=options)
    if parts.scheme in ("https", "grpcs"):
        credentials = grpc.ssl_channel_credentials(
            root_certificates=_file("AMX_CA"), private_key=_file("AMX_KEY"), certificate_chain=_file("AMX_CERT")
        )
        return grpc.secure_channel(parts.netloc, credentials, options=options)
    raise AmxError(
        INVALID_ARGUMENT,
        "ADDRESS_INVALID",
        f"'{address}' is not an engine's address; write host:port, https://host:port or unix:/path",
    )


def _file(variable: str) -> bytes | None:
    path = os.environ.get(variable)
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        message = f"{variable} names {path}, which cannot be read: {error.strerror}"
        raise AmxError(INVALID_ARGUMENT, "CERTIFICATE_UNREADABLE", message) from None


def _last_cause(text: str) -> str:
    """gRPC wraps causes in causes; the innermost is the one that helps."""
    cause = text.rsplit(": ", 1)[-1]
    return (cause if "[" in cause else cause.rstrip("]")) or "unavailable"
