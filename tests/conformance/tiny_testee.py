"""A testee of the least size, for tests of the runner: `Echo` over standard input and output, with faults on demand.

Needs the standard library only. `--fault NAME` is one of: dies, garbage, deaf, remembers, impolite.
"""

from __future__ import annotations

import json
import sys
from typing import Any

FAULT = sys.argv[sys.argv.index("--fault") + 1] if "--fault" in sys.argv else ""


class Tiny:
    """One SDK, with one session after the other."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self.sessions = 0
        self.stopping = False

    def say(self, **line: Any) -> None:
        """One line to the runner."""
        print(json.dumps(line), flush=True)

    def frame(self, *items: dict[str, Any]) -> None:
        """One numbered frame."""
        self.sent += 1
        self.say(frame={"items": items, "seq": str(self.sent), "ack": str(self.received)})

    def take(self, line: dict[str, Any]) -> None:
        """One line from the runner."""
        if "open" in line:
            self.say(
                frame={"items": [{"hello": {"link_id": "tiny", "agents": [{"name": "Echo", "version": "1.0.0"}]}}]}
            )
        elif "frame" in line:
            self.received = int(line["frame"].get("seq", self.received))
            for item in line["frame"].get("items", ()):
                self.item(item)
        elif "closed" in line and self.stopping:
            self.say(stopped={})
            sys.exit(3 if FAULT == "impolite" else 0)
        elif "closed" in line:
            self.say(connect={})
        elif "advance_ms" in line:
            self.say(advanced=line["advance_ms"])
        elif "stop" in line:
            self.stopping = True
            self.frame({"drain": {}}, {"drained": {}})

    def item(self, item: dict[str, Any]) -> None:
        """One item from the scripted engine."""
        if "welcome" in item:
            self.sent = self.received = 0
            self.sessions += 1
        elif "ping" in item:
            self.frame({"pong": {"nonce": item["ping"].get("nonce", "0")}})
        elif "invoke" in item:
            if FAULT == "dies":
                print("something is very wrong", file=sys.stderr)
                sys.exit(7)
            if FAULT == "garbage":
                print("this is no JSON", flush=True)
            if FAULT != "deaf":
                self.complete(item)

    def complete(self, item: dict[str, Any]) -> None:
        """Says what it was told, or, with the fault, what only its first session says."""
        invoke = item["invoke"]
        payload = invoke["message"].get("payload", {})
        if FAULT == "remembers" and self.sessions > 1:
            payload = {}
        answer = {"attempt": invoke["attempt"], "epoch": invoke["epoch"], "result": payload}
        self.frame({"id": item["id"], "complete": answer})


def main() -> None:
    """The program."""
    tiny = Tiny()
    tiny.say(connect={})
    for line in sys.stdin:
        tiny.take(json.loads(line))


if __name__ == "__main__":
    main()
