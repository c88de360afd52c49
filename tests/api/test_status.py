"""Failures as gRPC statuses and back, over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from amx_server.api.status import abort, answered_by_engine, error_of
from amx_server.core.errors import NOT_FOUND, PERMISSION_DENIED, AmxError, denied, exhausted


def method(channel: Any, path: str) -> Any:
    return channel.unary_unary(path)


@pytest.fixture
async def address_and_error() -> AsyncIterator[tuple[str, list[AmxError]]]:
    raised: list[AmxError] = []

    async def handle(_: bytes, context: Any) -> bytes:
        if raised:
            await abort(context, raised[0])
        return b""

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("t", {"M": grpc.unary_unary_rpc_method_handler(handle)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}", raised
    await server.stop(None)


async def refusal(address: str, errors: list[AmxError], error: AmxError) -> grpc.aio.AioRpcError:
    errors.append(error)
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel, "/t/M")(b"")
    return caught.value


async def test_error_survives_the_wire(address_and_error: tuple[str, list[AmxError]]) -> None:
    sent = exhausted("MAILBOX_FULL", "the mailbox of a/b is full — wait a little", retry_delay_ms=1500, limit="10000")
    call = await refusal(*address_and_error, sent)
    assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert answered_by_engine(call)
    got = error_of(call)
    assert (got.code, got.reason, got.message) == (sent.code, sent.reason, sent.message)
    assert (got.retryable, got.retry_delay_ms, got.metadata) == (True, 1500, {"limit": "10000"})


async def test_error_survives_the_wire_to_a_synchronous_client(address_and_error: tuple[str, list[AmxError]]) -> None:
    address, errors = address_and_error
    errors.append(denied("agents:read", "Listing agents"))

    def ask() -> AmxError:
        with grpc.insecure_channel(address) as channel:
            try:
                method(channel, "/t/M")(b"")
            except grpc.RpcError as error:
                return error_of(error)
        raise AssertionError("not refused")

    got = await asyncio.to_thread(ask)
    assert (got.code, got.reason, got.retryable) == (PERMISSION_DENIED, "PERMISSION_DENIED", False)
    assert got.metadata == {"permission": "agents:read"}


async def test_long_texts_and_many_facts_still_arrive(address_and_error: tuple[str, list[AmxError]]) -> None:
    facts = {f"fact-{number}": "y" * 1000 for number in range(100)}
    call = await refusal(*address_and_error, AmxError(NOT_FOUND, "X", "ä" * 100_000, metadata=facts))
    got = error_of(call)
    assert (got.code, got.reason) == (NOT_FOUND, "X")
    assert got.message.endswith("…")
    assert 1 <= len(got.metadata) < 100


@pytest.mark.parametrize("code", [0, 99, -1])
async def test_code_that_is_none_becomes_unknown(address_and_error: tuple[str, list[AmxError]], code: int) -> None:
    call = await refusal(*address_and_error, AmxError(code, "ODD", "odd"))
    assert call.code() is grpc.StatusCode.UNKNOWN
    assert error_of(call).reason == "ODD"


async def test_status_of_somebody_else_has_the_codes_name_as_reason(
    address_and_error: tuple[str, list[AmxError]],
) -> None:
    address, _ = address_and_error
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel, "/t/Nothing")(b"")
    assert not answered_by_engine(caught.value)
    assert error_of(caught.value).reason == "UNIMPLEMENTED"


async def test_nobody_answering_is_retryable() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel, "/t/M")(b"")
    assert not answered_by_engine(caught.value)
    assert (error_of(caught.value).reason, error_of(caught.value).retryable) == ("UNAVAILABLE", True)
