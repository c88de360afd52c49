"""The one-pass schema check against the library's check by meta-schema."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from amx_server.runtime.schemas import schema_problem

SIMPLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([0.5, 2.0, -1.5]),
    st.sampled_from(["", "string", "integer", "object", "a"]),
    st.lists(st.sampled_from(["a", "b", "null", "number", 1]), max_size=3),
    st.dictionaries(st.sampled_from("ab"), st.lists(st.sampled_from(["a", "b"]), max_size=2), max_size=2),
)
KEYWORDS = sorted(
    (Draft202012Validator.VALIDATORS.keys() - {"$ref", "$dynamicRef"})
    | {"$comment", "$defs", "contentEncoding", "contentMediaType", "contentSchema", "default", "deprecated"}
    | {"description", "else", "examples", "maxContains", "minContains", "readOnly", "then", "title", "writeOnly"}
)


def schemas(depth: int) -> st.SearchStrategy[object]:
    if not depth:
        return SIMPLE
    inner = schemas(depth - 1)
    values = st.one_of(SIMPLE, inner, st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner))
    keywords = st.sampled_from([*KEYWORDS, "definitions", "unknown"])
    return st.one_of(st.dictionaries(keywords, values, max_size=3), SIMPLE)


@settings(max_examples=300, deadline=None)
@given(schemas(2))
def test_schema_check_agrees_with_the_meta_schema(schema: object) -> None:
    try:
        Draft202012Validator.check_schema(schema)  # type: ignore[arg-type]
    except SchemaError as error:
        accepted, why = False, str(error)
    else:
        accepted, why = True, ""
    assert (schema_problem(json.dumps(schema)) is None) == accepted, why


VALUES: list[object] = [
    None,
    True,
    0,
    1,
    1.5,
    2.0,
    -1,
    "",
    "string",
    [],
    ["a"],
    ["a", "a"],
    ["null"],
    [{}],
    {},
    {"a": ["b"]},
    {"a": {}},
]


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_schema_check_knows_every_keyword(keyword: str) -> None:
    for value in VALUES:
        schema = {keyword: value}
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError:
            assert schema_problem(json.dumps(schema)) is not None, value
        else:
            assert schema_problem(json.dumps(schema)) is None, value


def test_schema_problem_says_where() -> None:
    schema = {"properties": {"to": {"anyOf": [{}, {"minLength": -1}]}}}
    problem = "at $.properties.to.anyOf[1].minLength: it must be a whole number from 0, not -1"
    assert schema_problem(json.dumps(schema)) == problem
    assert schema_problem(json.dumps(schema)) == problem  # remembered


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"const": NaN}', "NaN"),
        ('{"$ref": "#/properties/a/type", "properties": {"a": {"type": "string"}}}', "refers to nothing"),
        ('{"$ref": "#/allOf/999999999999", "allOf": [true]}', "refers to nothing"),
        ('{"$ref": 5}', "must be a string"),
        ('{"$defs": {"a": {"$id": "x"}}}', "only the whole schema"),
        (" " * 300_000, "300000 characters"),
    ],
)
def test_schema_that_cannot_stand_alone_is_refused(text: str, words: str) -> None:
    assert words in (schema_problem(text) or "")
