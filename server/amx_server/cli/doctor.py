"""`amx doctor`: can this machine run an engine, and can this command reach one? Changes nothing that stays."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
import zoneinfo
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amx_server.cli.command import Address, Json, Token
from amx_server.cli.exits import FAILED
from amx_server.cli.output import Output
from amx_server.core.errors import AmxError

if TYPE_CHECKING:
    from amx_server.core.config import EngineConfig

# What the engine cannot run without, and the oldest version it has been tried with.
_NEEDED = {
    "aiohappyeyeballs": "2.5",
    "aiohttp": "3.12",
    "apsw": "3.50",
    "cronsim": "2.6",
    "grpcio": "1.71.2",
    "httptools": "0.7",
    "msgspec": "0.19",
    "prometheus-client": "0.21",
    "protobuf": "5.26.1",
    "structlog": "24.4",
}
_OPTIONAL = {"uvloop": "a faster event loop", "watchfiles": "reload in 'amx dev'"}

# A commit waits for the disk; beyond this many milliseconds it is the disk that decides how fast the engine is.
_SLOW_FSYNC_MS = 20.0
_CLOCK_TOLERANCE_S = 5.0
_RELEASED = 1_790_000_000  # a second in September 2026


@dataclass(frozen=True)
class Finding:
    """What one check found. status: `ok`, `warning` (works, but) or `problem` (will not work)."""

    check: str
    status: str
    message: str


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("doctor")(doctor)


def doctor(
    config: Annotated[str | None, typer.Option("--config", "-c", help="Configuration to check.")] = None,
    address: Address = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Check this machine, the configuration, the store and the way to an engine. Exit code 1 if there is a problem."""
    findings = []
    output = Output(as_json)
    for finding in examine(config, address, token):
        findings.append(finding)
        if not as_json:
            mark = {"ok": "ok", "warning": "WARNING", "problem": "PROBLEM"}[finding.status]
            output.text(f"{mark:<8} {finding.check}: {finding.message}")
    if as_json:
        output.json([asdict(finding) for finding in findings])
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(FAILED)


def examine(config_path: str | None, address: str | None, token: str | None) -> Iterator[Finding]:
    """Every check, one after another."""
    from amx_server.core.config import ConfigError, load_config
    from amx_server.security.identity import Authenticator

    yield _python()
    yield from _packages()
    try:
        config = load_config(config_path, strict=True)
        Authenticator(config)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("configuration", "problem", problem)
        return
    yield Finding("configuration", "ok", config_path or "amx-config.yaml, or defaults where there is none")
    yield from _certificates(config)
    running = list(_engine(address, token))
    yield from _folder(config)
    yield from _store(config)
    yield from _clock(config)
    yield from _ports(config, engine_answers=running[0].status == "ok")
    yield from running


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version} at {sys.executable}")


def _packages() -> Iterator[Finding]:
    for name, oldest in _NEEDED.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, "problem", f"is not installed; pip install '{name}>={oldest}'")
            continue
        if _numbers(version) < _numbers(oldest):
            yield Finding(name, "problem", f"{version} is older than {oldest}; pip install '{name}>={oldest}'")
        else:
            yield Finding(name, "ok", version)
    for name, purpose in _OPTIONAL.items():
        try:
            yield Finding(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, "warning", f"is not installed; it brings {purpose}: pip install {name}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _certificates(config: EngineConfig) -> Iterator[Finding]:
    """Whether the files that TLS needs can be read; whether they fit together shows when the engine starts."""
    tls = config.grpc.tls
    if tls is None:
        if not config.local_only:
            message = (
                f"{config.grpc.host} is reachable from outside without TLS; set grpc.tls, or end TLS in front of it"
            )
            yield Finding("TLS", "warning", message)
        return
    for name, path in (("cert", tls.cert), ("key", tls.key), ("client_ca", tls.client_ca)):
        if path is None:
            continue
        try:
            with open(path, "rb") as file:
                found = b"-----BEGIN" in file.read()
        except OSError as error:
            yield Finding("TLS", "problem", f"grpc.tls.{name}: {path} cannot be read: {error.strerror}")
            continue
        if found:
            yield Finding("TLS", "ok", f"grpc.tls.{name}: {path}")
        else:
            yield Finding("TLS", "problem", f"grpc.tls.{name}: {path} is not a PEM file")


def _folder(config: EngineConfig) -> Iterator[Finding]:
    """Whether the store's folder, or the one it would be created in, can be written, and how fast."""
    folder = Path(config.storage.file).absolute().parent
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".amx-doctor-") as file:
            durations = []
            for _ in range(20):
                file.write(b"x" * 4096)
                file.flush()
                start = time.perf_counter()
                os.fsync(file.fileno())
                durations.append((time.perf_counter() - start) * 1000)
    except OSError as error:
        yield Finding(
            "data folder",
            "problem",
            f"{existing} cannot be written: {error.strerror}; give another with storage.path, or 'amx dev --data-dir'",
        )
        return
    yield Finding("data folder", "ok", f"{folder}{'' if folder.exists() else ' (will be created)'} can be written")
    median = sorted(durations)[len(durations) // 2]
    if median > _SLOW_FSYNC_MS:
        yield Finding("fsync", "warning", f"{median:.1f} ms: durable messages wait that long for this disk")
    else:
        yield Finding("fsync", "ok", f"{median:.2f} ms")


def _store(config: EngineConfig) -> Iterator[Finding]:
    """Whether the store, or that of each of several engines, is a database that is whole. Reads only."""
    from amx_server.cluster.shards import ShardedStore

    store = ShardedStore(config)
    try:
        engines = store.engines()
    except AmxError as error:
        yield Finding("store", "problem", error.message)
        return
    if not engines:
        yield from _database(Path(config.storage.file))
    for number in range(engines):
        yield from _database(Path(store.config(config, number, engines).storage.file))


def _database(path: Path) -> Iterator[Finding]:
    import apsw

    if not path.exists():
        yield Finding("store", "ok", f"{path} does not exist yet")
        return
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            tables = connection.execute("select count(*) from sqlite_master where type = 'table'").fetchone()
            answer = connection.execute("pragma quick_check(1)").fetchone()
        finally:
            connection.close()
    except apsw.Error as error:
        yield Finding("store", "problem", f"{path} cannot be opened: {error}; restore it from a backup or move it away")
        return
    if answer is None or answer[0] != "ok":
        yield Finding("store", "problem", f"{path} is damaged: {answer and answer[0]}; restore it from a backup")
    else:
        yield Finding("store", "ok", f"{path}, {path.stat().st_size} bytes, {tables[0] if tables else 0} tables, whole")


def _ports(config: EngineConfig, engine_answers: bool) -> Iterator[Finding]:
    """Whether the configured ports are free, unless it is an engine that has them."""
    wanted = [("gRPC port", config.grpc.host, config.grpc.port)]
    if config.http.enabled:
        wanted.append(("HTTP port", config.http.host, config.http.port))
    for check, host, port in wanted:
        problem = _cannot_bind(host, port)
        if problem is None:
            yield Finding(check, "ok", f"{host}:{port} is free")
        elif engine_answers:
            yield Finding(check, "ok", f"{host}:{port} is in use; an engine runs here")
        else:
            yield Finding(check, "problem", f"{host}:{port}: {problem}; choose another in the configuration")


def _cannot_bind(host: str, port: int) -> str | None:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _engine(address: str | None, token: str | None) -> Iterator[Finding]:
    """Whether an engine answers, and whether its clock agrees with this machine's."""
    from amx.v1 import engine_pb2
    from amx_server.cli.client import Client, UnreachableError

    try:
        with Client(address, token, timeout=5.0) as client:
            found = client.call(client.engine.GetEngine, engine_pb2.GetEngineRequest())
            yield Finding("engine", "ok", f"{found.version} answers at {client.address}")
    except UnreachableError as error:
        # Nobody has to run an engine while asking the doctor, unless they said where it is.
        yield Finding("engine", "problem" if address else "warning", str(error))
    except AmxError as error:
        yield Finding("engine", "problem", f"{error.message} [{error.reason}]")


def _clock(config: EngineConfig) -> Iterator[Finding]:
    """Whether the wall clock can be believed, and time zones be looked up: schedules need both."""
    now = time.time()
    path = Path(config.storage.file)
    last_write = path.stat().st_mtime if path.exists() else 0.0
    if now < _RELEASED:
        yield Finding("clock", "problem", "shows a moment before this version was made; set it, and keep it set by NTP")
    elif last_write > now + _CLOCK_TOLERANCE_S:
        ahead = round(last_write - now)
        yield Finding("clock", "warning", f"is {ahead} s behind the store's last write; schedules will wait for it")
    else:
        yield Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now)))
    try:
        zoneinfo.ZoneInfo("Europe/Berlin")
    except zoneinfo.ZoneInfoNotFoundError:
        yield Finding("time zones", "warning", "are not installed, so cron knows UTC only; pip install tzdata")
    else:
        yield Finding("time zones", "ok", "known")
