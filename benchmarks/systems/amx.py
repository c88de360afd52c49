"""AMX Engine as `amx serve` runs it: engine, worker and client in three processes, every guarantee at its default."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks import child, jvm
from benchmarks.load import Figures, closed_loop, payloads
from benchmarks.processes import ROOT, Absent, Child, Process, free_port
from benchmarks.rows import Load
from benchmarks.systems import Running, System, role_and_arguments, role_argv


class Amx(System):
    """The engine with SQLite in a temporary folder, a token for everyone, deadlines, credits and quotas in force."""

    name = "amx"
    about = (
        "AMX Engine over its duplex link; tokens checked, deadlines, credits and mailboxes in force, default"
        " configuration; one instance for each call in flight"
    )

    def missing(self) -> str:
        return ""

    @contextlib.asynccontextmanager
    async def start(self, directory: Path) -> AsyncIterator[Running]:
        port, token = free_port(), secrets.token_hex(16)
        address = f"127.0.0.1:{port}"
        configuration = directory / "amx-config.yaml"
        configuration.write_text(yaml.safe_dump(_configuration(port, token, directory)), encoding="utf-8")
        environment = {
            "AMX_TOKEN": token,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "server", ROOT / "sdk-python"))),
        }
        argv = [sys.executable, "-m", "amx_server.cli", "serve", "--config", str(configuration)]
        async with Process("engine", argv, directory, environment) as engine:
            await engine.listening(port)
            async with (
                Child("worker", role_argv(sys.executable, "amx", "worker", address), directory, environment) as worker,
                Child("client", role_argv(sys.executable, "amx", "client", address), directory, environment) as client,
            ):
                yield RunningAmx(worker, client, address, directory, environment)


def _configuration(port: int, token: str, directory: Path) -> dict[str, Any]:
    return {
        "grpc": {"port": port},
        "http": {"port": free_port()},
        "storage": {"path": str(directory / "amx.db")},
        "security": {
            "require_token": True,
            "tokens": [{"token": token, "subject": "benchmark", "roles": ["worker", "client"]}],
        },
        "logging": {"level": "warning"},
    }


class RunningAmx(Running):
    """A running engine with its worker and its client."""

    def __init__(
        self, worker: Child, client: Child, address: str, directory: Path, environment: dict[str, str]
    ) -> None:
        self._worker = worker
        self._client = client
        self._address = address
        self._directory = directory
        self._environment = environment

    async def measure(self, load: Load, *, warmup_s: float, seconds: float) -> Figures:
        if load.kind == "instances":
            argv = [sys.executable, "-m", "benchmarks.instances"]
            async with Child("instances", argv, self._directory, self._environment) as instances:
                count = int(load.in_flight * min(1.0, seconds / 3)) // 1000 * 1000  # fewer in a quick run
                figures: Figures = await instances.ask("measure", instances=count)
                return figures
        window = {"warmup_s": warmup_s, "seconds": seconds}
        if load.kind == "crash_loops":
            argv = [sys.executable, "-m", "benchmarks.crash_loops"]
            async with Child("crash_loops", argv, self._directory, self._environment) as neighbours:
                return dict(await neighbours.ask("measure", agents=load.in_flight, **window))
        if load.kind == "beside_flood":
            argv = [sys.executable, "-m", "benchmarks.beside_flood"]
            async with Child("beside_flood", argv, self._directory, self._environment) as agents:
                return dict(await agents.ask("measure", in_flight=load.in_flight, **window))
        if load.kind.startswith("io_"):
            argv = [sys.executable, "-m", "benchmarks.io_manager"]
            async with Child("io_manager", argv, self._directory, self._environment) as manager:
                figures = await manager.ask("measure", what=load.kind.removeprefix("io_"), **window)
                return dict(figures)
        if load.kind.startswith("content_"):
            argv = [sys.executable, "-m", "benchmarks.content_store"]
            async with Child("content_store", argv, self._directory, self._environment) as content:
                figures = await content.ask("measure", what=load.kind.removeprefix("content_"), **window)
                return dict(figures)
        if load.kind.startswith("vm_"):
            argv = [sys.executable, "-m", "benchmarks.agent_vm"]
            async with Child("agent_vm", argv, self._directory, self._environment) as machine:
                what = load.kind.removeprefix("vm_")
                return dict(await machine.ask("measure", what=what, agents=load.in_flight, **window))
        if load.kind == "engines":
            argv = [sys.executable, "-m", "benchmarks.engines"]
            async with Child("engines", argv, self._directory, self._environment) as engines:
                figures = await engines.ask("measure", **window)
                return dict(figures)
        if load.kind == "publish":
            return await self._publish(load, window)
        if load.kind == "typescript":
            return await self._typescript(load, window)
        if load.kind in ("java", "kotlin"):
            return await self._on_a_jvm(load, window)
        if load.kind in ("java_start", "kotlin_start"):
            language = load.kind.removesuffix("_start")
            return await jvm.start_of_hello(language, self._directory, self._environment, self._address)
        figures = await self._client.ask(load.kind, in_flight=load.in_flight, **window)
        return dict(figures)

    async def _typescript(self, load: Load, window: dict[str, float]) -> Figures:
        """Requests to an agent that a worker on Node hosts; the Python worker has nothing to do meanwhile."""
        node = shutil.which("node")
        if node is None:
            raise Absent("there is no node here")
        package = ROOT / "sdk-ts"
        if not (package / "dist" / "esm" / "index.js").is_file():
            raise Absent("the TypeScript SDK is not built; `make ts` does that")
        argv = [node, str(package / "benchmarks" / "worker.mjs")]
        async with Child("typescript", argv, self._directory, {**self._environment, "AMX_ADDRESS": self._address}):
            figures = await self._client.ask("typescript", in_flight=load.in_flight, **window)
            return dict(figures)

    async def _on_a_jvm(self, load: Load, window: dict[str, float]) -> Figures:
        """Requests to an agent that a worker on the JVM hosts; the Python worker has nothing to do meanwhile."""
        argv = jvm.command(load.kind, "Worker")
        window = {**window, "warmup_s": window["warmup_s"] + jvm.COMPILING * window["seconds"]}
        async with Child(load.kind, argv, self._directory, {**self._environment, "AMX_ADDRESS": self._address}):
            figures = await self._client.ask(load.kind, in_flight=load.in_flight, **window)
            return dict(figures)

    async def _publish(self, load: Load, window: dict[str, float]) -> Figures:
        """Events published by the client, deliveries counted in the worker while the client is past its warm-up."""
        await self._client.ask("subscribe", fan_out=load.fan_out)
        published, figures = await asyncio.gather(
            self._client.ask("publish", in_flight=load.in_flight, **window),
            self._worker.ask("count_deliveries", **window),
        )
        await self._client.ask("unsubscribe", fan_out=load.fan_out)
        return {"rate": figures["rate"], "p50_ms": published["p50_ms"], "p99_ms": published["p99_ms"]}


# --- the worker ------------------------------------------------------------------------------------------------------


async def _worker(address: str) -> None:
    from amx_engine import Agent, AmxEngine, Context, Message, handler, memory

    delivered = 0

    @Agent
    class Echo:
        @handler
        async def echo(self, message: Message) -> Message:
            return message

        @handler(durable=True)
        async def keep(self, message: Message) -> Message:
            return message

    @Agent
    class Counter:
        @memory(persistent=True)
        def totals(self) -> dict[str, int]:
            return {}

        @handler
        async def add(self, message: Message) -> Message:
            self.totals["total"] = self.totals.get("total", 0) + 1
            return message

    @Agent
    class Listener:
        @handler
        async def follow(self, topic: str, context: Context) -> None:
            context.subscribe(topic, "hear")

        @handler
        async def unfollow(self, topic: str, context: Context) -> None:
            context.unsubscribe(topic)

        @handler
        async def hear(self, message: Message) -> None:
            nonlocal delivered
            delivered += 1

    async def count_deliveries(warmup_s: float, seconds: float) -> Figures:
        await asyncio.sleep(warmup_s)
        first, started = delivered, time.perf_counter()
        await asyncio.sleep(seconds)
        return {"rate": (delivered - first) / (time.perf_counter() - started)}

    engine = (
        AmxEngine.builder()
        .with_address(address)
        .with_token(os.environ["AMX_TOKEN"])
        .with_agent(Echo)
        .with_agent(Counter)
        .with_agent(Listener)
        .build()
    )
    async with engine:
        await child.obey({"count_deliveries": count_deliveries})


# --- the client ------------------------------------------------------------------------------------------------------


async def _client(address: str) -> None:
    token = os.environ["AMX_TOKEN"]
    async with _link(address, token) as engine:
        loads = Loads(engine, address, token)
        await child.obey(
            {
                "request": loads.request,
                "clients": loads.clients,
                "typescript": loads.typescript,
                "java": loads.java,
                "kotlin": loads.kotlin,
                "durable_request": loads.durable_request,
                "send": loads.send,
                "memory": loads.memory,
                "subscribe": loads.subscribe,
                "unsubscribe": loads.unsubscribe,
                "publish": loads.publish,
                "unary": loads.unary,
            }
        )


def _link(address: str, token: str) -> Any:
    from amx_engine import AmxEngine

    return AmxEngine.builder().with_address(address).with_token(token).build()


class Loads:
    """The loads of a client that has one link; slot n talks to instance n."""

    def __init__(self, engine: Any, address: str, token: str) -> None:
        self._engine = engine
        self._address = address
        self._token = token
        self._topic = ""

    async def request(self, in_flight: int, warmup_s: float, seconds: float) -> Figures:
        """Volatile request-reply."""
        return await self._closed_loop("Echo", "echo", in_flight, warmup_s, seconds)

    async def typescript(self, in_flight: int, warmup_s: float, seconds: float) -> Figures:
        """Volatile request-reply with the worker on Node."""
        return await self._closed_loop("EchoTs", "echo", in_flight, warmup_s, seconds)

    async def java(self, in_flight: int, warmup_s: float, seconds: float) -> Figures:
        """Volatile request-reply with the worker in Java."""
        return await self._closed_loop("EchoJava", "echo", in_flight, warmup_s, seconds)

    async def kotlin(self, in_flight: int, warmup_s: float, seconds: float) -> Figures:
        """Volatile request-reply with the worker in Kotlin."""
        return await self._closed_loop("EchoKotlin", "echo", in_flight, warmup_s, seconds)

    async def durable_request(self, in_flight: int, warmup_s: float, seconds: float) -> Figures:
        """Request-reply, the message on disk before it is handled and the reply before it is seen."""
        return await self._closed_loop("Echo", "keep", in_flight, warmup_s, seconds)

    async def memory(self, in_flight: int, warmup_s: float, seconds: float) -> Figures:
        """Requests whose handler changes persistent memory: the change on disk before the reply is seen."""
        return await self._closed_loop("Counter", "add", in_flight, warmup_s, seconds)

    async def _closed_loop(self, agent: str, handler: str, in_flight: int, warmup_s: float, seconds: float) -> Figures:
        data = payloads(in_flight)
        keys = [str(slot) for slot in range(in_flight)]
        request_bytes = self._engine.request_bytes

        async def call(slot: int) -> None:
            reply = await request_bytes(agent, data[slot], key=keys[slot], handler=handler)
            if reply != data[slot]:
                raise RuntimeError("the reply is not the request")

        return await closed_loop(call, in_flight=in_flight, warmup_s=warmup_s, seconds=seconds)

    async def clients(self, in_flight: int, warmup_s: float, seconds: float) -> Figures:
        """As many links as calls, one call at a time on each."""
        async with contextlib.AsyncExitStack() as stack:
            links = [await stack.enter_async_context(_link(self._address, self._token)) for _ in range(in_flight)]
            data = payloads(in_flight)

            async def call(slot: int) -> None:
                if await links[slot].request_bytes("Echo", data[slot], key=str(slot), handler="echo") != data[slot]:
                    raise RuntimeError("the reply is not the request")

            return await closed_loop(call, in_flight=in_flight, warmup_s=warmup_s, seconds=seconds)

    async def send(self, in_flight: int, warmup_s: float, seconds: float) -> Figures:
        """Durable one-way messages, each acknowledged after it is on disk."""
        texts = [json.loads(data) for data in payloads(in_flight)]

        async def call(slot: int) -> None:
            await self._engine.send("Echo", texts[slot], key=str(slot), handler="keep")

        return await closed_loop(call, in_flight=in_flight, warmup_s=warmup_s, seconds=seconds)

    async def subscribe(self, fan_out: int) -> None:
        """Instances 0 .. fan_out - 1 follow the topic of that fan-out."""
        await self._listeners("follow", fan_out)

    async def unsubscribe(self, fan_out: int) -> None:
        """They stop following it."""
        await self._listeners("unfollow", fan_out)

    async def _listeners(self, handler: str, fan_out: int) -> None:
        topic = self._topic = f"benchmark.to-{fan_out}"
        requests: list[Awaitable[Any]] = [
            self._engine.request("Listener", topic, key=str(number), handler=handler) for number in range(fan_out)
        ]
        await asyncio.gather(*requests)

    async def publish(self, in_flight: int, warmup_s: float, seconds: float) -> Figures:
        """Events, as fast as the engine takes them; as many in flight as `in_flight`."""
        texts = [json.loads(data) for data in payloads(in_flight)]

        async def call(slot: int) -> None:
            await self._engine.publish(self._topic, texts[slot])

        return await closed_loop(call, in_flight=in_flight, warmup_s=warmup_s, seconds=seconds)

    async def unary(self, in_flight: int, warmup_s: float, seconds: float) -> Figures:
        """EngineService.Request without an SDK, on one channel."""
        import grpc

        from amx.v1 import engine_pb2

        data = payloads(in_flight)
        requests = []
        for slot in range(in_flight):
            request = engine_pb2.RequestRequest()
            request.message.agent, request.message.key, request.message.handler = "Echo", str(slot), "echo"
            request.message.payload.data = data[slot]
            requests.append(request)
        metadata = (("authorization", f"Bearer {self._token}"),)
        async with grpc.aio.insecure_channel(self._address) as channel:
            ask: Callable[..., Awaitable[Any]] = channel.unary_unary(
                "/amx.v1.EngineService/Request",
                request_serializer=engine_pb2.RequestRequest.SerializeToString,
                response_deserializer=engine_pb2.RequestResponse.FromString,
            )

            async def call(slot: int) -> None:
                response = await ask(requests[slot], metadata=metadata, timeout=30)
                if response.result.data != data[slot]:
                    raise RuntimeError("the reply is not the request")

            return await closed_loop(call, in_flight=in_flight, warmup_s=warmup_s, seconds=seconds)


if __name__ == "__main__":
    role, arguments = role_and_arguments()
    child.run(lambda: {"worker": _worker, "client": _client}[role](*arguments))
