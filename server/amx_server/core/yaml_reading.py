"""YAML as the configuration is written in: plain values only, and no key twice."""

from __future__ import annotations

from typing import Any, TextIO

import yaml
from yaml import YAMLError

__all__ = ["YAMLError", "read"]


def read(source: str | TextIO) -> Any:
    """The document. Raises YAMLError."""
    return yaml.load(source, Loader=_Loader)  # noqa: S506 - a SafeLoader


class _Loader(yaml.SafeLoader):
    """YAML without silently overwritten keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key '{key.value}' appears twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)
