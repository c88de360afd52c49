"""An engine inside this process. The one place that knows of the engine's own package, and only when asked to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from amx_engine._errors import FAILED_PRECONDITION, AmxError
from amx_engine._transport import Connector, EmbeddedConnector

if TYPE_CHECKING:
    from amx_server.core.clock import Clock
    from amx_server.core.config import EngineConfig
    from amx_server.runtime.engine import Engine


class EmbeddedProcess:
    """Starts an engine when entered, stops it when left; entering gives the way to it.

    data_dir: where it stores (in amx.db); None: in memory only. clock: what it takes for the time; None: the system's.
    config: its settings; None: the defaults, and warnings in the log only. ticking: False: time passes only when
    `engine.tick()` is called. engine: the engine, while it runs.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
        *,
        config: EngineConfig | None = None,
        ticking: bool = True,
    ) -> None:
        self._data_dir = data_dir
        self._clock = clock
        self._config = config
        self._ticking = ticking
        self.engine: Engine | None = None
        self.monotonic: Callable[[], float] = time.monotonic if clock is None else clock.monotonic

    async def __aenter__(self) -> Connector:
        try:
            from amx_server.core.config import EngineConfig, LoggingConfig
            from amx_server.runtime.engine import Engine
            from amx_server.runtime.services import services
        except ImportError as error:
            raise AmxError(
                FAILED_PRECONDITION,
                "ENGINE_NOT_INSTALLED",
                f"an embedded engine needs the package amx-engine ({error}); `pip install amx-engine`, or connect to an"
                " engine elsewhere with with_address()",
            ) from error
        location = ":memory:" if self._data_dir is None else str(Path(self._data_dir) / "amx.db")
        config = self._config or EngineConfig(logging=LoggingConfig(level="warning"))
        storage = config.storage.replace(path=location)
        engine = Engine(config.replace(storage=storage), self._clock, ticking=self._ticking)
        await engine.__aenter__()
        self.engine = engine
        return EmbeddedConnector(engine.open_link, services=services(engine))

    async def __aexit__(self, *exc: object) -> None:
        engine, self.engine = self.engine, None
        if engine is not None:
            await engine.__aexit__(*exc)
