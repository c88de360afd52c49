"""Protobuf messages as plain values that remember their type: 64-bit integers are integers, bytes are bytes.

Needs the standard library and protobuf only.
"""

from __future__ import annotations

import base64
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor as _FieldDescriptor
from google.protobuf.message import Message

from amx.v1 import common_pb2

# Of a message and of a field. Their classes differ between implementations of protobuf.
Descriptor: TypeAlias = Any
FieldDescriptor: TypeAlias = Any

MESSAGE = _FieldDescriptor.TYPE_MESSAGE
BYTES = _FieldDescriptor.TYPE_BYTES
STRING = _FieldDescriptor.TYPE_STRING
BOOL = _FieldDescriptor.TYPE_BOOL
ENUM = _FieldDescriptor.TYPE_ENUM
REALS = (_FieldDescriptor.TYPE_DOUBLE, _FieldDescriptor.TYPE_FLOAT)

PAYLOAD = common_pb2.Payload.DESCRIPTOR
FAILURE = common_pb2.Failure.DESCRIPTOR

# google.rpc.Code
CODES = {
    name: number
    for number, name in enumerate(
        (
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        )
    )
}


class Obj(dict[str, Any]):
    """The fields that a message has, by their names in `proto/`. What is at its default may be absent."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: Descriptor) -> None:
        super().__init__()
        self.descriptor = descriptor


def is_payload(descriptor: Descriptor) -> bool:
    """Whether it describes Payload."""
    return bool(descriptor.full_name == PAYLOAD.full_name)


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether it holds many; maps do."""
    known = getattr(field, "is_repeated", None)  # since protobuf 6.31
    return bool(field.label == _FieldDescriptor.LABEL_REPEATED if known is None else known)


def is_map(field: FieldDescriptor) -> bool:
    """Whether it is a map."""
    kind = field.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)


def is_code(field: FieldDescriptor | None) -> bool:
    """Whether it is a Failure's code, which may be said by name."""
    return field is not None and field.name == "code" and field.containing_type.full_name == FAILURE.full_name


def decode(message: Message) -> Obj:
    """The message as plain values."""
    found = Obj(message.DESCRIPTOR)
    field: FieldDescriptor
    for field, value in message.ListFields():
        if is_map(field):
            inner = field.message_type.fields_by_name["value"]
            found[field.name] = {str(key): _decoded(inner, value[key]) for key in value}
        elif is_repeated(field):
            found[field.name] = [_decoded(field, one) for one in value]
        else:
            found[field.name] = _decoded(field, value)
    return found


def _decoded(field: FieldDescriptor, value: Any) -> Any:
    if field.type == MESSAGE:
        return decode(value)
    if field.type == ENUM:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return value


def shown(value: Any) -> Any:
    """The value fit for JSON: bytes as text where they are text, else as base64."""
    if isinstance(value, dict):
        return {key: shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shown(inner) for inner in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return {"$bytes": base64.b64encode(value).decode()}
    return value
