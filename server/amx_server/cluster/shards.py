"""What one of several engines knows of all of them: its number, how many there are, where each listens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from amx_engine._ownership import owner_of
from amx_server.core.config import LEAST_CACHE_BYTES, EngineConfig, QuotaConfig
from amx_server.core.errors import FAILED_PRECONDITION, INVALID_ARGUMENT, AmxError

MAX_ENGINES = 64
_MANIFEST = "engines.json"


@dataclass(frozen=True, slots=True)
class Shard:
    """The place of one engine among several.

    number: from 0. sockets: path of each engine's Unix socket, by number. ports: of each engine's TCP listener.
    public_sockets: whether SDKs may be told the sockets. secret: what engines know each other by.
    """

    number: int
    sockets: tuple[str, ...]
    ports: tuple[int, ...]
    public_sockets: bool
    secret: str

    @property
    def count(self) -> int:
        """How many engines there are."""
        return len(self.sockets)

    @property
    def others(self) -> list[int]:
        """The numbers of the other engines."""
        return [number for number in range(self.count) if number != self.number]

    def owner(self, namespace: str, agent: str, key: str) -> int:
        """The number of the engine that owns an instance."""
        return owner_of(namespace, agent, key, self.count)

    def owns(self, namespace: str, agent: str, key: str) -> bool:
        """Whether this engine owns an instance."""
        return owner_of(namespace, agent, key, self.count) == self.number

    def ids(self, first: int) -> Iterator[int]:
        """Numbers from `first` on that no other engine counts with."""
        return count(first + (self.number - first) % self.count, self.count)

    def endpoints(self, over_socket: bool) -> list[str]:
        """Where an SDK finds each engine: `unix:path` if it came over a Unix socket and may, else `:port` at the host
        by which it came.
        """
        if over_socket and self.public_sockets:
            return [f"unix:{path}" for path in self.sockets]
        return [f":{port}" for port in self.ports]


class ShardedStore:
    """The folder in which several engines store, each in a folder of its own. How many is fixed when it is made."""

    def __init__(self, config: EngineConfig) -> None:
        self._file = config.storage.file
        self.in_memory = self._file == ":memory:"
        self.folder = Path(self._file.removesuffix(".db") + "-engines" if self._file.endswith(".db") else self._file)

    def engines(self) -> int:
        """How many engines store there; 0: none has. Raises AmxError STORAGE_UNAVAILABLE for an unreadable folder."""
        if self.in_memory:
            return 0
        path = self.folder / _MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            engines = int(manifest["engines"])
            if not 1 <= engines <= MAX_ENGINES:
                raise ValueError(f"{engines} engines")
            return engines
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AmxError(
                FAILED_PRECONDITION,
                "STORAGE_UNAVAILABLE",
                f"{path} does not say how many engines store there ({error}); restore it from a backup",
            ) from None

    def claim(self, processes: int) -> int:
        """The number of engines for so many processes: that of the store, which is made if need be.

        Raises AmxError ENGINES_MISMATCH if the store has fewer engines than processes are wanted, or holds what one
        engine alone has stored.
        """
        engines = self.engines()
        if engines:
            if processes > engines:
                raise AmxError(
                    INVALID_ARGUMENT,
                    "ENGINES_MISMATCH",
                    f"{self.folder} was made for {engines} engines and {processes} processes were asked for; start at"
                    f" most {engines} with --workers, or give a new storage.path",
                )
            return engines
        if self.in_memory:
            return processes
        if Path(self._file).is_file():
            raise AmxError(
                INVALID_ARGUMENT,
                "ENGINES_MISMATCH",
                f"{self._file} holds the store of a single engine; start without --workers, or give a new storage.path",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _MANIFEST
        path.with_suffix(".new").write_text(json.dumps({"format": 1, "engines": processes}) + "\n", encoding="utf-8")
        path.with_suffix(".new").replace(path)
        return processes

    def config(self, config: EngineConfig, number: int, engines: int) -> EngineConfig:
        """The configuration of one engine: its own file, and its part of what is allowed to all together."""
        storage = config.storage
        if not self.in_memory:
            folder = self.folder / f"engine-{number}"
            storage = storage.replace(path=str(folder / "amx.db"))
        storage = storage.replace(cache_bytes=max(LEAST_CACHE_BYTES, storage.cache_bytes // engines))
        quotas = config.quotas.replace(
            default=_part(config.quotas.default, engines),
            namespaces={name: _part(quota, engines) for name, quota in config.quotas.namespaces.items()},
        )
        owned = config.memory
        memory = owned.replace(
            budget=max(1 << 20, owned.budget // engines),
            disk_bytes=_share(owned.disk_bytes, engines),
            namespace_quota=_share(owned.namespace_quota, engines),
            agent_quota=_share(owned.agent_quota, engines),
            quotas={owner: _share(size, engines) for owner, size in owned.quotas.items()},
        )
        return config.replace(storage=storage, quotas=quotas, memory=memory)


def _part(quota: QuotaConfig, engines: int) -> QuotaConfig:
    """What one of `engines` may use of a quota; unlimited stays so."""
    return quota.replace(
        messages_per_second=quota.messages_per_second / engines,
        burst=_share(quota.burst, engines),
        mailbox_messages=_share(quota.mailbox_messages, engines),
        stored_bytes=_share(quota.stored_bytes, engines),
    )


def _share(whole: int, engines: int) -> int:
    """One engine's part, rounded up, so that 0 (no limit) and only that stays 0."""
    return -(-whole // engines)
