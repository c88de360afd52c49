"""Who may reach an engine process, and how: tokens, permissions, TLS, client certificates, Unix sockets."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from amx.v1 import engine_pb2, engine_pb2_grpc
from amx_engine import AmxError
from tests.process.agents import Echo
from tests.process.harness import client, engine_process, json_payload, unary, worker_process

pytestmark = pytest.mark.process

TOKENS = (
    "security.roles={opener: ['vault:open', 'messages:send']}",
    (
        "security.tokens=["
        "{token: host, subject: host, roles: [worker]}, {token: alice, subject: alice, roles: [opener]},"
        " {token: bob, subject: bob, roles: [client]},"
        " {token: eve, subject: eve, namespace: elsewhere, roles: [client]}]"
    ),
)


async def test_token_decides_what_a_link_may_do_and_which_namespace_it_sees(tmp_path: Path) -> None:
    with (
        engine_process(tmp_path, *TOKENS) as engine,
        worker_process(tmp_path, engine.address, "Echo", AMX_TOKEN="host"),
    ):
        async with client(engine.address, token="alice") as alice:
            assert await alice.request("Echo", handler="open_vault") == "open"
        async with client(engine.address, token="bob") as bob:
            assert await bob.request("Echo", 1) == 1
            with pytest.raises(AmxError) as caught:
                await bob.request("Echo", handler="open_vault")
            assert caught.value.reason == "PERMISSION_DENIED"
            assert "vault:open" in caught.value.message
        async with client(engine.address, token="eve") as eve:
            with pytest.raises(AmxError) as caught:
                await eve.request("Echo", 1)
            assert caught.value.reason == "AGENT_UNKNOWN"
        with pytest.raises(AmxError) as caught:
            await client(engine.address, Echo, token="bob").start()
        assert caught.value.reason == "PERMISSION_DENIED"
        assert "agents:register" in caught.value.message
        for token in ("", "mallory"):
            with pytest.raises(AmxError) as caught:
                await client(engine.address, token=token).start()
            assert caught.value.reason == "UNAUTHENTICATED"
        async with unary(engine.address) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.ListAgents(engine_pb2.ListAgentsRequest())
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            viewed = await stub.Request(
                engine_pb2.RequestRequest(message={"agent": "Echo", "payload": json_payload(2)}),
                metadata=(("authorization", "Bearer bob"),),
            )
            assert viewed.result.data == b"2"
        assert "mallory" not in engine.output


async def test_memory_is_collected_by_its_managers_and_forked_by_its_writers(tmp_path: Path) -> None:
    roles = "security.roles={keeper: ['memory:*', 'agents:read'], reader: ['memory:read']}"
    tokens = (
        "security.tokens=[{token: keeper, subject: keeper, roles: [keeper]}, {token: host, subject: host,"
        " roles: [worker]}, {token: reader, subject: reader, roles: [reader]}]"
    )
    with engine_process(tmp_path, roles, tokens) as engine:
        async with unary(engine.address) as stub:

            async def code(call: Any, token: str) -> str:
                answer = call(metadata=(("authorization", f"Bearer {token}"),))
                try:
                    if hasattr(answer, "__aiter__"):
                        async for _ in answer:
                            pass
                    else:
                        await answer
                except grpc.aio.AioRpcError as error:
                    return error.code().name
                return "OK"

            fork = partial(stub.ForkInstance, engine_pb2.ForkInstanceRequest())
            assert [await code(fork, token) for token in ("keeper", "host", "reader")] == [
                "NOT_FOUND",  # it may; there is no such agent
                "NOT_FOUND",
                "PERMISSION_DENIED",
            ]
            for whole in (
                partial(stub.CollectMemory, engine_pb2.CollectMemoryRequest()),
                partial(stub.VerifyMemory, engine_pb2.VerifyMemoryRequest()),
            ):
                assert [await code(whole, token) for token in ("keeper", "host", "reader")] == [
                    "OK",
                    "PERMISSION_DENIED",
                    "PERMISSION_DENIED",
                ]
            assert await code(partial(stub.GetMemoryStats, engine_pb2.GetMemoryStatsRequest()), "reader") == "OK"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and certificates it signed for the engine and for a worker named `rita`."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "2")
    for name, subject in (("engine", "/CN=localhost"), ("rita", "/CN=rita")):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        (folder / f"{name}.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext"),
        )
    return folder


async def test_tls_link_works_for_whoever_trusts_the_authority(tmp_path: Path, certificates: Path) -> None:
    tls = f"grpc.tls={{cert: {certificates / 'engine.pem'}, key: {certificates / 'engine.key'}}}"
    with engine_process(tmp_path, tls) as engine:
        async with (
            client(engine.address, Echo, ca=certificates / "ca.pem") as application,
            grpc.aio.secure_channel(
                engine.address, grpc.ssl_channel_credentials((certificates / "ca.pem").read_bytes())
            ) as channel,
        ):
            assert await application.request("Echo", "secret") == "secret"
            stub = engine_pb2_grpc.EngineServiceStub(channel)
            assert (await stub.GetEngine(engine_pb2.GetEngineRequest())).links == 1
        for stranger in (client(engine.address), client(engine.address, ca=certificates / "rita.pem")):
            with pytest.raises(AmxError) as caught:
                await stranger.start(patience=0)
            assert caught.value.reason == "ENGINE_UNREACHABLE"


async def test_client_certificates_are_asked_for_where_an_authority_is_configured(
    tmp_path: Path, certificates: Path
) -> None:
    ca, cert, key = (certificates / name for name in ("ca.pem", "engine.pem", "engine.key"))
    with engine_process(tmp_path, f"grpc.tls={{cert: {cert}, key: {key}, client_ca: {ca}}}") as engine:
        known = client(engine.address, Echo, ca=ca, cert=certificates / "rita.pem", key=certificates / "rita.key")
        async with known as application:
            assert await application.request("Echo", 1) == 1
        with pytest.raises(AmxError) as caught:
            await client(engine.address, ca=ca).start(patience=0)
        assert caught.value.reason == "ENGINE_UNREACHABLE"


async def test_unix_socket_carries_links_and_unary_calls(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'amx.sock'}"
    with engine_process(tmp_path, f"grpc.unix_socket={tmp_path / 'amx.sock'}"):
        async with client(address, Echo) as application, unary(address) as stub:
            assert await application.request("Echo", [1]) == [1]
            assert (await stub.GetEngine(engine_pb2.GetEngineRequest())).links == 1
