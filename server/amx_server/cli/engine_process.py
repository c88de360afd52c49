"""One process of `amx serve --workers`: runs the engines that its parent tells it to, until it is told to stop.

Started by `workers` with a socket to it; ends with the parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import typer

from amx_server.cli.engine_setup import Setup
from amx_server.cli.exits import FAILED, OK
from amx_server.cli.parent import end_with_parent
from amx_server.cluster.shards import ShardedStore
from amx_server.cluster.trust import PeerTrust
from amx_server.core.collector import tuned_collector
from amx_server.core.errors import AmxError
from amx_server.telemetry.logs import get_logger

if TYPE_CHECKING:
    from amx_engine._definition import HostedAgent
    from amx_server.api.server import Server
    from amx_server.cli.modules import AgentModules
    from amx_server.runtime.engine import Engine


log = get_logger(__name__)


class EngineProcess:
    """The engines of this process, each with its own listener, and the listener at the public address."""

    def __init__(self, setup: Setup, say: Callable[[dict[str, Any]], None]) -> None:
        from amx_server.cli.hosting.loading import loaded

        self._setup = setup
        self._say = say
        self._modules: AgentModules | None = None
        self._agents: list[HostedAgent] = []
        if setup.load:
            self._modules, self._agents = loaded(setup.load)
        self._trust = PeerTrust(setup.secret)
        self._closing: dict[int, asyncio.Event] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._engines: dict[int, Engine] = {}
        self._door: Server | None = None
        self._door_engine = -1
        self._door_moves = asyncio.Lock()

    def open(self, number: int) -> None:
        """Begins to run engine `number`; says `opened` or `failed`, and `closed` in the end."""
        self._closing[number] = asyncio.Event()
        self._running[number] = asyncio.create_task(self._run(number, self._closing[number]))

    def close(self, number: int) -> None:
        """Begins to stop engine `number` politely."""
        closing = self._closing.get(number)
        if closing is not None:
            closing.set()

    async def stop(self) -> None:
        """Stops every engine politely; returns when they have ended."""
        for closing in self._closing.values():
            closing.set()
        if self._running:
            await asyncio.wait(list(self._running.values()))
        for agent in self._agents:
            await agent.close()

    def work_done(self) -> int:
        """A number that grows with every message and event."""
        return sum(engine.work_done() for engine in self._engines.values())

    async def _run(self, number: int, closing: asyncio.Event) -> None:
        try:
            async with AsyncExitStack() as stack:
                engine, server = await self._enter(number, stack)
                self._engines[number] = engine
                try:
                    await self._place_door()
                    self._say({"said": "opened", "engine": number})
                    await closing.wait()
                finally:
                    del self._engines[number]
                if self._engines:
                    await self._place_door()  # another engine takes over what comes in there
                await server.not_serving()
                await engine.drain(self._setup.config.shutdown_deadline)
                await self._place_door()
        except AmxError as error:
            self._say({"said": "failed", "engine": number, "reason": error.reason, "message": error.message})
        except Exception as error:  # whatever it is, the parent must know that nobody runs this engine
            log.exception("engine_failed", engine=number)
            message = f"{type(error).__name__}: {error}"
            self._say({"said": "failed", "engine": number, "reason": "INTERNAL", "message": message})
        else:
            self._say({"said": "closed", "engine": number})
        finally:
            del self._closing[number], self._running[number]

    async def _enter(self, number: int, stack: AsyncExitStack) -> tuple[Engine, Server]:
        from amx_server.api.server import Server
        from amx_server.cli.hosting.processes import default_count
        from amx_server.runtime.engine import Engine

        setup = self._setup
        config = ShardedStore(setup.config).config(setup.config, number, len(setup.sockets))
        listener = config.grpc.replace(port=setup.ports[number], unix_socket=setup.sockets[number])
        config = config.replace(grpc=listener, http=config.http.replace(enabled=False))
        wanted = config.scheduler.processes
        helpers = -(-(default_count() if wanted is None else wanted) // len(setup.sockets))
        config = config.replace(scheduler=config.scheduler.replace(processes=helpers))
        engine = await stack.enter_async_context(Engine(config, shard=setup.shard(number)))
        level = logging.WARNING if self._modules is None else logging.INFO
        stack.enter_context(engine.log.standard_logging(level))
        await self._host(engine, stack)
        # One process can listen at a path: whoever runs the first engine does so at the public one.
        public = setup.config.grpc.unix_socket
        sockets = [public] if public is not None and number == 0 else []
        listening = Server(engine, config, trust=self._trust, shared=True, sockets=sockets)
        return engine, await stack.enter_async_context(listening)

    async def _host(self, engine: Engine, stack: AsyncExitStack) -> None:
        """Hosts the agents of the modules that are to be loaded at an engine."""
        from amx_server.cli.hosting.agents import AgentHost
        from amx_server.security.identity import Identity
        from amx_server.security.permissions import ROLES

        modules = self._modules
        if modules is not None:
            identity = Identity("amx-serve", "default", ("worker",), ROLES["worker"])
            host = AgentHost(engine, modules, identity, self._setup.config.shutdown_deadline, alone=False)
            await (await stack.enter_async_context(host)).replace(self._agents)

    async def _place_door(self) -> None:
        """Listens at the public address with one of the engines, as long as there is one."""
        from amx_server.api.server import Server

        async with self._door_moves:
            if self._door_engine in self._engines:
                return
            old, self._door, self._door_engine = self._door, None, -1
            if self._engines:
                number = min(self._engines)
                config = self._setup.config
                config = config.replace(grpc=config.grpc.replace(unix_socket=None))
                door = Server(self._engines[number], config, trust=self._trust, shared=True)
                self._door = await door.__aenter__()
                self._door_engine = number
            if old is not None:
                await old.__aexit__(None, None, None)


async def _serve(setup: Setup, connection: socket.socket) -> int:
    from amx_server.cli.running import tune_grpc

    tune_grpc()
    # Imported before anything is asked for: an engine that comes here is away for as short as can be.
    import amx_server.api.server
    import amx_server.runtime.engine  # noqa: F401

    reader, writer = await asyncio.open_unix_connection(sock=connection)

    def say(what: dict[str, Any]) -> None:
        writer.write(json.dumps(what).encode() + b"\n")

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    process = EngineProcess(setup, say)
    async with tuned_collector(process.work_done):
        say({"said": "up"})
        listening = asyncio.create_task(_listen(reader, process))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((listening, stopped), return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        stopped.cancel()
        await process.stop()
        with contextlib.suppress(OSError):
            await writer.drain()
    return OK


async def _listen(reader: asyncio.StreamReader, process: EngineProcess) -> None:
    """Follows the parent's orders until it says stop; ends the process if the parent has gone."""
    while line := await reader.readline():
        order = json.loads(line)
        if order["do"] == "open":
            process.open(order["engine"])
        elif order["do"] == "close":
            process.close(order["engine"])
        else:
            return
    # Its address and its stores are for whoever starts it again; to stop politely would keep them from that.
    os._exit(FAILED)


def main() -> int:
    """Runs one process; its arguments are the descriptor of the parent's socket and the parent's process id."""
    end_with_parent(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the parent as well, which decides
    connection = socket.socket(fileno=int(sys.argv[1]))
    try:
        setup = Setup.receive(connection)
    except (EOFError, OSError):
        return FAILED
    connection.setblocking(False)
    from amx_server.cli.running import event_loops

    try:
        with asyncio.Runner(loop_factory=event_loops()) as runner:
            return runner.run(_serve(setup, connection))
    except typer.Exit as exit:
        return exit.exit_code


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # what a library still runs on a thread must not keep the process
