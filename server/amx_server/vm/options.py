"""What is measured: how many agents, with what, for how long."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

DEFAULT_MEMORY = 16_000_000_000
PROMPT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class VmOptions:
    """agents: instances. memory: bytes for content, all tiers together. seconds: to run after the start; 0: until told
    to stop. steps: that each agent makes, at most; 0: as many as it can in that time. prompt_bytes: size of the prompt
    that all agents share. latency_min, latency_max: seconds that the model takes. folder: where the engine stores.
    """

    agents: int = 1000
    memory: int = DEFAULT_MEMORY
    seconds: float = 0.0
    steps: int = 0
    prompt_bytes: int = PROMPT_BYTES
    latency_min: float = 1.0
    latency_max: float = 2.0
    folder: str = ""

    def __post_init__(self) -> None:
        if self.agents < 1:
            raise ValueError("agents: at least 1")
        if self.prompt_bytes < 1:
            raise ValueError("prompt_bytes: at least 1")
        if not 0 <= self.latency_min <= self.latency_max:
            raise ValueError("latency: needs 0 <= least <= most")

    def to_json(self) -> str:
        """For the command line of a process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        return cls(**json.loads(text))
