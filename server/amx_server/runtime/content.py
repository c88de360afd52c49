"""Messages as JSON, for user code that looks at other people's messages: routers and monitors."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from amx.v1 import common_pb2, message_pb2

RESULT_TYPE = "application/vnd.amx.result+json"


def value_of(payload: common_pb2.Payload) -> Any:
    """The payload's JSON value; base64 text if it is not JSON; None if it is empty."""
    data = payload.data
    if not data:
        return None
    kind = payload.content_type
    if not kind or kind == "application/json" or kind.endswith("+json"):
        try:
            return _parsed(data)
        except (ValueError, RecursionError):
            pass  # what its handler refuses must not keep others from hearing of it
    return base64.b64encode(data).decode()


def _parsed(data: bytes) -> Any:
    """The value of a JSON text that can be written as JSON again: no NaN, no infinity, no lone surrogates."""
    value = json.loads(data, parse_float=_finite, parse_constant=_refuse)
    if b"\\u" in data:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value in (math.inf, -math.inf):
        raise ValueError(f"{text} is out of range")
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def describe(message: message_pb2.Message) -> dict[str, Any]:
    """A message as routers and monitors see it."""
    return {
        "id": message.message_id,
        "type": message.type,
        "source": message.source,
        "sender": message.sender,
        "priority": common_pb2.Priority.Name(message.priority or common_pb2.PRIORITY_NORMAL).removeprefix("PRIORITY_"),
        "agent": message.agent,
        "key": message.key,
        "handler": message.handler,
        "topic": message.topic,
        "headers": dict(message.headers),
        "content": value_of(message.payload),
    }


def outcome(payload: common_pb2.Payload | None, failure: common_pb2.Failure | None) -> dict[str, Any]:
    """What became of a message, as monitors see it: status, error_type, message, data."""
    if failure is not None:
        return {"status": "error", "error_type": failure.reason, "message": failure.message, "data": None}
    value = value_of(payload) if payload is not None else None
    if payload is not None and payload.content_type == RESULT_TYPE and isinstance(value, dict):
        facts = value.get("metadata")
        kind = facts.get("error_type") if isinstance(facts, dict) else None
        return {"error_type": kind, "message": None, "data": None, **value}
    return {"status": "success", "error_type": None, "message": None, "data": value}
