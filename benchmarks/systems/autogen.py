"""AutoGen: its gRPC runtime with host, worker and client in three processes.

Annotations are evaluated here (no __future__ import): AutoGen reads them, and its names are local to a role.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import child
from benchmarks.load import Figures, closed_loop, payloads
from benchmarks.processes import Child, free_port
from benchmarks.systems import RemoteClient, Running, System, peer_python, role_and_arguments, role_argv

AGENT = "echo"


@dataclass
class Echo:
    """What is sent, and sent back."""

    text: str


class AutoGen(System):
    """autogen-core with autogen-ext[grpc]."""

    name = "autogen"
    about = "AutoGen GrpcWorkerAgentRuntime: host, worker, client in three processes; nothing is stored"

    def missing(self) -> str:
        return "" if peer_python(self.name).exists() else "autogen-core and autogen-ext[grpc] are not installed"

    @contextlib.asynccontextmanager
    async def start(self, directory: Path) -> AsyncIterator[Running]:
        address, python = f"127.0.0.1:{free_port()}", peer_python(self.name)
        async with (
            Child("host", role_argv(python, self.name, "host", address), directory),
            Child("worker", role_argv(python, self.name, "worker", address), directory),
            Child("client", role_argv(python, self.name, "client", address), directory) as client,
        ):
            yield RemoteClient(client)


async def _host(address: str) -> None:
    from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntimeHost

    host = GrpcWorkerAgentRuntimeHost(address)
    host.start()
    await child.obey({})
    await host.stop(grace=0)


async def _runtime(address: str) -> Any:
    from autogen_core import try_get_known_serializers_for_type
    from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime

    runtime = GrpcWorkerAgentRuntime(address)
    runtime.add_message_serializer(try_get_known_serializers_for_type(Echo))
    await runtime.start()
    return runtime


async def _worker(address: str) -> None:
    from autogen_core import MessageContext, RoutedAgent, message_handler

    class EchoAgent(RoutedAgent):
        @message_handler
        async def echo(self, message: Echo, ctx: MessageContext) -> Echo:
            return message

    runtime = await _runtime(address)
    await EchoAgent.register(runtime, AGENT, lambda: EchoAgent("echoes"))
    await child.obey({})
    await runtime.stop()


async def _client(address: str) -> None:
    from autogen_core import AgentId

    runtime = await _runtime(address)

    async def request(in_flight: int, warmup_s: float, seconds: float) -> Figures:
        messages = [Echo(data.decode()) for data in payloads(in_flight)]
        agents = [AgentId(AGENT, str(slot)) for slot in range(in_flight)]

        async def call(slot: int) -> None:
            if await runtime.send_message(messages[slot], agents[slot]) != messages[slot]:
                raise RuntimeError("the reply is not the request")

        return await closed_loop(call, in_flight=in_flight, warmup_s=warmup_s, seconds=seconds)

    await child.obey({"request": request})
    await runtime.stop()


if __name__ == "__main__":
    role, arguments = role_and_arguments()
    child.run(lambda: {"host": _host, "worker": _worker, "client": _client}[role](*arguments))
