"""Restate: its server, a service written with the Python SDK, and a client on its HTTP ingress.

Annotations are evaluated here (no __future__ import): Restate reads them, and its names are local to a role.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks import child
from benchmarks.load import Figures, closed_loop, payloads
from benchmarks.processes import Child, Process, free_port
from benchmarks.systems import PEERS, RemoteClient, Running, System, peer_python, role_and_arguments, role_argv

SERVER = PEERS / "restate" / "node" / "node_modules" / ".bin" / "restate-server"
CONFIGURATION = """
roles = ["http-ingress", "admin", "worker", "log-server", "metadata-server"]
node-name = "bench"
base-dir = {directory}
listen-mode = "tcp"
bind-ip = "127.0.0.1"
bind-port = {node}
advertised-host = "127.0.0.1"
disable-telemetry = true
log-filter = "error"

[admin]
bind-address = "127.0.0.1:{admin}"
disable-web-ui = true

[ingress]
bind-address = "127.0.0.1:{ingress}"
"""


class Restate(System):
    """restate-server as it comes, one node, fsync on; one service process; one client process."""

    name = "restate"
    about = (
        "Restate durable request-reply over HTTP. Beyond ours it journals every step inside a handler and replays"
        " them after a crash, keeps results for a day to answer repeats, and is built to run on many nodes"
    )

    def missing(self) -> str:
        if not SERVER.exists():
            return "restate-server is not installed"
        return "" if peer_python(self.name).exists() else "restate-sdk is not installed"

    @contextlib.asynccontextmanager
    async def start(self, directory: Path) -> AsyncIterator[Running]:
        node, admin, ingress, service = (free_port() for _ in range(4))
        configuration = directory / "restate.toml"
        configuration.write_text(
            CONFIGURATION.format(directory=json.dumps(str(directory / "data")), node=node, admin=admin, ingress=ingress)
        )
        python = peer_python(self.name)
        argv = [str(SERVER), "--config-file", str(configuration), "--no-logo"]
        async with (
            Process("restate-server", argv, directory) as server,
            Child("service", role_argv(python, self.name, "service", service), directory) as endpoint,
            Child("client", role_argv(python, self.name, "client", admin, ingress, service), directory) as client,
        ):
            await endpoint.listening(service)
            await server.listening(admin)
            await server.listening(ingress)
            await client.ask("register")
            yield RemoteClient(client)


async def _service(port: str) -> None:
    import restate
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    service = restate.Service("Echo")
    raw = restate.serde.BytesSerde()

    @service.handler(input_serde=raw, output_serde=raw)
    async def echo(ctx: restate.Context, data: bytes) -> bytes:
        return data

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    stopped = asyncio.Event()
    serving = asyncio.create_task(serve(restate.app([service]), config, shutdown_trigger=stopped.wait))
    await child.obey({})
    stopped.set()
    await serving


async def _client(admin: str, ingress: str, service: str) -> None:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    session = aiohttp.ClientSession(connector=connector)

    async def register() -> None:
        body = {"uri": f"http://127.0.0.1:{service}", "force": True}
        async with session.post(f"http://127.0.0.1:{admin}/deployments", json=body) as answer:
            if answer.status >= 300:
                raise RuntimeError(f"Restate refused the service: {answer.status} {await answer.text()}")

    async def request(in_flight: int, warmup_s: float, seconds: float) -> Figures:
        data = payloads(in_flight)
        url = f"http://127.0.0.1:{ingress}/Echo/echo"
        headers = {"content-type": "application/json"}

        async def call(slot: int) -> None:
            async with session.post(url, data=data[slot], headers=headers) as answer:
                if await answer.read() != data[slot]:
                    raise RuntimeError(f"the reply is not the request: {answer.status} {await answer.text()}")

        return await closed_loop(call, in_flight=in_flight, warmup_s=warmup_s, seconds=seconds)

    async with session:
        await child.obey({"register": register, "request": request})


if __name__ == "__main__":
    role, arguments = role_and_arguments()
    child.run(lambda: _service(*arguments) if role == "service" else _client(*arguments))
