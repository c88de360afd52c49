"""The services that the specification's programs use, on this machine: PostgreSQL, S3, and a search engine.

PostgreSQL is the real one, from the distribution's packages; S3 is moto's server; the search engine is
search_engine.py. Each is a context manager that gives the environment variables by which programs find it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg2

Environment = dict[str, str]

START_TIMEOUT = 30.0

# Anything goes with moto; boto3 insists on having some.
AWS_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "us-west-2"}

SENTIMENT_TABLE = """
    CREATE TABLE sentiment_analysis (
        id bigserial PRIMARY KEY,
        text_hash bigint NOT NULL,
        sentiment_label text NOT NULL,
        confidence double precision NOT NULL,
        text_length integer NOT NULL,
        analyzed_at timestamp NOT NULL
    )
"""


class ServiceMissing(Exception):
    """A service cannot run here. The message says what to install."""


def postgres_programs() -> Path:
    """The folder of PostgreSQL's own programs, of the newest version. Raises ServiceMissing."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name))
    if on_path:
        return Path(on_path).resolve().parent
    if not found:
        raise ServiceMissing("PostgreSQL is not installed; on Debian and Ubuntu: apt-get install postgresql")
    return found[-1].parent


@contextlib.contextmanager
def postgres() -> Iterator[Environment]:
    """A PostgreSQL server with the database, user and table that the sentiment program writes to.

    Raises ServiceMissing if it is not installed, or if this is root and there is no user `postgres` to run it as.
    """
    programs = postgres_programs()
    user = _postgres_user()
    with tempfile.TemporaryDirectory(prefix="amx-postgres-") as folder:
        data = Path(folder) / "data"
        if user is not None:
            shutil.chown(folder, user)
        password = secrets.token_hex(16)
        password_file = Path(folder) / "password"
        password_file.write_text(password)
        if user is not None:
            shutil.chown(password_file, user)
        initialise: list[str | Path] = [programs / "initdb", "--pgdata", data, "--pwfile", password_file]
        initialise += ["--username", "owner", "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync"]
        done = subprocess.run(initialise, user=user, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise ServiceMissing(f"PostgreSQL could not be set up: {done.stderr.strip()}")
        port = _free_port()
        # What the server would keep for a crash is of no use here: the folder goes with the server.
        settings = {"listen_addresses": "localhost", "port": port, "unix_socket_directories": folder, "fsync": "off"}
        command: list[object] = [programs / "postgres", "-D", data]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        owner = {"host": "localhost", "port": port, "user": "owner", "password": password}
        with _process(command, folder, folder, user) as running:
            _wait(running, lambda: _connect(owner))
            _prepare(owner)
            yield {"PGPORT": str(port)}


def _postgres_user() -> str | None:
    """The user to run PostgreSQL as, which refuses to be run by root; None: this one."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise ServiceMissing("PostgreSQL does not run as root, and there is no user 'postgres'") from None


def _connect(owner: dict[str, Any]) -> bool:
    try:
        psycopg2.connect(**owner, dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


def _prepare(owner: dict[str, Any]) -> None:
    with contextlib.closing(psycopg2.connect(**owner, dbname="postgres")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE USER amx_user PASSWORD 'secure_password'")
            cursor.execute("CREATE DATABASE analytics OWNER amx_user")
    as_user = {**owner, "user": "amx_user", "password": "secure_password"}
    analytics = contextlib.closing(psycopg2.connect(**as_user, dbname="analytics"))
    with analytics as connection, connection, connection.cursor() as cursor:
        cursor.execute(SENTIMENT_TABLE)


@contextlib.contextmanager
def s3() -> Iterator[Environment]:
    """An S3 server without buckets."""
    with _server("s3_server") as address:
        yield {**AWS_ENVIRONMENT, "AWS_ENDPOINT_URL": address}


@contextlib.contextmanager
def search_engine() -> Iterator[Environment]:
    """A search engine without indices."""
    with _server("search_engine") as address:
        yield {"ELASTICSEARCH_URL": address}


@contextlib.contextmanager
def _server(module: str) -> Iterator[str]:
    """A server of this folder as a process of its own; gives its address."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", f"examples.specification.{module}", "--port", "0"]
    with tempfile.TemporaryDirectory(prefix="amx-server-") as folder, _process(command, root, folder) as running:
        _wait(running, lambda: re.search(r" on port \d+\n", running.said()) is not None)
        port = re.search(r" on port (\d+)", running.said())
        assert port is not None
        yield f"http://127.0.0.1:{port[1]}"


class _Running:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def said(self) -> str:
        return self._log.read_text(errors="replace")


@contextlib.contextmanager
def _process(command: Sequence[object], cwd: str | Path, folder: str, user: str | None = None) -> Iterator[_Running]:
    """A process that is ended when left. What it says goes to a file in `folder`."""
    log = Path(folder) / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=cwd, user=user, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield _Running(process, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(running: _Running, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not ready():
        if running.process.poll() is not None or time.monotonic() > deadline:
            raise ServiceMissing(f"a service did not start; it said:\n{running.said()}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
