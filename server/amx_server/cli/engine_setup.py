"""What the parent of several engine processes tells each of them first."""

from __future__ import annotations

import pickle
import socket
from dataclasses import dataclass

from amx_server.cluster.shards import Shard
from amx_server.core.config import EngineConfig

_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Setup:
    """What a process is told first. Travels pickled, from a parent to the child that it has just started.

    sockets, ports: where each engine listens, by number. load: modules whose agents each engine hosts.
    """

    config: EngineConfig
    sockets: tuple[str, ...]
    ports: tuple[int, ...]
    secret: str
    load: tuple[str, ...]

    def shard(self, number: int) -> Shard:
        """The place of one engine."""
        public = self.config.grpc.unix_socket is not None
        return Shard(number, self.sockets, self.ports, public, self.secret)

    def to_bytes(self) -> bytes:
        """As it travels."""
        data = pickle.dumps(self)
        return len(data).to_bytes(_LENGTH_BYTES, "big") + data

    @staticmethod
    def receive(connection: socket.socket) -> Setup:
        """What the parent says first. Raises EOFError if it has gone."""
        size = int.from_bytes(_exactly(connection, _LENGTH_BYTES), "big")
        setup = pickle.loads(_exactly(connection, size))  # noqa: S301 - from the process that started this one
        assert isinstance(setup, Setup)
        return setup


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data
