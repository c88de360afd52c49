"""JSON with one meaning in every language: what Python values become, and what may come back.

Strict both ways: no NaN or infinity, no integers that others would round, no duplicate keys, well-formed Unicode,
object keys are text. Conversion by annotation lives in `_schema`; this file knows only run-time values.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Set
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from amx_engine._errors import InvalidInput

JSON = "application/json"
RESULT_JSON = "application/vnd.amx.result+json"

MAX_SAFE_INTEGER = 2**53 - 1

_ATOMS = frozenset({str, int, bool, float, type(None)})
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)(?:\.(?P<fraction>\d{1,9}))?S)?)?"
)
_INSTANT = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})")


class InvalidValue(InvalidInput):
    """A value has no JSON form, or text is not JSON. `pointer` names the place inside the value."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message, pointer=pointer, reason="INVALID_VALUE")


def encode(value: Any) -> bytes:
    """`value` as compact JSON.

    Dataclasses and pydantic models become objects, enums their name, bytes base64, datetimes RFC 3339 in UTC (naive
    ones are taken as UTC), timedeltas ISO 8601, decimals text. Raises InvalidValue naming the place otherwise.
    """
    try:
        if _is_plain(value):
            return _json(value).encode()
        plain = to_plain(value)
        require_safe(plain)
        return _json(plain).encode()
    except UnicodeEncodeError:
        raise InvalidValue("text contains a lone surrogate, which has no UTF-8 form; clean it first") from None
    except RecursionError:
        raise InvalidValue("value is nested too deeply, or contains itself") from None
    except ValueError as error:
        if isinstance(error, InvalidValue):
            raise
        to_plain(value)  # names the place, if it is a NaN
        raise InvalidValue(f"value has no JSON form: {error}") from None


def encode_plain(value: Any, pointer: str = "") -> bytes:
    """As `encode`, for what is known to be made of dicts with text keys, lists, text, numbers and None."""
    try:
        return _json(value).encode()
    except UnicodeEncodeError:
        raise InvalidValue(
            f"{_at(pointer)}text contains a lone surrogate, which has no UTF-8 form; clean it first", pointer
        ) from None
    except ValueError as error:
        to_plain(value, pointer)  # names the place, if it is a NaN
        raise InvalidValue(f"{_at(pointer)}value has no JSON form: {error}", pointer) from None


def encode_canonical(value: Any) -> str:
    """`value` as JSON text with sorted keys, so that equal values have equal text. Integers may be of any size."""
    kind = type(value)
    if kind is str:
        return encode_text(value)
    if kind is int:
        return int.__repr__(value)
    try:
        text = _canonical_json(value if _is_plain(value) else to_plain(value))
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValue("text contains a lone surrogate, which has no UTF-8 form; clean it first") from None
    except RecursionError:
        raise InvalidValue("value is nested too deeply, or contains itself") from None
    return text


def encode_text(value: str) -> str:
    """A JSON string literal, non-ASCII characters as they are."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue("text contains a lone surrogate, which has no UTF-8 form; clean it first") from None
    return _quote(value)


def decode(data: bytes | str) -> Any:
    """The value of JSON text.

    Raises InvalidValue: not JSON, not UTF-8, NaN, integers beyond ±(2^53 - 1), duplicate keys, lone surrogates.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            end = -1
        if end != len(text):
            value = _decoder.decode(text)  # there is white space around it, or it is not JSON and this says why
    except InvalidValue:
        raise
    except RecursionError:
        raise InvalidValue("JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise InvalidValue(f"JSON is not UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise InvalidValue(f"not JSON: {error}") from None
    if isinstance(data, str) or (b"\\u" in data and _SURROGATE_ESCAPE.search(data)):
        try:
            _json(value).encode()
        except UnicodeEncodeError:
            raise InvalidValue("JSON text contains a lone surrogate escape") from None
    return value


def decode_key(text: str) -> Any:
    """The value of an entry id, as `encode_canonical` made it: identities may be integers of any size."""
    try:
        return _key_decoder.decode(text)
    except InvalidValue:
        raise
    except ValueError as error:
        raise InvalidValue(f"not JSON: {error}") from None


def to_plain(value: Any, pointer: str = "") -> Any:
    """`value` made of dict, list, str, int, float, bool and None only. Raises InvalidValue naming the place."""
    kind = type(value)
    if kind is float:
        return _finite(value, pointer)
    if kind in _ATOMS:
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {_object_key(key, pointer): to_plain(item, join(pointer, key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        fields = getattr(value, "_fields", None)
        if isinstance(value, tuple) and isinstance(fields, tuple):
            return {name: to_plain(item, join(pointer, name)) for name, item in zip(fields, value, strict=True)}
        return [to_plain(item, f"{pointer}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Set):
        items = [to_plain(item, pointer) for item in value]
        return sorted(items, key=_canonical_json)
    converted = _scalar(value, pointer)
    if converted is not _NO_FORM:
        return converted
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name), join(pointer, field.name))
            for field in dataclasses.fields(value)
        }
    if is_model(kind):
        names = type(value).model_fields
        return {
            field.serialization_alias or field.alias or name: to_plain(getattr(value, name), join(pointer, name))
            for name, field in names.items()
        }
    to_wire = getattr(value, "__amx_value__", None)
    if to_wire is not None:
        return to_plain(to_wire(), pointer)
    raise InvalidValue(
        f"{_at(pointer)}a {kind.__module__}.{kind.__qualname__} has no JSON form;"
        " return a dict, list, text, number, dataclass or pydantic model",
        pointer,
    )


def join(pointer: str, name: object) -> str:
    """`pointer` followed by a member name, e.g. `order.price`."""
    return f"{pointer}.{name}" if pointer else str(name)


def is_model(kind: type) -> bool:
    """Whether `kind` is a pydantic model class; never imports pydantic."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def format_instant(value: datetime) -> str:
    """RFC 3339 in UTC; a naive datetime is taken as UTC. Nanoseconds are kept where the type has them."""
    moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    text = moment.replace(tzinfo=None).isoformat()
    if "." in text:
        text = text.rstrip("0")
    return text + "Z"


def parse_instant(text: str) -> datetime:
    """The datetime of RFC 3339 text, in UTC; digits beyond microseconds are dropped. Raises ValueError."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError("expected an RFC 3339 instant such as 2026-01-31T12:00:00Z")
    day, clock, fraction, zone = match.groups()
    micros = ((fraction or "") + "000000")[:6]
    moment = datetime.fromisoformat(f"{day}T{clock}.{micros}{'+00:00' if zone in 'Zz' else zone}")
    return moment.astimezone(UTC)


def format_duration(value: timedelta) -> str:
    """ISO 8601, e.g. `P1DT2H3M4.5S`, `-PT1S`; zero is `PT0S`."""
    micros = value // timedelta(microseconds=1)
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    seconds, micros = divmod(micros, 1_000_000)
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    clock = f"{hours}H" if hours else ""
    clock += f"{minutes}M" if minutes else ""
    if seconds or micros:
        clock += f"{seconds}{f'.{micros:06d}'.rstrip('0') if micros else ''}S"
    day = f"{days}D" if days else ""
    if not day and not clock:
        return "PT0S"
    return f"{sign}P{day}{'T' + clock if clock else ''}"


def parse_duration(text: str) -> timedelta:
    """The timedelta of ISO 8601 text in weeks, days, hours, minutes and seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or text[-1] in "PT":
        raise ValueError("expected an ISO 8601 duration such as PT1H30M")
    parts = {name: int(part) for name, part in match.groupdict().items() if part and name not in ("sign", "fraction")}
    micros = int(((match["fraction"] or "") + "000000")[:6])
    value = timedelta(microseconds=micros, **parts)
    return -value if match["sign"] == "-" else value


class _NoForm:
    pass


_NO_FORM = _NoForm()


def _scalar(value: Any, pointer: str) -> Any:
    """The JSON form of a scalar that is not plain JSON already, or _NO_FORM."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _finite(float(value), pointer)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        # pandas' NaT is a datetime that equals nothing, not even itself.
        return format_instant(value) if value == value else None
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return format_duration(value) if value == value else None
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise InvalidValue(f"{_at(pointer)}{value} is not a finite decimal", pointer)
        return format(value, "f")
    if isinstance(value, UUID):
        return str(value)
    module = type(value).__module__
    if module.startswith("numpy") and hasattr(value, "tolist"):
        return to_plain(value.tolist(), pointer)
    if module.startswith("pandas"):
        # Periods, intervals and the like print as what they are; pandas.NA and NaT mean "absent".
        return None if type(value).__name__ in ("NaTType", "NAType") else str(value)
    return _NO_FORM


def _is_plain(value: Any) -> bool:
    """Whether the C encoder alone gives the right JSON: exact types and text keys (NaN it refuses itself)."""
    kind = type(value)
    if kind is int:
        return bool(-MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER)
    if kind in _ATOMS:
        return True
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                return False
            kind = type(item)
            if kind is int:
                if not -MAX_SAFE_INTEGER <= item <= MAX_SAFE_INTEGER:
                    return False
            elif kind not in _ATOMS and not _is_plain(item):
                return False
        return True
    if kind is list:
        for item in value:
            kind = type(item)
            if kind is int:
                if not -MAX_SAFE_INTEGER <= item <= MAX_SAFE_INTEGER:
                    return False
            elif kind not in _ATOMS and not _is_plain(item):
                return False
        return True
    return False


def _object_key(key: Any, pointer: str) -> str:
    if isinstance(key, Enum):
        return key.name
    if isinstance(key, str):
        return str.__str__(key)
    raise InvalidValue(
        f"{_at(pointer)}the key {key!r} is not text, and JSON object keys are; convert it, or annotate the value"
        f" (dict[{type(key).__name__}, ...])",
        pointer,
    )


def require_safe(value: Any, pointer: str = "") -> None:
    """Raises InvalidValue naming an integer in a plain value that languages with doubles for numbers would round."""
    kind = type(value)
    if kind is int:
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise InvalidValue(
                f"{_at(pointer)}an integer beyond ±(2^53 - 1) has no exact JSON form in every language; annotate it as"
                " Int64, or make it text",
                pointer,
            )
    elif kind is dict:
        for key, item in value.items():
            require_safe(item, join(pointer, key))
    elif kind is list:
        for index, item in enumerate(value):
            require_safe(item, f"{pointer}[{index}]")


def _finite(value: float, pointer: str) -> float:
    if math.isfinite(value):
        return value
    raise InvalidValue(f"{_at(pointer)}{value!r} is not a finite number, which JSON cannot hold; use None", pointer)


def _at(pointer: str) -> str:
    return f"{pointer}: " if pointer else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidValue(f"duplicate key {key!r}", key)
            seen.add(key)
    return result


def _refuse_constant(name: str) -> Any:
    raise InvalidValue(f"{name} is not JSON")


def _parse_int(text: str) -> int:
    if len(text) < 16:
        return int(text)
    if len(text) > 17 or not -MAX_SAFE_INTEGER <= int(text) <= MAX_SAFE_INTEGER:
        raise InvalidValue(
            f"integer {text[:40]} is beyond ±(2^53 - 1), where languages round; send it as text to an Int64"
        )
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidValue(f"number {text[:40]} is out of range")
    return value


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_parse_float, parse_int=_parse_int
)
_key_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_parse_float)
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once  # type: ignore[attr-defined]


def _compact(*, sort_keys: bool = False) -> Callable[[Any], str]:
    """A function to compact JSON text. json's own would build its encoder anew for every value, at half the speed."""
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    quote = json.encoder.encode_basestring
    try:
        chunks = make(None, encoder.default, quote, None, ":", ",", sort_keys, False, False)
    except TypeError:  # another Python's idea of it
        return encoder.encode
    return lambda value: "".join(chunks(value, 0))


_json = _compact()
_canonical_json = _compact(sort_keys=True)
_quote = json.JSONEncoder(ensure_ascii=False).encode
