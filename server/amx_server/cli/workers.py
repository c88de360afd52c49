"""`amx serve --workers`: the parent of several engine processes behind one address. Runs no engine itself.

What is to be done is decided in `cluster.membership`; here processes are started, told, watched and stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any

from amx_server.cli.engine_setup import Setup
from amx_server.cli.exits import FAILED, INTERRUPTED, OK
from amx_server.cluster.membership import Close, Membership, Open, Order, Start
from amx_server.cluster.shards import ShardedStore
from amx_server.core.config import EngineConfig
from amx_server.core.errors import UNAVAILABLE, AmxError
from amx_server.runtime.scheduling.sensors import memory_limit
from amx_server.telemetry.logs import EngineLog, get_logger

log = get_logger(__name__)

# After the shutdown deadline what still runs is killed; this much later, so that it can say what was in its way.
_GRACE_S = 5.0


def run_workers(config: EngineConfig, processes: int, load: Sequence[str] = ()) -> int:
    """Runs `processes` engine processes until SIGTERM, SIGINT or a failure at the start; returns the exit code.
    load: modules whose agents each engine hosts.

    The first signal stops politely, as that of a single engine does; a second one ends everything at once.
    """
    try:
        store = ShardedStore(config)
        engines = store.claim(processes)
        with contextlib.ExitStack() as stack:
            setup = _setup(_part_of_memory(config, processes), engines, tuple(load), stack)
            return asyncio.run(_Parent(setup, engines, processes).run())
    except AmxError as error:
        print(f"amx: {error.message} [{error.reason}]", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"amx: {error}", file=sys.stderr)
        return FAILED


def _part_of_memory(config: EngineConfig, processes: int) -> EngineConfig:
    """The configuration with what one process may take of what the machine or the control group allows to all."""
    if config.admission.memory is not None:
        return config
    part = config.admission.replace(memory=memory_limit() // processes)
    return config.replace(admission=part)


def _setup(config: EngineConfig, engines: int, load: tuple[str, ...], stack: contextlib.ExitStack) -> Setup:
    """Addresses for everybody, held until `stack` is left."""
    grpc, http = config.grpc, config.http
    grpc = grpc.replace(port=stack.enter_context(_reserved(grpc.host, grpc.port, "grpc.port")))
    first = grpc.engine_ports
    if first is None:
        first = config.grpc.port + 1 if config.grpc.port else 0
    ports = tuple(
        stack.enter_context(_reserved(grpc.host, first + number if first else 0, "grpc.engine_ports"))
        for number in range(engines)
    )
    if http.enabled:
        http = http.replace(port=stack.enter_context(_reserved(http.host, http.port, "http.port")))
    if grpc.unix_socket is not None:
        sockets = tuple(f"{grpc.unix_socket}.{number}" for number in range(engines))
    else:
        folder = tempfile.mkdtemp(prefix="amx-engines-")  # nobody else may enter it
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        sockets = tuple(f"{folder}/{number}.sock" for number in range(engines))
    config = config.replace(grpc=grpc, http=http)
    return Setup(config, sockets, ports, secrets.token_hex(32), load)


@contextlib.contextmanager
def _reserved(host: str, port: int, setting: str) -> Iterator[int]:
    """A TCP port for processes that listen there together, held while they come and go; 0: any free one."""
    family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as holder:
        try:
            with socket.socket(family, kind, protocol) as alone:  # together only with our own
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
                port = alone.getsockname()[1]
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((address[0], port, *address[2:]))
        except OSError as error:
            raise AmxError(
                UNAVAILABLE,
                "ADDRESS_IN_USE",
                f"cannot listen on {host}:{port}: {error.strerror or error}; stop what uses it, or set {setting}",
            ) from None
        yield port


class _Child:
    """One engine process."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.process = process
        self.reader = reader
        self.writer = writer

    def tell(self, order: dict[str, Any]) -> None:
        """Gives an order; one that has died is not reached."""
        self.writer.write(json.dumps(order).encode() + b"\n")


class _Parent:
    """Starts processes and carries out what the membership decides."""

    def __init__(self, setup: Setup, engines: int, processes: int) -> None:
        self._setup = setup
        self._count = (engines, processes)
        self._membership = Membership(engines, processes)
        self._children: dict[int, _Child] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._failure = ""
        self._announced = False
        self._signals = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        with EngineLog(self._setup.config.logging).installed():
            while not self._signals and not self._failure:
                self._changed.clear()
                for order in self._membership.decide(monotonic()):
                    await self._carry_out(order)
                if not self._announced and self._membership.complete:
                    self._announced = True
                    print(self._description(), flush=True)
                due = self._membership.next_at()
                wait = None if due is None else max(0.0, due - monotonic())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait)
            return await self._stop()

    def _signalled(self) -> None:
        self._signals += 1
        self._changed.set()

    def _description(self) -> str:
        config, (engines, processes) = self._setup.config, self._count
        http = f", HTTP on {config.http.host}:{config.http.port}" if config.http.enabled else ""
        return (
            f"amx engine: gRPC on {config.grpc.host}:{config.grpc.port}{http}\n"
            f"{engines} engines in {processes} processes"
        )

    async def _carry_out(self, order: Order) -> None:
        if isinstance(order, Start):
            await self._start(order.process)
            return
        child = self._children.get(order.process)
        if child is None:
            return  # its end is being reported
        if isinstance(order, Open):
            log.info("engine_assigned", engine=order.engine, process=child.process.pid)
        assert isinstance(order, Open | Close)
        child.tell({"do": "open" if isinstance(order, Open) else "close", "engine": order.engine})

    async def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # what lies in the working directory must not shadow what the engine imports
                "-m",
                "amx_server.cli.engine_process",
                str(theirs.fileno()),
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        child = self._children[number] = _Child(process, reader, writer)
        writer.write(self._setup.to_bytes())
        watching = asyncio.create_task(self._watch(number, child))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)

    async def _watch(self, number: int, child: _Child) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await child.reader.readline():
                self._report(number, child, json.loads(line))
        code = await child.process.wait()
        child.writer.close()
        del self._children[number]
        self._membership.died(number, monotonic())
        if not self._signals and not self._failure:
            if self._membership.begun:
                log.error("engine_process_died", process=child.process.pid, exit_code=code)
            else:
                self._failure = f"an engine process ended with exit code {code} before all engines had started"
        self._changed.set()

    def _report(self, number: int, child: _Child, report: dict[str, Any]) -> None:
        membership, said, engine = self._membership, report["said"], report.get("engine", -1)
        if said == "up":
            membership.up(number)
        elif said == "opened":
            membership.opened(number, engine)
            log.info("engine_opened", engine=engine, process=child.process.pid)
        elif said == "closed":
            membership.closed(number, engine)
        elif said == "failed":
            membership.failed(number, engine, monotonic())
            if membership.begun:
                log.error("engine_not_opened", engine=engine, reason=report["reason"], error=report["message"])
            else:
                self._failure = f"engine {engine}: {report['message']} [{report['reason']}]"
        self._changed.set()

    async def _stop(self) -> int:
        children = list(self._children.values())
        for child in children:
            child.tell({"do": "stop"})
        waiting = [asyncio.create_task(child.process.wait()) for child in children]
        deadline = monotonic() + self._setup.config.shutdown_deadline + _GRACE_S
        code = FAILED if self._failure else OK
        while pending := [task for task in waiting if not task.done()]:
            self._changed.clear()
            hurry = asyncio.create_task(self._changed.wait())
            await asyncio.wait((*pending, hurry), timeout=deadline - monotonic(), return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            if self._signals > 1 or monotonic() >= deadline:
                code = code or (INTERRUPTED if self._signals > 1 else FAILED)
                for child in children:
                    with contextlib.suppress(ProcessLookupError):
                        child.process.kill()
                await asyncio.wait(waiting)
        if self._watching:
            await asyncio.wait(self._watching)
        if self._failure:
            print(f"amx: {self._failure}", file=sys.stderr)
        return code
