"""Checks that a text is a JSON Schema 2020-12 that stands alone: well-formed, bounded, referring to nothing remote.

Values are not validated here. The check runs on the event loop for whatever a link sends, so it is one linear pass;
tests hold it against the library's check by meta-schema, which is a hundred times slower.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import unquote

MAX_SCHEMA_CHARACTERS = 256 * 1024
MAX_SCHEMA_DEPTH = 100

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_REMEMBERED = 4096

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


class _Problem(Exception):
    """What is wrong, and where."""


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_bool(value: Json) -> bool:
    return isinstance(value, bool)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and value == value // 1


def _is_positive(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_list(value: Json) -> bool:
    return isinstance(value, list)


def _is_name_list(value: Json) -> bool:
    if not isinstance(value, list):
        return False
    names = [name for name in value if isinstance(name, str)]
    return len(names) == len(value) == len(set(names))


def _is_type(value: Json) -> bool:
    if isinstance(value, str):
        return value in _TYPES
    return _is_name_list(value) and bool(value) and all(map(_is_type, value if isinstance(value, list) else ()))


def _is_dependency_map(value: Json) -> bool:
    return isinstance(value, dict) and all(map(_is_name_list, value.values()))


def _is_object(value: Json) -> bool:
    return isinstance(value, dict)


# Keywords whose value is a schema, an array of schemas, an object with a schema for any name, or something simple.
_SCHEMA = frozenset(("items", "contains", "additionalProperties", "unevaluatedItems", "unevaluatedProperties"))
_SCHEMA |= frozenset(("propertyNames", "if", "then", "else", "not", "contentSchema"))
_SCHEMA_LIST = frozenset(("prefixItems", "allOf", "anyOf", "oneOf"))
_SCHEMA_MAP = frozenset(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"))
_SIMPLE: dict[str, tuple[Callable[[Json], bool], str]] = {
    **dict.fromkeys(("title", "description", "$comment", "format", "pattern"), (_is_text, "a string")),
    **dict.fromkeys(("contentEncoding", "contentMediaType"), (_is_text, "a string")),
    **dict.fromkeys(("deprecated", "readOnly", "writeOnly", "uniqueItems"), (_is_bool, "true or false")),
    **dict.fromkeys(("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"), (_is_number, "a number")),
    **dict.fromkeys(("maxLength", "minLength", "maxItems", "minItems"), (_is_count, "a whole number from 0")),
    **dict.fromkeys(("maxProperties", "minProperties"), (_is_count, "a whole number from 0")),
    **dict.fromkeys(("maxContains", "minContains"), (_is_count, "a whole number from 0")),
    **dict.fromkeys(("enum", "examples"), (_is_list, "an array")),
    "multipleOf": (_is_positive, "a number greater than 0"),
    "type": (_is_type, f"one of {', '.join(_TYPES)}, or an array of different ones"),
    "required": (_is_name_list, "an array of different strings"),
    "dependentRequired": (_is_dependency_map, "an object of arrays of different strings"),
    "$vocabulary": (_is_object, "an object"),
}

_known: OrderedDict[bytes, str | None] = OrderedDict()  # answers by digest: processes come back with the same schemas


def schema_problem(text: str) -> str | None:
    """What is wrong with the schema, in words; None: nothing."""
    if len(text) > MAX_SCHEMA_CHARACTERS:
        return f"it has {len(text)} characters, {MAX_SCHEMA_CHARACTERS} are allowed"
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if digest in _known:
        _known.move_to_end(digest)
        return _known[digest]
    problem = _known[digest] = _check(text)
    if len(_known) > _REMEMBERED:
        _known.popitem(last=False)
    return problem


def _check(text: str) -> str | None:
    try:
        schema: Json = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON: {error}"
    try:
        walk = _Walk()
        walk.schema(schema, "$", 0)
        walk.check_references(schema)
    except _Problem as problem:
        return str(problem)
    return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


class _Walk:
    """One pass over a schema."""

    def __init__(self) -> None:
        self._references: list[tuple[str, str]] = []
        self._anchors: set[str] = set()

    def schema(self, node: Json, path: str, depth: int) -> None:
        if isinstance(node, bool):
            return
        if not isinstance(node, dict):
            raise _Problem(f"at {path}: a schema is a JSON object, true or false")
        if depth > MAX_SCHEMA_DEPTH:
            raise _Problem(f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels")
        for keyword, value in node.items():
            simple = _SIMPLE.get(keyword)
            if simple is not None:
                if not simple[0](value):
                    raise _Problem(f"at {path}.{keyword}: it must be {simple[1]}, not {json.dumps(value)[:60]}")
            elif keyword in _SCHEMA:
                self.schema(value, f"{path}.{keyword}", depth + 1)
            elif keyword in _SCHEMA_MAP:
                if not isinstance(value, dict):
                    raise _Problem(f"at {path}.{keyword}: it must be an object with schemas")
                for name, inner in value.items():
                    self.schema(inner, f"{path}.{keyword}.{name}", depth + 1)
            elif keyword in _SCHEMA_LIST:
                if not isinstance(value, list) or not value:
                    raise _Problem(f"at {path}.{keyword}: it must be an array with at least one schema")
                for index, inner in enumerate(value):
                    self.schema(inner, f"{path}.{keyword}[{index}]", depth + 1)
            elif keyword[:1] == "$":
                self._core(keyword, value, path)

    def _core(self, keyword: str, value: Json, path: str) -> None:
        if keyword not in ("$ref", "$dynamicRef", "$anchor", "$dynamicAnchor", "$schema", "$id"):
            return
        if not isinstance(value, str):
            raise _Problem(f"at {path}.{keyword}: it must be a string")
        if keyword in ("$ref", "$dynamicRef"):
            self._references.append((f"{path}.{keyword}", value))
        elif keyword in ("$anchor", "$dynamicAnchor"):
            self._anchors.add(value)
        elif keyword == "$schema" and value.rstrip("#") != _DIALECT:
            raise _Problem(f"at {path}.$schema: only {_DIALECT} is understood, not '{value[:80]}'")
        elif keyword == "$id" and path != "$":
            raise _Problem(f"at {path}.$id: only the whole schema may have one; put the part under $defs without it")

    def check_references(self, schema: Json) -> None:
        for path, reference in self._references:
            if not reference.startswith("#"):
                raise _Problem(f"at {path}: '{reference}' leaves the schema; put what it refers to under $defs")
            target = unquote(reference[1:])
            found = target in self._anchors if target and target[0] != "/" else _is_schema_at(schema, target)
            if not found:
                raise _Problem(f"at {path}: '{reference}' refers to nothing in the schema")


def _is_schema_at(node: Json, pointer: str) -> bool:
    for escaped in pointer.split("/")[1:]:
        part = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isascii() and part.isdigit() and len(part) < 10 and int(part) < len(node):
            node = node[int(part)]
        else:
            return False
    return isinstance(node, dict | bool)
