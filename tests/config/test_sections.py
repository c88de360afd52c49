"""Sections read from what people write: what each kind of field takes, what it refuses, and every problem at once."""

from __future__ import annotations

import pickle
from typing import Annotated, Any, ClassVar, Literal

import pytest
from msgspec import Meta, field

from amx_server.core.config import EngineConfig, StorageConfig, TokenConfig
from amx_server.core.sections import ConfigError, Secret, Section
from amx_server.core.units import Duration, Size


class Part(Section, frozen=True, kw_only=True):
    low: int = 1
    high: int = 2

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("needs low <= high")


class Sample(Section, frozen=True, kw_only=True):
    elsewhere: ClassVar[dict[str, str]] = {"colour": "mode"}

    count: Annotated[int, Meta(ge=0, le=9)] = 0
    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    whole: Annotated[int, Meta(ge=1)] | None = None
    on: bool = False
    decided: bool | None = None
    name: str = ""
    label: Annotated[str, Meta(pattern="^[a-z]+$", description="lower-case letters")] = "a"
    secret: Secret | None = None
    mode: Literal["fast", "slow"] = "fast"
    wait: Annotated[Duration, Meta(gt=0)] = 1.0
    room: Annotated[Size, Meta(ge=1024)] | None = None
    part: Part = Part()
    maybe: Part | None = None
    parts: dict[str, Part] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    rows: tuple[Part, ...] = ()
    grants: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Strict(Section, frozen=True, kw_only=True):
    first: str = "a"
    needed: str


def problems(values: dict[str, Any], section: type[Section] = Sample) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        section.read(values)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        *[("count", written, 5) for written in (5, "5", " 5 ", 5.0, "5.0", "+5", "0_5")],
        *[("ratio", written, 0.25) for written in (0.25, "0.25", "25e-2")],
        ("ratio", 1, 1.0),
        ("whole", None, None), ("whole", "3", 3),
        *[("on", written, True) for written in (True, "true", "True", "yes", "on", "1", "t", "y", 1)],
        *[("decided", written, False) for written in (False, "false", "NO", "off", "0", "f", "n", 0)],
        ("decided", None, None),
        ("name", "", ""), ("name", "0123", "0123"), ("label", "abc", "abc"),
        ("secret", "s", Secret("s")), ("secret", None, None),
        ("mode", "slow", "slow"),
        ("wait", "1m30s", 90.0), ("wait", "PT5M", 300.0), ("wait", "7", 7.0), ("wait", 2, 2.0),
        ("room", "16MiB", 16 << 20), ("room", "4 kB", 4000), ("room", None, None),
        ("part", {}, Part()), ("part", {"high": "3"}, Part(high=3)),
        ("maybe", {"low": 0}, Part(low=0)), ("maybe", None, None),
        ("parts", {"a": {}, "b": {"low": 2}}, {"a": Part(), "b": Part(low=2)}), ("parts", {7: {}}, {"7": Part()}),
        ("sizes", {"a": "1KiB"}, {"a": 1024}),
        ("names", ["a", "b"], ("a", "b")), ("names", ("a",), ("a",)), ("names", [], ()),
        ("rows", [{"low": 0}], (Part(low=0),)),
        ("grants", {"r": ["x", "y"]}, {"r": ("x", "y")}),
    ],
)  # fmt: skip
def test_value_is_taken_as_its_field_means_it(name: str, written: object, value: object) -> None:
    taken = getattr(Sample.read({name: written}), name)
    assert taken == value
    assert type(taken) is type(value)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"count": 10}, "count: needs a whole number from 0 to 9, not 10"),
        ({"count": "x"}, "count: needs a whole number from 0 to 9, not 'x'"),
        ({"count": ""}, "count: needs a whole number from 0 to 9, not ''"),
        ({"count": 1.5}, "count: needs a whole number from 0 to 9, not 1.5"),
        ({"count": True}, "count: needs a whole number from 0 to 9, not true"),
        ({"count": None}, "count: needs a whole number from 0 to 9, not null"),
        ({"count": float("inf")}, "count: needs a whole number from 0 to 9, not inf"),
        ({"count": 1 << 20_000}, "count: needs a whole number from 0 to 9, not so large a number"),
        ({"count": "9" * 5000}, f"count: needs a whole number from 0 to 9, not '{'9' * 58}…"),
        ({"ratio": 0}, "ratio: needs a number greater than 0 and at most 1, not 0"),
        ({"ratio": float("nan")}, "ratio: needs a number greater than 0 and at most 1, not nan"),
        ({"ratio": 10**400}, "ratio: needs a number greater than 0 and at most 1, not so large a number"),
        ({"whole": 0}, "whole: needs a whole number of at least 1, not 0"),
        ({"whole": []}, "whole: needs a whole number of at least 1, not a list"),
        ({"on": "maybe"}, "on: needs true or false, not 'maybe'"),
        ({"on": 2}, "on: needs true or false, not 2"),
        ({"on": None}, "on: needs true or false, not null"),
        ({"decided": []}, "decided: needs true or false, not a list"),
        ({"name": 123}, "name: needs text, not a number; put it between quotes"),
        ({"name": True}, "name: needs text, not true or false; put it between quotes"),
        ({"name": None}, "name: needs text, not null; put it between quotes"),
        ({"label": "A"}, "label: needs lower-case letters"),
        ({"secret": 1234}, "secret: needs text, not a number; put it between quotes"),
        ({"mode": "loud"}, "mode: needs one of fast, slow, not 'loud'"),
        ({"mode": None}, "mode: needs one of fast, slow, not null"),
        ({"mode": {}}, "mode: needs one of fast, slow, not a mapping"),
        ({"wait": "0s"}, "wait: needs a duration greater than 0 seconds, not '0s'"),
        ({"room": "1B"}, "room: needs a size of at least 1024 bytes, not '1B'"),
        ({"part": None}, "part: needs a mapping with keys such as 'low', not null"),
        ({"part": "x"}, "part: needs a mapping with keys such as 'low', not text"),
        ({"maybe": []}, "maybe: needs a mapping with keys such as 'low', not a list"),
        ({"part": {"low": 3}}, "part: needs low <= high"),
        ({"parts": {"a": {"low": 3}}}, "parts.a: needs low <= high"),
        ({"parts": {"a": {"hihg": 3}}}, "parts.a.hihg: unknown key; did you mean 'high'?"),
        ({"parts": []}, "parts: needs a mapping, not a list"),
        ({"names": "ab"}, "names: needs a list, not text"),
        ({"names": {"a": 1}}, "names: needs a list, not a mapping"),
        ({"names": ["a", 1]}, "names.1: needs text, not a number; put it between quotes"),
        ({"rows": [{}, {"low": "x"}]}, "rows.1.low: needs a whole number, not 'x'"),
        ({"grants": {"r": "x"}}, "grants.r: needs a list, not text"),
        ({"zzzz": 1}, f"zzzz: unknown key; known here: {', '.join(sorted(Sample.__struct_fields__))}"),
        ({"colour": 1}, "colour: unknown key; its settings are under 'mode' here"),
        ({1: 1}, f"1: unknown key; known here: {', '.join(sorted(Sample.__struct_fields__))}"),
    ],
)  # fmt: skip
def test_value_that_cannot_be_used_is_refused_with_what_is_wanted(values: dict[str, Any], problem: str) -> None:
    assert problems(values) == [f"configuration: {problem}"]


def test_duration_and_size_that_cannot_be_read_say_what_can_be_written() -> None:
    wait, room, size = problems({"wait": "soon", "room": True, "sizes": {"a": []}})
    assert "wait: 'soon' is not a duration; write for example 30s" in wait
    assert "room: true is not a size; write for example 16MiB" in room
    assert "sizes.a: a list is not a size" in size


def test_key_that_has_no_default_is_missed_beside_every_other_problem() -> None:
    assert problems({"first": 1, "neded": "x"}, Strict) == [
        "configuration: first: needs text, not a number; put it between quotes",
        "configuration: needed: is missing, and has no default",
        "configuration: neded: unknown key; did you mean 'needed'?",
    ]


def test_rule_about_several_fields_waits_until_each_of_them_can_be_used() -> None:
    assert problems({"part": {"low": "x", "high": 0}}) == ["configuration: part.low: needs a whole number, not 'x'"]


def test_problem_names_the_nearest_source_that_is_known() -> None:
    origins = {("part",): "a file", ("part", "low"): "a variable"}
    with pytest.raises(ConfigError) as caught:
        Sample.read({"part": {"low": "x", "high": "y"}, "count": 10}, origins)
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        "configuration",
        "a variable",
        "a file",
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"security": {"tokens": "hunter2"}},
        {"security": {"tokens": ["hunter2"]}},
        {"grpc": {"port": {"token": "hunter2"}}},
        {"security": {"tokens": [{"token": ["hunter2"], "subject": "a"}]}},
        {"security": {"tokens": [{"token": "hunter2", "subject": ""}]}},
        {"io": {"providers": {"m": {"base_url": "ftp://user:hunter2@host"}}}},
        {"io": {"providers": {"m": {"base_url": "http://m", "headers": "Bearer hunter2"}}}},
        {"io": {"providers": {"m": {"base_url": "http://m", "headers": {"Authorization": ["hunter2"]}}}}},
    ],
)
def test_what_may_be_a_secret_is_in_no_message(values: dict[str, Any]) -> None:
    (problem,) = problems(values, EngineConfig)
    assert "hunter2" not in problem


def test_secret_shows_only_to_who_asks_for_it() -> None:
    secret = Secret("hunter2")
    assert secret.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{secret} {secret!r} {TokenConfig(token=secret, subject='a')!r}"
    assert secret == Secret("hunter2") != Secret("other")
    assert hash(secret) == hash(Secret("hunter2"))


def test_section_travels_to_another_process() -> None:
    config = EngineConfig.read(
        {"security": {"tokens": [{"token": "t", "subject": "a"}]}, "quotas": {"namespaces": {"a": {}}}}
    )
    assert pickle.loads(pickle.dumps(config)) == config


def test_section_made_or_changed_in_python_is_held_to_its_rules() -> None:
    storage = StorageConfig(path="a.db")
    assert storage.replace(cache_bytes=1 << 20) == StorageConfig(path="a.db", cache_bytes=1 << 20)
    with pytest.raises(ValueError, match="cannot store in 'redis'"):
        StorageConfig(path="redis://host")
    with pytest.raises(ValueError, match="path is empty"):
        storage.replace(path="")
    with pytest.raises(TypeError):
        storage.replace(pth="")
    with pytest.raises(ValueError, match="exactly one of"):
        TokenConfig(subject="a")


def test_sections_do_not_share_what_they_hold() -> None:
    assert Sample().sizes is not Sample().sizes
