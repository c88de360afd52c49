"""Which process runs which engine: decided here, from what the processes report; carried out by whoever asks.

No processes, no clock and no I/O: reports and the time go in, orders come out. Every engine has a home process; when
that dies, a survivor runs the engine until the home is back and takes it over again.
"""

from __future__ import annotations

from dataclasses import dataclass

_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 30.0
_STEADY_SECONDS = 60.0  # a process that has lived so long is started again at once


@dataclass(frozen=True, slots=True)
class Start:
    """Start process `process`."""

    process: int


@dataclass(frozen=True, slots=True)
class Open:
    """Have process `process` run engine `engine`."""

    process: int
    engine: int


@dataclass(frozen=True, slots=True)
class Close:
    """Have process `process` stop engine `engine` politely."""

    process: int
    engine: int


Order = Start | Open | Close


class _Process:
    __slots__ = ("backoff", "started_at", "starts_at", "up")

    def __init__(self) -> None:
        self.up = False
        self.started_at = 0.0
        self.starts_at: float | None = 0.0  # None: it runs, or is on its way
        self.backoff = 0.0


class _Engine:
    __slots__ = ("backoff", "home", "opened", "process", "state", "waits_until")

    def __init__(self, home: int) -> None:
        self.home = home
        self.process: int | None = None
        self.state = "closed"  # closed, opening, open, closing
        self.opened = False  # it has been open
        self.waits_until = 0.0
        self.backoff = 0.0


class Membership:
    """The processes and engines of one address."""

    def __init__(self, engines: int, processes: int) -> None:
        self._processes = [_Process() for _ in range(processes)]
        self._engines = [_Engine(number % processes) for number in range(engines)]

    @property
    def complete(self) -> bool:
        """Whether every engine is open."""
        return all(engine.state == "open" for engine in self._engines)

    @property
    def begun(self) -> bool:
        """Whether every engine has been open since the start: what fails from now on is repaired."""
        return all(engine.opened for engine in self._engines)

    def engines_of(self, process: int) -> list[int]:
        """The engines that `process` has, or is about to have."""
        return [number for number, engine in enumerate(self._engines) if engine.process == process]

    def next_at(self) -> float | None:
        """When `decide` has something to do though nobody reports anything; None: never."""
        times = [process.starts_at for process in self._processes if process.starts_at is not None]
        times += [engine.waits_until for engine in self._engines if engine.process is None and engine.waits_until]
        return min(times, default=None)

    # --- reports -----------------------------------------------------------------------------------------------------

    def up(self, process: int) -> None:
        """A process has started and takes orders."""
        self._processes[process].up = True

    def died(self, process: int, now: float) -> None:
        """A process has ended, whatever the reason."""
        ended = self._processes[process]
        ended.up = False
        steady = now - ended.started_at >= _STEADY_SECONDS
        ended.backoff = _FIRST_BACKOFF if steady or not ended.backoff else min(_LONGEST_BACKOFF, 2 * ended.backoff)
        ended.starts_at = now + ended.backoff
        for engine in self._engines:
            if engine.process == process:
                if engine.state == "opening":  # it may have been the reason
                    self._hold_back(engine, now)
                engine.process = None
                engine.state = "closed"

    def opened(self, process: int, number: int) -> None:
        """An engine takes calls."""
        engine = self._engines[number]
        if engine.process == process:
            engine.state = "open"
            engine.opened = True
            engine.backoff = engine.waits_until = 0.0

    def closed(self, process: int, number: int) -> None:
        """An engine was stopped."""
        engine = self._engines[number]
        if engine.process == process:
            engine.process = None
            engine.state = "closed"

    def failed(self, process: int, number: int, now: float) -> None:
        """A process could not open an engine."""
        engine = self._engines[number]
        if engine.process == process:
            engine.process = None
            engine.state = "closed"
            self._hold_back(engine, now)

    @staticmethod
    def _hold_back(engine: _Engine, now: float) -> None:
        engine.backoff = min(_LONGEST_BACKOFF, 2 * engine.backoff) if engine.backoff else _FIRST_BACKOFF
        engine.waits_until = now + engine.backoff

    # --- decisions ---------------------------------------------------------------------------------------------------

    def decide(self, now: float) -> list[Order]:
        """What is to be done now. Orders that were given are taken as being carried out."""
        orders: list[Order] = []
        for number, process in enumerate(self._processes):
            if process.starts_at is not None and process.starts_at <= now:
                process.starts_at = None
                process.started_at = now
                orders.append(Start(number))
        for number, engine in enumerate(self._engines):
            home = self._processes[engine.home]
            if engine.process is None and engine.waits_until <= now:
                chosen = self._choose(engine)
                if chosen is not None:
                    engine.process = chosen
                    engine.state = "opening"
                    engine.waits_until = 0.0
                    orders.append(Open(chosen, number))
            elif engine.state == "open" and engine.process != engine.home and home.up:
                engine.state = "closing"
                assert engine.process is not None
                orders.append(Close(engine.process, number))
        return orders

    def _choose(self, engine: _Engine) -> int | None:
        home = self._processes[engine.home]
        if home.up:
            return engine.home
        if home.starts_at is None and not home.backoff:
            return None  # it is being started for the first time
        up = [number for number, process in enumerate(self._processes) if process.up]
        return min(up, key=lambda number: len(self.engines_of(number)), default=None)
