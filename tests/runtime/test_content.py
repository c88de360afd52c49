"""Payloads as routers and monitors see them: JSON where it can be written again, base64 text where it cannot."""

from __future__ import annotations

import base64
import json

import pytest

from amx.v1 import common_pb2
from amx_server.runtime.content import value_of


@pytest.mark.parametrize("text", ['{"a":[1,null,true]}', '"\\ud83d\\ude00"', '"\\u00e9"', "1.5", "-0"])
def test_json_is_seen_as_its_value(text: str) -> None:
    assert value_of(common_pb2.Payload(data=text.encode())) == json.loads(text)


@pytest.mark.parametrize("data", [b"{", b'"\\ud800"', b"NaN", b"1e400", b"\xff", b"[" * 200_000])
def test_what_has_no_json_form_is_seen_as_base64(data: bytes) -> None:
    assert value_of(common_pb2.Payload(data=data)) == base64.b64encode(data).decode()


def test_no_value_is_none() -> None:
    assert value_of(common_pb2.Payload()) is None
