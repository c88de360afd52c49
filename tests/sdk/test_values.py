"""Values: JSON with one meaning in every language, and conversion by annotation with errors that name the place."""

from __future__ import annotations

import enum
import json
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypedDict, TypeVar
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from amx_engine import InvalidInput
from amx_engine._schema import Int64, converter_of, schema_text
from amx_engine._values import (
    MAX_SAFE_INTEGER,
    InvalidValue,
    decode,
    decode_key,
    encode,
    encode_canonical,
    format_duration,
    format_instant,
    parse_duration,
    parse_instant,
)

T = TypeVar("T")

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_json_values_survive_the_round_trip(value: Any) -> None:
    data = encode(value)
    assert decode(data) == value
    assert json.loads(data) == value


@given(JSON_VALUES)
def test_canonical_text_does_not_depend_on_key_order(value: Any) -> None:
    def reverse(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: reverse(part[key]) for key in reversed(part)}
        return [reverse(item) for item in part] if isinstance(part, list) else part

    assert encode_canonical(value) == encode_canonical(reverse(value))


@given(st.binary(max_size=60))
def test_decode_of_random_bytes_gives_a_value_or_a_named_error(data: bytes) -> None:
    try:
        value = decode(data)
    except InvalidValue:
        return
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a":1,"a":2}', "duplicate key 'a'"),
        (b'{"x":[{"a":1,"a":2}]}', "duplicate key 'a'"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"1e999", "out of range"),
        (b'"\\ud800"', "lone surrogate"),
        (b'{"\\udfff":1}', "lone surrogate"),
        (b'"\xff"', "not UTF-8"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"1 2", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, "beyond"),
        (b"9007199254740992", "beyond"),
        (b'{"a":[-9007199254740992]}', "beyond"),
    ],
)
def test_decode_refuses(data: bytes, said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        decode(data)


def test_integers_are_exact_in_every_language_or_refused() -> None:
    assert decode(b"[9007199254740991,-9007199254740991]") == [2**53 - 1, -(2**53) + 1]
    assert encode({"n": 2**53 - 1}) == b'{"n":9007199254740991}'
    for value, place in ((2**53, ""), ({"a": [1, -(2**53)]}, "a[1]"), ([{"n": 2**60}], "[0].n")):
        with pytest.raises(InvalidValue, match="Int64") as caught:
            encode(value)
        assert caught.value.pointer == place


def test_identities_may_be_integers_of_any_size() -> None:
    for key in (2**62, -(2**80), [0, 2**60]):
        assert decode_key(encode_canonical(key)) == key


def test_decode_accepts_an_escaped_pair_of_surrogates() -> None:
    assert decode(b'"\\ud83d\\ude00"') == "😀"


@pytest.mark.parametrize(
    ("value", "place", "said"),
    [
        ({"a": [1, float("nan")]}, "a[1]", "finite"),
        ({"a": {"b": object()}}, "a.b", "no JSON form"),
        ({1: "a"}, "", "not text"),
        ({"a": Decimal("NaN")}, "a", "finite"),
        ("\ud800", "", "surrogate"),
        ({"\ud800": 1}, "", "surrogate"),
    ],
)
def test_encode_refuses_and_names_the_place(value: Any, place: str, said: str) -> None:
    with pytest.raises(InvalidValue, match=said) as caught:
        encode(value)
    assert caught.value.pointer == place


def test_encode_refuses_what_contains_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidValue, match="contains itself"):
        encode(loop)
    with pytest.raises(InvalidValue, match="contains itself"):
        encode((loop,))


class Colour(enum.Enum):
    RED = "#f00"
    BLUE = "#00f"


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Point:
    x: int
    y: float = 0.0


class Pair(NamedTuple):
    left: int
    right: str = "r"


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (b"\x00\xff\xfe", "AP/+"),
        (datetime(2026, 1, 31, 12, 0, 0, 120000, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T10:00:00.12Z"),
        (datetime(2026, 1, 31), "2026-01-31T00:00:00Z"),
        (date(2026, 1, 31), "2026-01-31"),
        (time(12, 30), "12:30:00"),
        (timedelta(days=1, seconds=90), "P1DT1M30S"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "RED"),
        ([Level.LOW], ["LOW"]),
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (Point(1), {"x": 1, "y": 0.0}),
        (Pair(1), {"left": 1, "right": "r"}),
    ],
)
def test_encode_of_python_values(value: Any, form: Any) -> None:
    assert json.loads(encode(value)) == form


def test_encode_of_table_values() -> None:
    numpy = pytest.importorskip("numpy")
    pandas = pytest.importorskip("pandas")
    record = {
        "n": numpy.int64(2**50),
        "f": numpy.float32(0.5),
        "b": numpy.bool_(True),
        "a": numpy.array([1, 2]),
        "t": pandas.Timestamp("2026-01-31T10:00:00Z"),
        "p": pandas.Period("2026-01", "M"),
        "none": pandas.NaT,
    }
    assert json.loads(encode(record)) == {
        "n": 2**50,
        "f": 0.5,
        "b": True,
        "a": [1, 2],
        "t": "2026-01-31T10:00:00Z",
        "p": "2026-01",
        "none": None,
    }


@given(st.timedeltas())
def test_durations_survive_the_round_trip(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31)))
def test_instants_survive_the_round_trip(value: datetime) -> None:
    assert parse_instant(format_instant(value)) == value.replace(tzinfo=UTC)


def test_instants_may_have_nanoseconds_and_offsets() -> None:
    assert parse_instant("2026-01-31T12:00:00.123456789+02:00") == datetime(2026, 1, 31, 10, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "P", "PT", "P1", "1H", "P1DT", "PT1.S", "P1M", "PT-1S"])
def test_durations_refuse(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_duration(text)


class Address(TypedDict):
    street: str
    note: NotRequired[str]


@dataclass
class Item:
    name: str
    price: Decimal
    count: int = 1


@dataclass
class Order:
    """An order of a customer.

    Details that a schema does not need.
    """

    id: UUID
    items: list[Item]
    colour: Colour = Colour.RED
    at: datetime | None = None
    tags: set[str] = field(default_factory=set)
    address: Address | None = None
    shape: Literal["round", 1, None] = None
    data: bytes = b""
    wait: timedelta = timedelta()
    big: Int64 = 0
    by_number: dict[int, str] = field(default_factory=dict)
    pair: tuple[int, str] = (0, "")
    rest: Any = None


ORDER = Order(
    id=UUID(int=7),
    items=[Item("pen", Decimal("1.10"), 2)],
    colour=Colour.BLUE,
    at=datetime(2026, 1, 31, tzinfo=UTC),
    tags={"b", "a"},
    address={"street": "Main"},
    shape=1,
    data=b"\x01",
    wait=timedelta(minutes=1),
    big=2**60,
    by_number={1: "one"},
    pair=(1, "x"),
    rest={"any": [1]},
)


def test_typed_values_survive_the_round_trip_and_fit_their_schema() -> None:
    converter = converter_of(Order)
    wire = decode(encode(converter.encode(ORDER, "")))
    assert converter.decode(wire, "") == ORDER
    assert wire["big"] == str(2**60)
    assert wire["items"][0]["price"] == "1.10"
    schema = json.loads(schema_text(converter))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(wire)
    assert schema["description"] == "An order of a customer."
    assert schema["required"] == ["id", "items"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"items": [{"name": "a", "price": "1"}, {"name": "b", "price": {}}]}, "order.items[1].price"),
        ({"items": [{"name": "a"}]}, "order.items[0].price"),
        ({"items": {}}, "order.items"),
        ({"id": "no"}, "order.id"),
        ({"colour": "#f00"}, "order.colour"),
        ({"at": "yesterday"}, "order.at"),
        ({"shape": True}, "order.shape"),
        ({"data": "a"}, "order.data"),
        ({"address": {}}, "order.address.street"),
        ({"by_number": {"one": "1"}}, "order.by_number.one"),
        ({"pair": [1]}, "order.pair"),
        ({"big": "1.5"}, "order.big"),
        ({"tags": "ab"}, "order.tags"),
    ],
)
def test_decoding_what_does_not_fit_names_the_place(change: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        converter_of(Order).decode({"id": str(UUID(int=1)), "items": [], **change}, "order")
    assert caught.value.pointer == place
    assert caught.value.message.startswith(place)


def test_encoding_what_does_not_fit_names_the_place() -> None:
    broken = Order(id=UUID(int=1), items=[Item("a", Decimal(1), "two")])  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"items\[0\]\.count: expected an integer"):
        converter_of(Order).encode(broken, "")
    with pytest.raises(InvalidInput, match="expected a Order"):
        converter_of(Order).encode({"id": 1}, "")


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


def test_types_that_contain_themselves() -> None:
    tree = Tree(1, [Tree(2, [Tree(3)])])
    converter = converter_of(Tree)
    wire = converter.encode(tree, "")
    assert converter.decode(wire, "") == tree
    schema = json.loads(schema_text(converter))
    jsonschema.Draft202012Validator(schema).validate(wire)
    with pytest.raises(InvalidInput) as caught:
        converter.decode({"value": 1, "children": [{"value": 1, "children": [{}]}]}, "")
    assert caught.value.pointer == "children[0].children[0].value"


@dataclass
class Page(Generic[T]):
    items: list[T]
    first: T | None = None


def test_generic_dataclasses_are_filled_in() -> None:
    converter = converter_of(Page[Point])
    assert converter.decode({"items": [{"x": 1}]}, "") == Page([Point(1)])
    with pytest.raises(InvalidInput) as caught:
        converter.decode({"items": [{"x": "1"}]}, "")
    assert caught.value.pointer == "items[0].x"


class Model(BaseModel):
    name: str
    colour: Colour = Colour.RED
    data: bytes = b""
    count: Annotated[int, Field(gt=0)] = 1
    points: list[Point] = []

    @field_validator("name")
    @classmethod
    def not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is blank")
        return value


def test_pydantic_models_follow_the_same_rules() -> None:
    converter = converter_of(Model)
    model = Model(name="a", colour=Colour.BLUE, data=b"\xff\xfe", points=[Point(1)])
    wire = decode(encode(converter.encode(model, "")))
    assert wire["colour"] == "BLUE"
    assert wire["data"] == "//4="
    assert converter.decode(wire, "") == model
    schema = json.loads(schema_text(converter))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(wire)


@pytest.mark.parametrize(
    ("value", "place"),
    [({}, "m.name"), ({"name": " "}, "m.name"), ({"name": "a", "count": 0}, "m.count"), ({"name": 1}, "m.name")],
)
def test_pydantic_models_that_do_not_fit_name_the_place(value: Any, place: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        converter_of(Model).decode(value, "m")
    assert caught.value.pointer == place


def test_constrained_annotations_are_enforced() -> None:
    converter = converter_of(Annotated[int, Field(ge=1)])
    assert converter.decode(1, "") == 1
    with pytest.raises(InvalidInput):
        converter.decode(0, "n")


@pytest.mark.parametrize(
    ("annotation", "value", "own"),
    [
        (Optional[int], None, None),  # noqa: UP045
        (int | str, "1", "1"),
        (float, 1, 1.0),
        (int, 2.0, 2),
        (deque[int], [1], deque([1])),
        (frozenset[int], [1, 2], frozenset({1, 2})),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple, [1, "a"], (1, "a")),
        (dict[str, Any], {"a": 1}, {"a": 1}),
        (dict[Colour, int], {"RED": 1}, {Colour.RED: 1}),
        (Pair, {"left": 1}, Pair(1)),
        (Address, {"street": "x"}, {"street": "x"}),
        (Point | Item, {"name": "a", "price": "1"}, Item("a", Decimal(1))),
    ],
)
def test_decoding_by_annotation(annotation: Any, value: Any, own: Any) -> None:
    converter = converter_of(annotation)
    assert converter.decode(value, "") == own
    assert decode(encode(converter.encode(own, ""))) is not False


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(int, True), (int, "1"), (int, 1.5), (float, "1"), (float, True), (bool, 1), (str, 1), (str, None), (list, "a")],
)
def test_decoding_never_guesses(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidInput):
        converter_of(annotation).decode(value, "")
