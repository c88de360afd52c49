"""A pipeline and two agents that take stock of the world's airports, one message for each row of a file.

AirportIntake cleans a row, Country counts the airports of one country, Extremes remembers the unusual ones.
`python -m examples.airports` is the worker that hosts them; examples/demo.py gives it something to do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from amx_engine import Agent, AmxEngine, Context, Pipeline, PipelineContext, handler, memory, run, stage

HIGH_FT = 10_000
LOW_FT = 0


@dataclass(frozen=True)
class Airport:
    """An airport with an IATA code."""

    code: str
    name: str
    country: str
    elevation_ft: int
    zone: str


@dataclass(frozen=True)
class CountrySummary:
    """What one country's agent has counted."""

    airports: int
    elevation_sum_ft: int
    highest: str
    zones: list[str]


@Pipeline(name="AirportIntake")
class AirportIntake:
    """Reads one row of the file, and passes airports that airlines fly to on to their country."""

    tally: dict[str, int] = memory(persistent=True, default_factory=dict)

    @stage(order=1)
    async def parse(self, context: PipelineContext) -> Airport:
        row = context.input
        return Airport(
            code=row["iata"].strip().upper(),
            name=row["name"].strip(),
            country=row["country"].strip(),
            elevation_ft=round(float(row["elevation"] or 0)),
            zone=row["tz"].strip(),
        )

    @stage(order=2)
    async def check(self, context: PipelineContext) -> Airport | None:
        airport: Airport = context.previous_result
        return airport if airport.code and airport.name else None

    @stage(order=3)
    async def pass_on(self, context: PipelineContext) -> str:
        airport: Airport | None = context.previous_result
        outcome = "skipped" if airport is None else "passed_on"
        self.tally[outcome] = self.tally.get(outcome, 0) + 1
        if airport is not None:
            context.emit("Country", asdict(airport), key=airport.country)
        return outcome


@Agent(name="Country")
class Country:
    """Counts the airports of one country; its key is the country's code."""

    totals: dict[str, int] = memory(persistent=True, default_factory=dict)
    zones: set[str] = memory(persistent=True, default_factory=set)
    highest: str = memory(persistent=True, default="")

    @handler(default=True)
    async def add(self, airport: Airport, context: Context) -> None:
        self.totals["airports"] = self.totals.get("airports", 0) + 1
        self.totals["elevation_sum_ft"] = self.totals.get("elevation_sum_ft", 0) + airport.elevation_ft
        self.zones.add(airport.zone)
        if not self.highest or airport.elevation_ft > self.totals["highest_ft"]:
            self.totals["highest_ft"] = airport.elevation_ft
            self.highest = airport.code
        elif airport.elevation_ft == self.totals["highest_ft"]:
            self.highest = min(self.highest, airport.code)
        if airport.elevation_ft >= HIGH_FT or airport.elevation_ft < LOW_FT:
            context.emit("Extremes", asdict(airport))

    @handler
    async def summary(self) -> CountrySummary:
        return CountrySummary(
            self.totals.get("airports", 0), self.totals.get("elevation_sum_ft", 0), self.highest, sorted(self.zones)
        )


@Agent(name="Extremes")
class Extremes:
    """Remembers airports that lie very high, or below the sea; and how often it was told of each."""

    elevations: dict[str, int] = memory(persistent=True, default_factory=dict)
    times_told: dict[str, int] = memory(persistent=True, default_factory=dict)

    @handler(default=True)
    async def note(self, airport: Airport) -> None:
        self.elevations[airport.code] = airport.elevation_ft
        self.times_told[airport.code] = self.times_told.get(airport.code, 0) + 1

    @handler
    async def report(self) -> dict[str, list[int]]:
        """Elevation in feet and number of times told, by IATA code."""
        return {code: [feet, self.times_told[code]] for code, feet in self.elevations.items()}


async def main() -> None:
    engine = AmxEngine.builder().with_agent(AirportIntake).with_agent(Country).with_agent(Extremes).build()
    await engine.start()
    print("worker: hosting AirportIntake, Country and Extremes", flush=True)
    await engine.run_forever()


if __name__ == "__main__":
    run(main())
