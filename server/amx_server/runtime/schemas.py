"""Checks that a text is a JSON Schema 2020-12 that stands alone: valid, bounded, and referring to nothing remote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

MAX_SCHEMA_CHARACTERS = 256 * 1024
MAX_SCHEMA_DEPTH = 100

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES = ("$ref", "$dynamicRef")
_BY_NAME = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")  # any name -> schema
_DATA = ("const", "enum", "default", "examples")  # their content is values, not schemas

Json = dict[str, "Json"] | list["Json"] | str | float | bool | None


@lru_cache(maxsize=4096)
def schema_problem(text: str) -> str | None:
    """What is wrong with the schema, in words; None: nothing."""
    if len(text) > MAX_SCHEMA_CHARACTERS:
        return f"it has {len(text)} characters, {MAX_SCHEMA_CHARACTERS} are allowed"
    try:
        schema: Json = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON: {error}"
    if not isinstance(schema, dict | bool):
        return "a schema is a JSON object, true or false"
    if _depth_exceeds(schema, MAX_SCHEMA_DEPTH):
        return f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels"
    if isinstance(schema, bool):
        return None
    dialect = schema.get("$schema", _DIALECT)
    if not isinstance(dialect, str) or dialect.rstrip("#") != _DIALECT:
        return f"its $schema is {dialect!r}; only {_DIALECT} is understood"
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"at {error.json_path}: {error.message[:200]}"
    except RecursionError:
        return "it is nested too deeply"
    return _reference_problem(schema)


def _reference_problem(schema: dict[str, Json]) -> str | None:
    nodes = list(_schemas(schema))
    anchors = {node.get(keyword) for node in nodes for keyword in ("$anchor", "$dynamicAnchor")}
    for node in nodes:
        for keyword in _REFERENCES:
            reference = node.get(keyword)
            if not isinstance(reference, str):
                continue
            if not reference.startswith("#"):
                return f"{keyword} '{reference}' leaves the schema; put what it refers to under $defs"
            target = reference[1:]
            if target not in anchors if target and target[0] != "/" else not _points_somewhere(schema, target):
                return f"{keyword} '{reference}' refers to nothing in the schema"
    return None


def _schemas(node: Json) -> Iterator[dict[str, Json]]:
    """Every object inside `node` that may be a schema."""
    if isinstance(node, dict):
        yield node
        for keyword, value in node.items():
            if keyword in _BY_NAME and isinstance(value, dict):
                for schema in value.values():
                    yield from _schemas(schema)
            elif keyword not in _DATA:
                yield from _schemas(value)
    elif isinstance(node, list):
        for value in node:
            yield from _schemas(value)


def _points_somewhere(node: Json, pointer: str) -> bool:
    for escaped in unquote(pointer).split("/")[1:]:
        part = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isascii() and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return False
    return True


def _depth_exceeds(node: Json, bound: int) -> bool:
    if bound < 0:
        return True
    if isinstance(node, dict):
        return any(_depth_exceeds(value, bound - 1) for value in node.values())
    return isinstance(node, list) and any(_depth_exceeds(value, bound - 1) for value in node)
