"""Builds the SDK's wheel: plain Python for every platform, or with AMX_COMPILE=1 its codec compiled for this one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).resolve().parent
COMPILE = os.environ.get("AMX_COMPILE") == "1"


class CompiledCodec(BuildHookInterface):  # type: ignore[type-arg]  # its configuration is of no interest
    """Puts the compiled amx.wire into the wheel."""

    def dependencies(self) -> list[str]:
        return ["mypy>=2,<3", "protobuf>=5.26.1,<8", "setuptools>=75,<90", "types-protobuf>=6.32,<8"] if COMPILE else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not COMPILE or version == "editable":
            return
        sys.path.insert(0, str(HERE))
        from compile_wire import BUILT, compile_wire, why_not

        if reason := why_not() or compile_wire():
            raise RuntimeError(f"AMX_COMPILE=1, but amx.wire cannot be compiled here: {reason}")
        build_data["force_include"].update({str(path): f"amx/{path.name}" for path in BUILT})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
