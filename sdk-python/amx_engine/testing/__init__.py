"""Ways to test agents: alone and without sockets, or with a real engine inside the test's process."""

from __future__ import annotations

from amx_engine.testing._engine import EmbeddedEngine
from amx_engine.testing._harness import AgentHarness, Outcome

__all__ = ["AgentHarness", "EmbeddedEngine", "Outcome"]
