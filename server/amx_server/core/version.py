"""The version of the engine and of the link protocol it speaks. Nothing else; importing this costs nothing."""

from __future__ import annotations

VERSION = "0.1.0"

# Link protocol versions this engine speaks, lowest and highest.
PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
