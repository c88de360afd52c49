"""Ray: an asynchronous actor in a worker process, called by the driver."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from benchmarks import child
from benchmarks.load import Figures, closed_loop, payloads
from benchmarks.processes import Child
from benchmarks.systems import RemoteClient, Running, System, peer_python, role_and_arguments, role_argv

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_memory_monitor_refresh_ms": "0",
    # The switch for machines without clusters: the only one that keeps Ray on the loopback interface.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


class Ray(System):
    """A local Ray node."""

    name = "ray"
    about = "Ray async actor called by the driver: two processes, calls go directly to the actor; nothing is stored"

    def missing(self) -> str:
        return "" if peer_python(self.name).exists() else "ray is not installed"

    @contextlib.asynccontextmanager
    async def start(self, directory: Path) -> AsyncIterator[Running]:
        argv = role_argv(peer_python(self.name), self.name, "driver", directory)
        async with Child("driver", argv, directory, ENVIRONMENT) as driver:
            yield RemoteClient(driver)


async def _driver(directory: str) -> None:
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        configure_logging=False,
        object_store_memory=100_000_000,
        _temp_dir=directory,
    )

    async def echo(self: object, data: bytes) -> bytes:
        return data

    actor: Any = ray.remote(type("Echo", (), {"echo": echo})).options(max_concurrency=256).remote()

    async def request(in_flight: int, warmup_s: float, seconds: float) -> Figures:
        data = payloads(in_flight)

        async def call(slot: int) -> None:
            if await actor.echo.remote(data[slot]) != data[slot]:
                raise RuntimeError("the reply is not the request")

        return await closed_loop(call, in_flight=in_flight, warmup_s=warmup_s, seconds=seconds)

    try:
        await child.obey({"request": request})
    finally:
        ray.shutdown()


if __name__ == "__main__":
    role, arguments = role_and_arguments()
    child.run(lambda: {"driver": _driver}[role](*arguments))
