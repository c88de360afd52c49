"""Errors as the fixtures raise and show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amx_engine import AmxError, HandlerError


def raised(said: Mapping[str, Any]) -> Exception:
    """The exception that `Failing.fail` and the operation `raise` are asked for, with its cause."""
    message = str(said.get("message") or "")
    error: Exception
    if said.get("reason"):
        known = {name: said[name] for name in ("reason", "code", "retryable", "metadata", "details") if name in said}
        error = HandlerError(message, **known)
    else:
        error = RuntimeError(message)
    if said.get("cause"):
        error.__cause__ = raised(said["cause"])
    return error


def shown(error: BaseException) -> dict[str, Any]:
    """An error as the Interpreter shows it, without what is empty."""
    if not isinstance(error, AmxError):
        fields: dict[str, Any] = {"code": 2, "reason": "HANDLER_FAILED", "message": str(error) or type(error).__name__}
        fields["retryable"] = True
    else:
        fields = {
            "code": error.code,
            "reason": error.reason,
            "message": error.message,
            "retryable": error.retryable,
            "metadata": error.metadata,
            "details": list(error.details),
            "source": error.source,
        }
    if error.__cause__ is not None:
        fields["cause"] = shown(error.__cause__)
    return {name: value for name, value in fields.items() if value not in (None, "", False, {}, [])}
