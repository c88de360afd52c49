"""Conversion by annotation: JSON values to typed Python values and back, and the JSON Schema (2020-12) of a type.

Every mismatch is an InvalidInput that names the place. pydantic is used for its own models and for annotations this
file does not know, and imported only then.
"""

from __future__ import annotations

import base64
import binascii
import collections
import collections.abc
import dataclasses
import enum
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

from amx_engine import _values
from amx_engine._errors import DefinitionError, InvalidInput
from amx_engine._result import ProcessingResult
from amx_engine._values import MAX_SAFE_INTEGER, is_model, join

Json = dict[str, Any]

_MISSING: Any = object()


class _Int64Marker:
    def __repr__(self) -> str:
        return "Int64"


Int64 = Annotated[int, _Int64Marker()]
"""An integer that may exceed what JSON numbers hold everywhere: beyond ±(2^53 - 1) it travels as text."""


class Converter:
    """Converts values of one annotation. `pointer` names the place of a value in its message.

    decode: JSON value to Python value. encode: Python value to JSON value. Both raise InvalidInput. schema: JSON
    Schema of the JSON side; named object types go into `definitions`. open: everything is accepted unchanged.
    """

    open = False
    expected = "a value"

    @property
    def opaque(self) -> bool:
        """Whether decoded values can change without a tracked container noticing."""
        return _holds_objects(self, set())

    def parts(self) -> Iterable[Converter]:
        """Converters of what is inside."""
        return ()

    def decode(self, value: Any, pointer: str) -> Any:
        raise NotImplementedError

    def encode(self, value: Any, pointer: str) -> Any:
        raise NotImplementedError

    def schema(self, definitions: Json) -> Json:
        raise NotImplementedError

    def refuse(self, value: Any, pointer: str) -> InvalidInput:
        return mismatch(self.expected, value, pointer)

    def key(self, text: str, pointer: str) -> Any:
        """The mapping key of object key `text`."""
        return self.decode(text, pointer)

    def key_text(self, key: Any, pointer: str) -> str:
        """The object key of a mapping key."""
        text = self.encode(key, pointer)
        if not isinstance(text, str):
            raise mismatch("text, as the key of a JSON object", key, pointer)
        return text


def _holds_objects(converter: Converter, seen: set[int]) -> bool:
    if id(converter) in seen:
        return False
    seen.add(id(converter))
    if isinstance(converter, (_Object, _Pydantic, _Result)) and not getattr(converter, "is_mapping", False):
        return True
    parts = list(converter.parts())
    hidden = isinstance(converter, _Tuple) or (isinstance(converter, _Sequence) and not converter.tracked)
    if hidden and any(not isinstance(part, (_TextForm, _Text, _Number, _Integer, _Boolean, _Null)) for part in parts):
        return True
    return any(_holds_objects(part, seen) for part in parts)


def mismatch(expected: str, value: Any, pointer: str) -> InvalidInput:
    """The error for a value of the wrong type."""
    return InvalidInput(f"{pointer or 'value'}: expected {expected}, got {_describe(value)}", pointer=pointer)


def _describe(value: Any) -> str:
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    kind = type(value)
    if kind in (int, float):
        return f"the number {value!r}"
    if kind is str:
        return f"the text {value if len(value) <= 40 else value[:37] + '...'!r}"
    if kind is list:
        return f"a list of {len(value)}"
    if kind is dict:
        return "an object"
    return f"a {kind.__qualname__}"


class _Anything(Converter):
    open = True
    expected = "anything"

    def decode(self, value: Any, pointer: str) -> Any:
        return value

    def encode(self, value: Any, pointer: str) -> Any:
        return _values.to_plain(value, pointer)

    def schema(self, definitions: Json) -> Json:
        return {}


class _Null(Converter):
    expected = "null"

    def decode(self, value: Any, pointer: str) -> Any:
        if value is not None:
            raise self.refuse(value, pointer)
        return None

    encode = decode

    def schema(self, definitions: Json) -> Json:
        return {"type": "null"}


class _Boolean(Converter):
    expected = "true or false"

    def decode(self, value: Any, pointer: str) -> Any:
        if type(value) is not bool:
            if type(value).__module__ == "numpy" and hasattr(value, "item"):
                return self.decode(value.item(), pointer)
            raise self.refuse(value, pointer)
        return value

    encode = decode

    def schema(self, definitions: Json) -> Json:
        return {"type": "boolean"}


class _Integer(Converter):
    expected = "an integer"

    def decode(self, value: Any, pointer: str) -> Any:
        if type(value) is int:
            return value
        if type(value) is float and value.is_integer():
            return int(value)
        raise self.refuse(value, pointer)

    def encode(self, value: Any, pointer: str) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return int(value)
        if type(value).__module__ == "numpy" and hasattr(value, "item"):
            return self.decode(value.item(), pointer)
        raise self.refuse(value, pointer)

    def key(self, text: str, pointer: str) -> Any:
        if not re.fullmatch(r"-?\d{1,4000}", text):
            raise self.refuse(text, pointer)
        return int(text)

    def key_text(self, key: Any, pointer: str) -> str:
        return str(self.encode(key, pointer))

    def schema(self, definitions: Json) -> Json:
        return {"type": "integer"}


class _Integer64(_Integer):
    def decode(self, value: Any, pointer: str) -> Any:
        return self.key(value, pointer) if type(value) is str else super().decode(value, pointer)

    def encode(self, value: Any, pointer: str) -> Any:
        number = super().encode(value, pointer)
        return number if -MAX_SAFE_INTEGER <= number <= MAX_SAFE_INTEGER else str(number)

    def schema(self, definitions: Json) -> Json:
        return {"type": ["integer", "string"], "format": "int64", "pattern": "^-?[0-9]+$"}


class _Number(Converter):
    expected = "a number"

    def decode(self, value: Any, pointer: str) -> Any:
        if type(value) is float or type(value) is int:
            return float(value)
        raise self.refuse(value, pointer)

    def encode(self, value: Any, pointer: str) -> Any:
        if isinstance(value, bool):
            raise self.refuse(value, pointer)
        if isinstance(value, (int, float)):
            return _values.to_plain(float(value), pointer)
        if type(value).__module__ == "numpy" and hasattr(value, "item"):
            return self.encode(value.item(), pointer)
        raise self.refuse(value, pointer)

    def schema(self, definitions: Json) -> Json:
        return {"type": "number"}


class _Text(Converter):
    expected = "text"

    def decode(self, value: Any, pointer: str) -> Any:
        if type(value) is str:
            return value
        raise self.refuse(value, pointer)

    def encode(self, value: Any, pointer: str) -> Any:
        if isinstance(value, str) and not isinstance(value, enum.Enum):
            return str.__str__(value)
        raise self.refuse(value, pointer)

    def schema(self, definitions: Json) -> Json:
        return {"type": "string"}


class _TextForm(Converter):
    """A type that travels as text in one format."""

    def __init__(
        self,
        kind: type | tuple[type, ...],
        expected: str,
        parse: Callable[[str], Any],
        render: Callable[[Any], str],
        schema: Json,
        *,
        numbers: bool = False,
    ) -> None:
        self._kind = kind
        self.expected = expected
        self._parse = parse
        self._render = render
        self._schema = schema
        self._numbers = numbers

    def decode(self, value: Any, pointer: str) -> Any:
        if self._numbers and type(value) in (int, float):
            value = repr(value)
        if type(value) is not str:
            raise self.refuse(value, pointer)
        try:
            return self._parse(value)
        except (ValueError, ArithmeticError, binascii.Error):
            raise self.refuse(value, pointer) from None

    def encode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, self._kind):
            raise self.refuse(value, pointer)
        return self._render(value)

    def schema(self, definitions: Json) -> Json:
        return dict(self._schema)


class _Enumeration(Converter):
    def __init__(self, kind: type[enum.Enum]) -> None:
        self._kind = kind
        self._members = dict(kind.__members__)
        names = ", ".join(list(self._members)[:20])
        self.expected = f"one of {names}"

    def decode(self, value: Any, pointer: str) -> Any:
        member = self._members.get(value) if type(value) is str else None
        if member is None:
            raise self.refuse(value, pointer)
        return member

    def encode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, self._kind):
            raise self.refuse(value, pointer)
        return value.name

    def schema(self, definitions: Json) -> Json:
        return {"type": "string", "enum": list(self._members)}


class _Literal(Converter):
    def __init__(self, values: tuple[Any, ...]) -> None:
        self._wire = [(value.name if isinstance(value, enum.Enum) else value, value) for value in values]
        self.expected = "one of " + ", ".join(repr(wire) for wire, _ in self._wire)

    def decode(self, value: Any, pointer: str) -> Any:
        for wire, own in self._wire:
            if type(wire) is type(value) and wire == value:
                return own
        raise self.refuse(value, pointer)

    def encode(self, value: Any, pointer: str) -> Any:
        for wire, own in self._wire:
            if type(own) is type(value) and own == value:
                return wire
        raise self.refuse(value, pointer)

    def schema(self, definitions: Json) -> Json:
        return {"enum": [wire for wire, _ in self._wire]}


class _Sequence(Converter):
    expected = "a list"

    def __init__(
        self, item: Converter, make: Callable[[list[Any]], Any], accepts: tuple[type, ...], unique: bool
    ) -> None:
        self._item = item
        self._make = make
        self._accepts = accepts
        self._unique = unique
        self.tracked = make is list or make is set

    def parts(self) -> Iterable[Converter]:
        return (self._item,)

    def decode(self, value: Any, pointer: str) -> Any:
        if type(value) is not list:
            raise self.refuse(value, pointer)
        decode = self._item.decode
        items = [decode(item, f"{pointer}[{index}]") for index, item in enumerate(value)]
        try:
            return items if self._make is list else self._make(items)
        except TypeError:
            raise mismatch("members that can be in a set", value, pointer) from None

    def encode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, self._accepts) or isinstance(value, (str, bytes)):
            raise self.refuse(value, pointer)
        encode = self._item.encode
        members = typing.cast(Iterable[Any], value)
        items = [encode(item, f"{pointer}[{index}]") for index, item in enumerate(members)]
        return sorted(items, key=_values.encode_canonical) if self._unique else items

    def schema(self, definitions: Json) -> Json:
        schema: Json = {"type": "array"}
        items = self._item.schema(definitions)
        if items:
            schema["items"] = items
        if self._unique:
            schema["uniqueItems"] = True
        return schema


class _Tuple(Converter):
    def __init__(self, items: list[Converter]) -> None:
        self._items = items
        self.expected = f"a list of {len(items)}"

    def parts(self) -> Iterable[Converter]:
        return self._items

    def decode(self, value: Any, pointer: str) -> Any:
        if type(value) is not list or len(value) != len(self._items):
            raise self.refuse(value, pointer)
        return tuple(
            item.decode(part, f"{pointer}[{index}]")
            for index, (item, part) in enumerate(zip(self._items, value, strict=True))
        )

    def encode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, tuple) or len(value) != len(self._items):
            raise self.refuse(value, pointer)
        return [
            item.encode(part, f"{pointer}[{index}]")
            for index, (item, part) in enumerate(zip(self._items, value, strict=True))
        ]

    def schema(self, definitions: Json) -> Json:
        count = len(self._items)
        schema: Json = {"type": "array", "minItems": count, "maxItems": count}
        if self._items:
            schema["prefixItems"] = [item.schema(definitions) for item in self._items]
        return schema


class _Map(Converter):
    expected = "an object"

    def __init__(self, key: Converter, item: Converter) -> None:
        self._key = key
        self._item = item
        self._text_keys = isinstance(key, (_Text, _Anything))

    def parts(self) -> Iterable[Converter]:
        return (self._item,)

    def decode(self, value: Any, pointer: str) -> Any:
        if type(value) is not dict:
            raise self.refuse(value, pointer)
        if self._text_keys and self._item.open:
            return value
        decode = self._item.decode
        if self._text_keys:
            return {key: decode(item, join(pointer, key)) for key, item in value.items()}
        result = {}
        for key, item in value.items():
            place = join(pointer, key)
            own = self._key.key(key, place)
            if own in result:
                raise InvalidInput(f"{place}: duplicate key {key!r}", pointer=place)
            result[own] = decode(item, place)
        return result

    def encode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, Mapping):
            raise self.refuse(value, pointer)
        result = {}
        for key, item in value.items():
            place = join(pointer, key)
            text = key if type(key) is str and self._text_keys else self._key.key_text(key, place)
            if text in result:
                raise InvalidInput(f"{place}: two keys have the text {text!r}", pointer=place)
            result[text] = self._item.encode(item, place)
        return result

    def schema(self, definitions: Json) -> Json:
        schema: Json = {"type": "object"}
        items = self._item.schema(definitions)
        if items:
            schema["additionalProperties"] = items
        if isinstance(self._key, _Integer):
            schema["propertyNames"] = {"pattern": "^-?[0-9]+$"}
        return schema


@dataclasses.dataclass(slots=True)
class Field:
    """One member of an object type. default: value when absent, as a function; _MISSING if it is required."""

    name: str
    converter: Converter
    required: bool
    init: bool = True
    description: str = ""


class _Object(Converter):
    """A dataclass, TypedDict, named tuple, or the parameters of a function. Unknown members are ignored."""

    expected = "an object"

    def __init__(self, name: str, make: Callable[..., Any], accepts: type | None, description: str = "") -> None:
        self.name = name
        self.fields: list[Field] = []  # filled after construction, because types may contain themselves
        self._make = make
        self._accepts = accepts
        self._description = description
        self.is_mapping = accepts is None

    def parts(self) -> Iterable[Converter]:
        return [field.converter for field in self.fields]

    def decode(self, value: Any, pointer: str) -> Any:
        if type(value) is not dict:
            raise self.refuse(value, pointer)
        arguments = {}
        for field in self.fields:
            if not field.init:
                continue
            item = value.get(field.name, _MISSING)
            place = f"{pointer}.{field.name}" if pointer else field.name
            if item is not _MISSING:
                arguments[field.name] = field.converter.decode(item, place)
            elif field.required:
                raise InvalidInput(f"{place}: is missing; expected {field.converter.expected}", pointer=place)
        try:
            return self._make(**arguments)
        except InvalidInput:
            raise
        except (ValueError, TypeError) as error:  # a dataclass's own __post_init__ checks
            raise InvalidInput(f"{pointer or 'value'}: {error}", pointer=pointer) from error

    def encode(self, value: Any, pointer: str) -> Any:
        if self._accepts is None:
            return self._encode_mapping(value, pointer)
        if not isinstance(value, self._accepts):
            raise mismatch(f"a {self.name}", value, pointer)
        return {
            field.name: field.converter.encode(getattr(value, field.name), join(pointer, field.name))
            for field in self.fields
        }

    def _encode_mapping(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, Mapping):
            raise mismatch(f"a {self.name}", value, pointer)
        result = {}
        for field in self.fields:
            place = join(pointer, field.name)
            if field.name in value:
                result[field.name] = field.converter.encode(value[field.name], place)
            elif field.required:
                raise InvalidInput(f"{place}: is missing; expected {field.converter.expected}", pointer=place)
        for key in value:
            if key not in result:
                result[str(key)] = _values.to_plain(value[key], join(pointer, key))
        return result

    def schema(self, definitions: Json) -> Json:
        if self.name not in definitions:
            definitions[self.name] = {}  # a placeholder ends the recursion of types that contain themselves
            definitions[self.name] = self.inline_schema(definitions)
        return {"$ref": f"#/$defs/{self.name}"}

    def inline_schema(self, definitions: Json) -> Json:
        """The schema itself rather than a reference to it."""
        properties = {}
        for field in self.fields:
            properties[field.name] = dict(field.converter.schema(definitions))
            if field.description:
                properties[field.name]["description"] = field.description
        schema: Json = {"type": "object", "properties": properties}
        required = [field.name for field in self.fields if field.required]
        if required:
            schema["required"] = required
        if self._description:
            schema["description"] = self._description
        return schema


class _Union(Converter):
    def __init__(self, choices: list[Converter]) -> None:
        self._nullable = any(isinstance(choice, _Null) for choice in choices)
        self._choices = [choice for choice in choices if not isinstance(choice, _Null)]
        self.open = any(choice.open for choice in choices)
        self.expected = " or ".join([choice.expected for choice in self._choices] + ["null"] * self._nullable)

    def parts(self) -> Iterable[Converter]:
        return self._choices

    def decode(self, value: Any, pointer: str) -> Any:
        return self._first(value, pointer, "decode")

    def encode(self, value: Any, pointer: str) -> Any:
        return self._first(value, pointer, "encode")

    def _first(self, value: Any, pointer: str, direction: str) -> Any:
        if value is None and self._nullable:
            return None
        if len(self._choices) == 1:
            choice = self._choices[0]
            return choice.decode(value, pointer) if direction == "decode" else choice.encode(value, pointer)
        deepest: InvalidInput | None = None
        for choice in self._choices:
            try:
                return getattr(choice, direction)(value, pointer)
            except InvalidInput as error:
                if deepest is None or len(error.pointer) > len(deepest.pointer):
                    deepest = error
        # A choice that got further into the value than its top is the one that was meant.
        if deepest is not None and len(deepest.pointer) > len(pointer):
            raise deepest
        raise self.refuse(value, pointer)

    def schema(self, definitions: Json) -> Json:
        choices = [choice.schema(definitions) for choice in self._choices]
        if self._nullable:
            choices.append({"type": "null"})
        return {"anyOf": choices}


class _Result(Converter):
    expected = "a ProcessingResult"
    open = True  # it writes itself

    def decode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, dict):
            raise self.refuse(value, pointer)
        return ProcessingResult(
            value.get("status", "success"), value.get("data"), value.get("message", ""), value.get("metadata")
        )

    def encode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, ProcessingResult):
            raise self.refuse(value, pointer)
        return {
            "status": value.status,
            "data": _values.to_plain(value.data, join(pointer, "data")),
            "message": value.message,
            "metadata": _values.to_plain(value.metadata, join(pointer, "metadata")),
        }

    def schema(self, definitions: Json) -> Json:
        return {
            "type": "object",
            "properties": {
                "status": {"enum": ["success", "warning", "error"]},
                "data": {},
                "message": {"type": "string"},
                "metadata": {"type": "object"},
            },
            "required": ["status"],
        }


class _Pydantic(Converter):
    """A pydantic model, or an annotation only pydantic understands. Enums by name and bytes as base64 all the same."""

    expected = "a value that fits"

    def __init__(self, kind: Any, fields: dict[str, Converter]) -> None:
        from pydantic import TypeAdapter

        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
        self._is_model = isinstance(kind, type)
        self._kind = kind
        self._fields = fields
        self.expected = f"a {kind.__name__}" if self._is_model else "a value that fits"

    def decode(self, value: Any, pointer: str) -> Any:
        from pydantic import ValidationError

        if self._fields and type(value) is dict:
            value = {name: self._prepared(name, item) for name, item in value.items()}
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = pointer
            for step in first["loc"]:
                place = f"{place}[{step}]" if isinstance(step, int) else join(place, step)
            raise InvalidInput(f"{place or 'value'}: {first['msg']}", pointer=place) from None

    def _prepared(self, name: str, item: Any) -> Any:
        converter = self._fields.get(name)
        if converter is None:
            return item
        try:
            return converter.decode(item, name)
        except InvalidInput:
            return item  # the model's own validators may accept it; if not, pydantic names the field

    def encode(self, value: Any, pointer: str) -> Any:
        if self._is_model:
            if not isinstance(value, self._kind):
                raise self.refuse(value, pointer)
            return _values.to_plain(value, pointer)
        return _values.to_plain(self.decode(value, pointer), pointer)

    def schema(self, definitions: Json) -> Json:
        schema = self._adapter.json_schema(
            schema_generator=_generator(), ref_template="#/$defs/{model}", mode="validation"
        )
        for name, definition in schema.pop("$defs", {}).items():
            definitions.setdefault(name, definition)
        if self._is_model and "$ref" not in schema:
            definitions.setdefault(self._kind.__name__, schema)
            return {"$ref": f"#/$defs/{self._kind.__name__}"}
        return schema


def _generator() -> Any:
    from pydantic.json_schema import GenerateJsonSchema

    class WireSchema(GenerateJsonSchema):
        """pydantic's schema under the rules of `_values`."""

        def enum_schema(self, schema: Any) -> Json:
            return {
                "type": "string",
                "enum": [member.name for member in schema["members"]],
                "title": schema["cls"].__name__,
            }

        def bytes_schema(self, schema: Any) -> Json:
            return {"type": "string", "contentEncoding": "base64"}

        def decimal_schema(self, schema: Any) -> Json:
            return {"type": "string", "format": "decimal"}

    return WireSchema


def _parse_decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None
    if not value.is_finite():
        raise ValueError(text)
    return value


def _parse_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _render(value: Any) -> str:
    text: str = _values.to_plain(value)
    return text


ANYTHING = _Anything()

_SCALARS: dict[Any, Converter] = {
    None: _Null(),
    type(None): _Null(),
    bool: _Boolean(),
    int: _Integer(),
    float: _Number(),
    str: _Text(),
    Any: ANYTHING,
    object: ANYTHING,
    ProcessingResult: _Result(),
    bytes: _TextForm(
        (bytes, bytearray, memoryview),
        "base64 text",
        _parse_base64,
        _render,
        {"type": "string", "contentEncoding": "base64"},
    ),
    bytearray: _TextForm(
        (bytes, bytearray, memoryview),
        "base64 text",
        lambda text: bytearray(_parse_base64(text)),
        _render,
        {"type": "string", "contentEncoding": "base64"},
    ),
    datetime: _TextForm(
        datetime,
        "an RFC 3339 instant such as 2026-01-31T12:00:00Z",
        _values.parse_instant,
        _render,
        {"type": "string", "format": "date-time"},
    ),
    date: _TextForm(
        date,
        "a date such as 2026-01-31",
        date.fromisoformat,
        lambda value: value.isoformat()[:10],
        {"type": "string", "format": "date"},
    ),
    time: _TextForm(
        time, "a time of day such as 12:00:00", time.fromisoformat, _render, {"type": "string", "format": "time"}
    ),
    timedelta: _TextForm(
        timedelta,
        "an ISO 8601 duration such as PT1H30M",
        _values.parse_duration,
        _render,
        {"type": "string", "format": "duration"},
    ),
    Decimal: _TextForm(
        (Decimal, int),
        "a decimal as text",
        _parse_decimal,
        lambda value: _render(Decimal(value)),
        {"type": "string", "format": "decimal"},
        numbers=True,
    ),
    UUID: _TextForm(UUID, "a UUID", UUID, _render, {"type": "string", "format": "uuid"}),
}

_LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
_SETS = (set, collections.abc.Set, collections.abc.MutableSet)
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class Compiler:
    """Makes converters of annotations. scope: names visible where they were written."""

    def __init__(self, scope: Mapping[str, Any] | None = None) -> None:
        self._scope = dict(scope or {})
        self._objects: dict[Any, Converter] = {}

    def compile(self, annotation: Any) -> Converter:
        """The converter of `annotation`. Raises DefinitionError if it has no JSON form."""
        try:
            known = _SCALARS.get(annotation)
        except TypeError:  # unhashable metadata in Annotated
            known = None
        if known is not None:
            return known
        if isinstance(annotation, (str, typing.ForwardRef)):
            text = annotation if isinstance(annotation, str) else annotation.__forward_arg__
            raise DefinitionError(f"the annotation {text!r} cannot be resolved; define or import that name first")
        if isinstance(annotation, TypeVar):
            bound = annotation.__bound__
            return ANYTHING if bound is None else self.compile(bound)
        supertype = getattr(annotation, "__supertype__", None)
        if supertype is not None:
            return self.compile(supertype)
        if type(annotation).__name__ == "TypeAliasType":
            return self.compile(annotation.__value__)
        origin = get_origin(annotation)
        if origin is not None:
            return self._generic(annotation, origin, get_args(annotation))
        if isinstance(annotation, type):
            return self._class(annotation, {})
        return self._fallback(annotation)

    def _generic(self, annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> Converter:
        if origin is Annotated:
            return self._annotated(annotation, arguments)
        if origin is Union or origin is types.UnionType:
            return _Union([self.compile(argument) for argument in arguments])
        if origin is Literal:
            return _Literal(arguments)
        if origin in (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
            return self.compile(arguments[0])
        if origin is tuple:
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                return _Sequence(self.compile(arguments[0]), tuple, (tuple, list), False)
            return _Tuple([self.compile(argument) for argument in arguments if argument != ()])
        if isinstance(origin, type):
            return self._class(
                origin, dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False)), arguments
            )
        return self._fallback(annotation)

    def _annotated(self, annotation: Any, arguments: tuple[Any, ...]) -> Converter:
        if any(isinstance(extra, _Int64Marker) for extra in arguments[1:]):
            return _Integer64()
        modules = {type(extra).__module__.partition(".")[0] for extra in arguments[1:]}
        if modules & {"pydantic", "annotated_types", "pydantic_core"}:
            return self._fallback(annotation)
        return self.compile(arguments[0])

    def _class(self, kind: type, variables: dict[Any, Any], arguments: tuple[Any, ...] = ()) -> Converter:
        if kind in _LISTS:
            return _Sequence(self._argument(arguments, 0), list, (list, tuple, collections.abc.Sequence), False)
        if kind is tuple:
            return _Sequence(ANYTHING, tuple, (tuple, list), False)
        if kind is collections.deque:
            return _Sequence(self._argument(arguments, 0), collections.deque, (collections.deque,), False)
        if kind in _SETS:
            return _Sequence(self._argument(arguments, 0), set, (set, frozenset, collections.abc.Set), True)
        if kind is frozenset:
            return _Sequence(self._argument(arguments, 0), frozenset, (set, frozenset), True)
        if kind in _MAPS:
            return _Map(self._argument(arguments, 0), self._argument(arguments, 1))
        if issubclass(kind, enum.Enum):
            return _Enumeration(kind)
        if is_model(kind):
            return self._model(kind)
        # pydantic's own dataclasses validate by pydantic's rules.
        if dataclasses.is_dataclass(kind) and not hasattr(kind, "__pydantic_validator__"):
            return self._object(kind, variables, lambda: self._dataclass_fields(kind, variables), kind)
        if typing.is_typeddict(kind):
            return self._object(kind, variables, lambda: self._typed_dict_fields(kind, variables), None)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._object(kind, variables, lambda: self._named_tuple_fields(kind, variables), kind)
        return self._fallback(kind)

    def _argument(self, arguments: tuple[Any, ...], index: int) -> Converter:
        return self.compile(arguments[index]) if index < len(arguments) else ANYTHING

    def _object(
        self, kind: type, variables: dict[Any, Any], fields: Callable[[], list[Field]], accepts: type | None
    ) -> Converter:
        identity = (kind, tuple(variables.values()))
        try:
            known = self._objects.get(identity)
        except TypeError:
            known, identity = None, (kind, (repr(variables),))
        if known is None:
            arguments = "".join(f"_{getattr(value, '__name__', value)}" for value in variables.values())
            name = re.sub(r"\W", "_", kind.__name__ + arguments)
            made = _Object(name, kind, accepts, _own_doc(kind))
            known = self._objects[identity] = made
            made.fields = fields()
        return known

    def hints(self, target: Any) -> dict[str, Any]:
        """Resolved annotations of a class or function. Raises DefinitionError naming what cannot be resolved."""
        try:
            return typing.get_type_hints(target, localns=self._scope or None, include_extras=True)
        except NameError as error:
            where = getattr(target, "__qualname__", repr(target))
            raise DefinitionError(
                f"{where}: the annotation names {error.name!r}, which is not defined in {target.__module__};"
                " import it at run time (not only under TYPE_CHECKING)"
            ) from None

    def _dataclass_fields(self, kind: Any, variables: dict[Any, Any]) -> list[Field]:
        hints = self.hints(kind)
        return [
            Field(
                field.name,
                self.compile(_substituted(hints[field.name], variables)),
                required=field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
                and field.init,
                init=field.init,
                description=_field_doc(hints[field.name]),
            )
            for field in dataclasses.fields(kind)
        ]

    def _typed_dict_fields(self, kind: Any, variables: dict[Any, Any]) -> list[Field]:
        return [
            Field(
                name,
                self.compile(_substituted(hint, variables)),
                required=_is_required(kind, name, hint),
                description=_field_doc(hint),
            )
            for name, hint in self.hints(kind).items()
        ]

    def _named_tuple_fields(self, kind: Any, variables: dict[Any, Any]) -> list[Field]:
        hints = self.hints(kind)
        return [
            Field(
                name,
                self.compile(_substituted(hints.get(name, Any), variables)),
                required=name not in kind._field_defaults,
            )
            for name in kind._fields
        ]

    def _model(self, kind: Any) -> Converter:
        known = self._objects.get(kind)
        if known is None:
            fields: dict[str, Converter] = {}
            known = self._objects[kind] = _Pydantic(kind, fields)
            for name, field in kind.model_fields.items():
                try:
                    fields[field.validation_alias if isinstance(field.validation_alias, str) else name] = self.compile(
                        field.annotation
                    )
                except DefinitionError:
                    continue  # pydantic knows it
        return known

    def _fallback(self, annotation: Any) -> Converter:
        try:
            converter = _Pydantic(annotation, {})
            converter.schema({})
        except Exception as error:
            name = getattr(annotation, "__qualname__", repr(annotation))
            raise DefinitionError(
                f"{name} has no JSON form; use builtins, a dataclass, a TypedDict or a pydantic model ({error})"
            ) from None
        return converter


def _substituted(annotation: Any, variables: dict[Any, Any]) -> Any:
    """`annotation` with type variables replaced by what a generic type was given."""
    if not variables:
        return annotation
    if isinstance(annotation, TypeVar):
        return variables.get(annotation, Any)
    parameters = getattr(annotation, "__parameters__", ())
    if get_origin(annotation) is None or not parameters:
        return annotation
    return annotation[tuple(variables.get(parameter, Any) for parameter in parameters)]


def _is_required(kind: Any, name: str, hint: Any) -> bool:
    """Whether a TypedDict demands a member. Its own record is wrong where annotations are kept as text."""
    origin = get_origin(hint)
    if origin is Annotated:
        origin = get_origin(get_args(hint)[0])
    if origin in (typing.Required, typing.NotRequired):
        return origin is typing.Required
    return name in kind.__required_keys__


def _field_doc(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return next((extra for extra in annotation.__metadata__ if isinstance(extra, str)), "")
    return ""


def _own_doc(kind: type) -> str:
    """The first paragraph of a docstring somebody wrote; dataclasses write their own."""
    doc = kind.__dict__.get("__doc__") or ""
    return "" if doc.startswith(f"{kind.__name__}(") else first_paragraph(doc)


def first_paragraph(doc: str | None) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((doc or "").strip().split("\n\n", 1)[0].split())


def schema_text(converter: Converter) -> str:
    """The JSON Schema of a converter as text; empty if it accepts anything."""
    definitions: Json = {}
    schema = converter.schema(definitions)
    if not schema:
        return ""
    reference = schema.get("$ref", "")
    name = reference.rpartition("/")[2]
    if len(schema) == 1 and reference and not _refers_to(definitions, reference):
        schema = definitions.pop(name)
    if definitions:
        schema = {**schema, "$defs": definitions}
    return _values.encode(schema).decode()


def _refers_to(value: Any, reference: str) -> bool:
    if isinstance(value, dict):
        return value.get("$ref") == reference or any(_refers_to(item, reference) for item in value.values())
    return isinstance(value, list) and any(_refers_to(item, reference) for item in value)


_compiler = Compiler()
_converters: dict[Any, Converter] = {}


def converter_of(annotation: Any) -> Converter:
    """The converter of an annotation used outside agent classes; kept for the next time."""
    try:
        converter = _converters.get(annotation)
    except TypeError:
        return _compiler.compile(annotation)
    if converter is None:
        if len(_converters) >= 1024:
            _converters.clear()
        converter = _converters[annotation] = _compiler.compile(annotation)
    return converter


class ParametersConverter(Converter):
    """The data parameters of a function: content is an object with a member for each. Decodes to a tuple."""

    expected = "an object"

    def __init__(self, fields: list[Field], defaults: dict[str, Any]) -> None:
        self._fields = fields
        self._defaults = defaults
        self._object = _Object("parameters", dict, None)
        self._object.fields = fields

    def parts(self) -> Iterable[Converter]:
        return [field.converter for field in self._fields]

    def decode(self, value: Any, pointer: str) -> Any:
        if value is None and len(self._defaults) == len(self._fields):
            value = {}
        values = {**self._defaults, **self._object.decode(value, pointer)}
        return tuple(values[field.name] for field in self._fields)

    def encode(self, value: Any, pointer: str) -> Any:
        return self._object.encode(value, pointer)

    def schema(self, definitions: Json) -> Json:
        return self._object.inline_schema(definitions)
