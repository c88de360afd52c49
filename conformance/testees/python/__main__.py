"""Hosts the fixtures in Python: at an engine, or for a runner at standard input and output."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from conformance.testees.python.names import use_prefix

NAMES = (
    "Echo",
    "Counter",
    "Failing",
    "Slow",
    "Stream",
    "Blocking",
    "Scheduled",
    "Router",
    "Monitor",
    "Listener",
    "Overseer",
    "Interpreter",
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.testees.python", description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--stdio", action="store_true", help="speak JSON lines at standard input and output")
    mode.add_argument("--connect", metavar="HOST:PORT", help="host the fixtures at an engine until SIGTERM")
    parser.add_argument("--prefix", default="", help="put before every agent's name")
    parser.add_argument("--agents", default=",".join(NAMES), help="host only these, e.g. Echo,Counter")
    parser.add_argument("--credit", type=int, default=64, help="invocations taken at a time (64)")
    return parser.parse_args()


def hosted(names: str) -> list[type]:
    """The classes of these fixtures. Ends the process for a name that is none."""
    from conformance.testees.python import fixtures, interpreter

    unknown = set(names.split(",")) - set(NAMES)
    if unknown:
        sys.exit(f"no fixture is called {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    return [interpreter.Interpreter if name == "Interpreter" else getattr(fixtures, name) for name in names.split(",")]


def main() -> None:
    given = arguments()
    logging.basicConfig(stream=sys.stderr, level=os.environ.get("AMX_TESTEE_LOG", "WARNING").upper())
    use_prefix(given.prefix)
    agents = hosted(given.agents)
    if given.stdio:
        from conformance.testees.python.lines import serve_lines

        serve_lines(agents, given.credit)
        return
    from amx_engine import AmxEngine, run

    builder = AmxEngine.builder().with_address(given.connect).with_concurrency(given.credit)
    for agent in agents:
        builder.with_agent(agent)
    run(builder.build().run_forever())


if __name__ == "__main__":
    main()
