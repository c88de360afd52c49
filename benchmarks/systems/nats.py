"""NATS: nats-server with core request-reply; requester and responder use nats-py."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from benchmarks import child
from benchmarks.load import Figures, closed_loop, payloads
from benchmarks.processes import Child, Process, free_port
from benchmarks.systems import PEERS, RemoteClient, Running, System, peer_python, role_and_arguments, role_argv

SUBJECT = "echo"


def server_binary() -> str | None:
    """Path of nats-server: the installed peer's, else whatever the machine has; None if there is none."""
    installed = PEERS / "nats" / "bin" / "nats-server"
    return str(installed) if installed.exists() else shutil.which("nats-server")


class Nats(System):
    """nats-server, one responder, one requester."""

    name = "nats"
    about = "nats-server core request-reply with nats-py: nothing is stored, no mailboxes, no deadlines in the server"

    def missing(self) -> str:
        if not peer_python(self.name).exists():
            return "nats-py is not installed"
        return "" if server_binary() else "nats-server is not installed"

    @contextlib.asynccontextmanager
    async def start(self, directory: Path) -> AsyncIterator[Running]:
        port, python, binary = free_port(), peer_python(self.name), server_binary()
        assert binary is not None
        argv = [binary, "--addr", "127.0.0.1", "--port", str(port)]
        async with Process("nats-server", argv, directory) as server:
            await server.listening(port)
            async with (
                Child("responder", role_argv(python, self.name, "responder", port), directory),
                Child("requester", role_argv(python, self.name, "requester", port), directory) as requester,
            ):
                yield RemoteClient(requester)


async def _connect(port: str) -> Any:
    import nats

    return await nats.connect(f"nats://127.0.0.1:{port}")


async def _responder(port: str) -> None:
    connection = await _connect(port)

    async def echo(message: Any) -> None:
        await message.respond(message.data)

    await connection.subscribe(SUBJECT, cb=echo)
    await connection.flush()
    await child.obey({})


async def _requester(port: str) -> None:
    connection = await _connect(port)

    async def request(in_flight: int, warmup_s: float, seconds: float) -> Figures:
        data = payloads(in_flight)

        async def call(slot: int) -> None:
            reply = await connection.request(SUBJECT, data[slot], timeout=30)
            if reply.data != data[slot]:
                raise RuntimeError("the reply is not the request")

        return await closed_loop(call, in_flight=in_flight, warmup_s=warmup_s, seconds=seconds)

    await child.obey({"request": request})


if __name__ == "__main__":
    role, arguments = role_and_arguments()
    child.run(lambda: {"responder": _responder, "requester": _requester}[role](*arguments))
