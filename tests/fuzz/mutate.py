"""Makes input that nobody would send: random bytes, damaged messages, and valid messages full of odd values."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

# What tends to break things: bounds, wrong kinds, names that exist, patterns that nearly are ones.
TEXTS: Sequence[str] = (
    "", "Echo", "Counter", "echo", "add", "default", "k1", "a.b", "a.*", "**", ">", "*.>", "n.x", "m-1", "count", "sum",
    "a = b", "a in (b", "((((", "1.0.0", "1.0", "* * * * *", "*/2 * * * * *", "@daily", "Europe/Berlin", "Mars/Base",
    "application/json", "\x00", "ä😀", "x" * 600, "x" * 9000, "{}", '{"type": "object"}', '{"$ref": "#"}', "[" * 500,
    "null", "NaN", "-1", "00", "debug", "Echo/default/tick", "../../etc/passwd", '""', '"a"', "token", "AAAA", "MTA=",
)  # fmt: skip
NUMBERS = (
    0,
    1,
    2,
    3,
    5,
    100,
    1000,
    2**15,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**63 - 1,
    2**64 - 1,
    -1,
    -(2**31),
    -(2**63),
)
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def noise(generator: random.Random, longest: int = 200) -> bytes:
    """Random bytes, often few of them."""
    return generator.randbytes(generator.choice((0, 1, 2, 3, 8, generator.randrange(longest))))


def damaged(generator: random.Random, data: bytes) -> bytes:
    """`data` with some bytes changed, removed, doubled or added."""
    result = bytearray(data)
    for _ in range(generator.choice((1, 1, 1, 2, 5, 20))):
        at = generator.randrange(len(result) + 1)
        to = min(len(result), at + generator.choice((1, 1, 2, 8, 50)))
        action = generator.randrange(5)
        if action == 0 and at < len(result):
            result[at] ^= 1 << generator.randrange(8)
        elif action == 1:
            del result[at:to]
        elif action == 2:
            result[at:at] = result[at:to]
        elif action == 3:
            result[at:at] = noise(generator, 20)
        else:
            del result[at:]
    return bytes(result)


def filled(generator: random.Random, message: M, depth: int = 0) -> M:
    """`message` with some of its fields set to odd values of the right types."""
    fields: list[Any] = [*message.DESCRIPTOR.fields]
    wanted = generator.sample(fields, min(len(fields), generator.choice((0, 1, 2, 3, 6, len(fields)))))
    for field in wanted:
        if field.message_type is not None and depth > 4:
            continue
        if field.is_repeated:
            _fill_repeated(generator, message, field, depth)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            filled(generator, inner, depth + 1)
        else:
            setattr(message, field.name, _value(generator, field))
    return message


def _fill_repeated(generator: random.Random, message: Message, field: FieldDescriptor, depth: int) -> None:
    values = getattr(message, field.name)
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    for _ in range(generator.choice((0, 1, 1, 2, 5))):
        if is_map:
            values[generator.choice(TEXTS)] = generator.choice(TEXTS)
        elif field.message_type is not None:
            filled(generator, values.add(), depth + 1)
        else:
            values.append(_value(generator, field))


def _value(generator: random.Random, field: FieldDescriptor) -> Any:
    kind = field.cpp_type
    if kind in _RANGES:
        low, high = _RANGES[kind]
        number = generator.choice(NUMBERS)
        return min(max(number, low), high)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        text = generator.choice(TEXTS)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return generator.choice((0, 1, 2, 3, 4, 5, 99, -1))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return generator.random() < 0.5
    return generator.choice((0.0, -1.0, 1e308, float("inf"), float("nan"), 0.5))
