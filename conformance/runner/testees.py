"""The testees of testees.yaml: what they claim, what is known to fail, how they are built and started."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jsonschema

from conformance.runner.cases import ROOT, Case, chosen
from conformance.runner.loader import CorpusProblem, read_yaml

FILE = ROOT / "conformance" / "testees.yaml"

ENGINE = "engine"
"""The name by which cases of subject engine are run."""

_BUILD_SECONDS = 600.0
_COMMAND = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-z][a-z0-9_-]*$"},
    "additionalProperties": {
        "type": "object",
        "additionalProperties": False,
        "required": ["language"],
        "properties": {
            "language": {"type": "string"},
            "draft": {"type": "boolean"},
            "toolchain": _COMMAND,
            "build": {"type": "array", "items": _COMMAND},
            "start": _COMMAND,
            "train": _COMMAND,
            "features": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            "known": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["case", "because"],
                    "properties": {
                        "case": {"type": "string", "minLength": 1},
                        "because": {"type": "string", "minLength": 10},
                        "transport": {"enum": ["stdio", "grpc", "engine"]},
                    },
                },
            },
        },
    },
}


@dataclass(frozen=True, slots=True)
class Known:
    """Cases that are known to fail."""

    case: str
    """A pattern."""
    because: str
    transport: str = ""
    """Only there; empty: everywhere."""

    def covers(self, case: Case, transport: str) -> bool:
        """Whether it speaks of this case."""
        return chosen(case.id, [self.case]) and self.transport in ("", transport)


@dataclass(frozen=True, slots=True)
class Testee:
    """One testee, or the engine."""

    __test__: ClassVar[bool] = False  # its name is no test's

    name: str
    language: str
    start: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()
    known: tuple[Known, ...] = ()
    toolchain: tuple[str, ...] = ()
    build: tuple[tuple[str, ...], ...] = ()
    train: tuple[str, ...] = ()
    """Starts it for one run after building, of which its runtime records something for later ones; empty: none."""
    draft: bool = False
    """In the making: it runs when it is named, and is not in the matrix."""

    def missing(self, case: Case) -> list[str]:
        """Features that the case needs and the testee does not claim."""
        if self.name == ENGINE:
            return []
        return [feature for feature in case.features if feature not in self.features]

    def reason_to_fail(self, case: Case, transport: str) -> str:
        """Why the case is known to fail; empty if it is not."""
        return next((known.because for known in self.known if known.covers(case, transport)), "")

    def command(self, case: Case, *more: str) -> list[str]:
        """What starts it for a case."""
        found = [*self.start, *more]
        if case.agents:
            found += ["--agents", ",".join(case.agents)]
        if case.credit is not None:
            found += ["--credit", str(case.credit)]
        return found

    async def available(self) -> str:
        """Why it cannot be built and run here; empty if it can."""
        if not self.toolchain:
            return ""
        if shutil.which(self.toolchain[0]) is None:
            return f"there is no {self.toolchain[0]} here"
        code, output = await run(self.toolchain)
        return f"'{' '.join(self.toolchain)}' ended with {code}: {output[-200:].strip()}" if code else ""

    async def built(self) -> str:
        """Builds it. Returns what went wrong; empty if nothing did."""
        for command in self.build:
            code, output = await run(command)
            if code:
                return f"'{' '.join(command)}' ended with {code}:\n{output[-2000:].strip()}"
        if self.train:
            from conformance.runner.training import train

            return await train(self)
        return ""


async def run(command: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of a command in the repository's root."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
        )
    except OSError as error:
        return 127, str(error)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _BUILD_SECONDS)
    except TimeoutError:
        process.kill()
        return 124, f"not finished after {_BUILD_SECONDS:.0f} s"
    return process.returncode or 0, output.decode("utf-8", "replace")


def load(path: Path = FILE) -> dict[str, Testee]:
    """The testees by name, the engine among them. Raises CorpusProblem."""
    shown = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
    document = read_yaml(path, shown)
    problems = [
        f"{document.where(tuple(error.absolute_path))}: {error.message}"
        for error in jsonschema.Draft202012Validator(_SCHEMA).iter_errors(document.value)
    ]
    if problems:
        raise CorpusProblem(problems)
    found = {ENGINE: Testee(ENGINE, "Engine")}
    for name, data in dict(document.value or {}).items():
        if name != ENGINE and "start" not in data:
            raise CorpusProblem([f"{document.where((name,))}: needs 'start', the command that starts it"])
        known = tuple(Known(one["case"], one["because"], one.get("transport", "")) for one in data.get("known", ()))
        found[name] = Testee(
            name,
            data["language"],
            _filled(data.get("start", ())),
            frozenset(data.get("features", ())),
            known,
            _filled(data.get("toolchain", ())),
            tuple(_filled(command) for command in data.get("build", ())),
            _filled(data.get("train", ())),
            data.get("draft", False),
        )
    return found


def finished(known: Mapping[str, Testee]) -> list[Testee]:
    """Those that run unless others are named: all but drafts."""
    return [testee for testee in known.values() if not testee.draft]


def stale(testees: Iterable[Testee], cases: Sequence[Case]) -> list[str]:
    """Entries of known lists that speak of no case at all."""
    return [
        f"{testee.name}: the known list speaks of '{known.case}'"
        f"{f' on {known.transport}' if known.transport else ''}, and there is no such case"
        for testee in testees
        for known in testee.known
        if not any(
            known.covers(case, transport)
            for case in cases
            if (case.subject == "engine") == (testee.name == ENGINE)
            for transport in case.transports
        )
    ]


def _filled(command: Sequence[str]) -> tuple[str, ...]:
    return tuple(part.replace("{python}", sys.executable) for part in command)
