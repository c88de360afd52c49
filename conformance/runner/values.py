"""What cases send: YAML values with `$json`, `$text`, `$ref`, `$repeat` and `$bytes`, as messages.

Needs the standard library and protobuf only.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from conformance.runner import json_text
from conformance.runner.messages import (
    BOOL,
    BYTES,
    CODES,
    ENUM,
    MESSAGE,
    REALS,
    STRING,
    Descriptor,
    FieldDescriptor,
    is_code,
    is_map,
    is_payload,
    is_repeated,
)

VALUES = frozenset({"$json", "$text", "$ref", "$repeat", "$bytes"})

# A repeated text is for limits that are exceeded, not for filling the memory of whoever runs the suite.
MAX_REPEATED = 64 << 20


class ValueProblem(Exception):
    """A case says what cannot be sent: `where` in the message, and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"at {where}: {why}" if where else why)
        self.where = where
        self.why = why


def special(value: Any) -> str:
    """The `$name` of a value such as `{$json: 1}`; empty for every other value."""
    if isinstance(value, Mapping) and value:
        key = next(iter(value))
        if isinstance(key, str) and key.startswith("$"):
            return key
    return ""


def build(descriptor: Descriptor, value: Any, bindings: Mapping[str, Any], where: str = "") -> Message:
    """The message that `value` describes. Raises ValueProblem."""
    message = GetMessageClass(descriptor)()
    fill(message, value, bindings, where)
    return message


def fill(message: Message, value: Any, bindings: Mapping[str, Any], where: str = "") -> None:
    """Sets the fields of `message`. Raises ValueProblem."""
    descriptor = message.DESCRIPTOR
    name = special(value)
    if name == "$ref":
        value = referred(value, bindings, where)
    elif name and is_payload(descriptor):
        value = {"data": value}
    elif name:
        raise ValueProblem(where, f"{name} cannot stand for a {descriptor.name}")
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        raise ValueProblem(where, f"{value!r} is not a {descriptor.name}: give its fields")
    for key, inner in value.items():
        field = descriptor.fields_by_name.get(key)
        place = f"{where}.{key}" if where else str(key)
        if field is None:
            known = ", ".join(one.name for one in descriptor.fields)
            raise ValueProblem(place, f"a {descriptor.name} has no field '{key}'; it has: {known or 'none'}")
        _set(message, field, inner, bindings, place)


def _set(message: Message, field: FieldDescriptor, value: Any, bindings: Mapping[str, Any], where: str) -> None:
    if special(value) == "$ref":
        value = referred(value, bindings, where)
    if is_map(field):
        if not isinstance(value, Mapping):
            raise ValueProblem(where, f"{value!r} is not a map")
        target = getattr(message, field.name)
        key_field, value_field = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        for key, inner in value.items():
            target[scalar(key_field, key, bindings, where)] = scalar(value_field, inner, bindings, f"{where}.{key}")
    elif is_repeated(field):
        if not isinstance(value, list):
            raise ValueProblem(where, f"{value!r} is not a list")
        target = getattr(message, field.name)
        for index, inner in enumerate(value):
            place = f"{where}[{index}]"
            if field.type == MESSAGE:
                fill(target.add(), inner, bindings, place)
            else:
                target.append(scalar(field, inner, bindings, place))
    elif field.type == MESSAGE:
        inner_message = getattr(message, field.name)
        inner_message.SetInParent()
        fill(inner_message, value, bindings, where)
    elif value is not None:
        setattr(message, field.name, scalar(field, value, bindings, where))


def scalar(field: FieldDescriptor, value: Any, bindings: Mapping[str, Any], where: str) -> Any:
    """The Python value of a field that is no message. Raises ValueProblem."""
    name = special(value)
    if name:
        value = _special_scalar(field, name, value, bindings, where)
    if field.type == BYTES:
        if isinstance(value, bytes):
            return value
        if isinstance(value, str):
            try:
                return base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raise ValueProblem(where, f"{value[:40]!r} is not base64") from None
    elif field.type == STRING:
        if isinstance(value, str):
            return value
    elif field.type == BOOL:
        if isinstance(value, bool):
            return value
    elif field.type in REALS:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif field.type == ENUM:
        known = field.enum_type.values_by_name.get(value) if isinstance(value, str) else None
        if known is not None:
            return known.number
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ValueProblem(where, f"{value!r} is none of {', '.join(field.enum_type.values_by_name)}")
    else:
        number = integer(value, is_code(field))
        if number is not None:
            return number
    raise ValueProblem(where, f"{value!r} is not what {field.containing_type.name}.{field.name} holds")


def integer(value: Any, code: bool = False) -> int | None:
    """The integer that a number or a text of digits is (64-bit integers are text in ProtoJSON); None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        if code and value in CODES:
            return CODES[value]
        if value.removeprefix("-").isdecimal():
            return int(value)
    return None


def _special_scalar(field: FieldDescriptor, name: str, value: Any, bindings: Mapping[str, Any], where: str) -> Any:
    found = resolve(value, bindings, where) if name in ("$ref", "$repeat", "$bytes") else None
    if name == "$json":
        found = json_text.dump(resolve(value["$json"], bindings, where))
    elif name == "$text":
        found = resolve(value["$text"], bindings, where)
    elif found is None:
        raise ValueProblem(where, f"{name} is not something to send")
    if field.type == BYTES and isinstance(found, str) and name != "$ref":
        return found.encode("utf-8")
    return found


def resolve(value: Any, bindings: Mapping[str, Any], where: str) -> Any:
    """A plain value, with what `$ref`, `$repeat` and `$bytes` in it stand for. Raises ValueProblem."""
    name = special(value)
    if name == "$ref":
        return referred(value, bindings, where)
    if name == "$repeat":
        return repeat(value["$repeat"], where)
    if name == "$bytes":
        return base64.b64decode(value["$bytes"])
    if name in VALUES:
        raise ValueProblem(where, f"{name} cannot stand here")
    if isinstance(value, Mapping):
        return {key: resolve(inner, bindings, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [resolve(inner, bindings, f"{where}[{index}]") for index, inner in enumerate(value)]
    return value


def referred(value: Mapping[str, Any], bindings: Mapping[str, Any], where: str) -> Any:
    """What `{$ref: name}` refers to."""
    name = value["$ref"]
    if name not in bindings:
        known = ", ".join(bindings) or "nothing"
        raise ValueProblem(where, f"nothing is bound to '{name}' yet (bound: {known})")
    return bindings[name]


def repeat(value: Mapping[str, Any], where: str) -> str:
    """The text of `{$repeat: {text, times}}`."""
    text, times = value["text"], int(value["times"])
    if len(text) * times > MAX_REPEATED:
        raise ValueProblem(where, f"{len(text) * times} characters are more than the {MAX_REPEATED} allowed")
    return str(text) * times
