"""ProcessingResult: the outcome an agent reports as a value. Exceptions are the other way to fail; see `_errors`."""

from __future__ import annotations

from typing import Any, Literal

from amx.v1 import common_pb2
from amx_engine._message import decode_payload
from amx_engine._values import RESULT_JSON, InvalidValue, decode, encode

Status = Literal["success", "warning", "error"]

_STATUSES = ("success", "warning", "error")


class ProcessingResult:
    """What became of a message: a status, data, a text for people, and metadata.

    An `error` result is still a result: it is committed and not retried. Raise an exception to fail the message.
    """

    __slots__ = ("data", "message", "metadata", "status")

    def __init__(
        self,
        status: Status = "success",
        data: Any = None,
        message: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if status not in _STATUSES:
            raise ValueError(f"status is {status!r}; expected one of {', '.join(_STATUSES)}")
        self.status: Status = status
        self.data = data
        self.message = message
        self.metadata: dict[str, Any] = {} if metadata is None else metadata

    @classmethod
    def success(cls, data: Any = None, message: str = "", **metadata: Any) -> ProcessingResult:
        """It worked. Further keywords become metadata."""
        return cls("success", data, message, metadata)

    @classmethod
    def warning(cls, message: str = "", data: Any = None, **metadata: Any) -> ProcessingResult:
        """It worked, but someone should know something. Further keywords become metadata."""
        return cls("warning", data, message, metadata)

    @classmethod
    def error(
        cls, message: str = "", data: Any = None, *, error_type: str = "PROCESSING_ERROR", **metadata: Any
    ) -> ProcessingResult:
        """It did not work, for a reason that repeating would not change. Further keywords become metadata."""
        return cls("error", data, message, {"error_type": error_type, **metadata})

    @property
    def is_success(self) -> bool:
        """Whether the status is not `error`; a warning is a success."""
        return self.status != "error"

    @property
    def is_warning(self) -> bool:
        """Whether the status is `warning`."""
        return self.status == "warning"

    @property
    def is_error(self) -> bool:
        """Whether the status is `error`."""
        return self.status == "error"

    @property
    def error_type(self) -> str | None:
        """UPPER_SNAKE kind of the error, or None."""
        kind = self.metadata.get("error_type")
        return kind if isinstance(kind, str) else None

    def to_payload(self) -> tuple[str, bytes]:
        """(content type, data) as it travels. Raises InvalidValue if the data has no JSON form."""
        return RESULT_JSON, encode(
            {"status": self.status, "data": self.data, "message": self.message, "metadata": self.metadata}
        )

    @classmethod
    def from_payload(cls, payload: common_pb2.Payload) -> ProcessingResult:
        """The result in a reply. Any other value becomes the data of a success."""
        if payload.content_type != RESULT_JSON:
            return cls("success", decode_payload(payload))
        fields = decode(payload.data)
        if not isinstance(fields, dict) or fields.get("status") not in _STATUSES:
            raise InvalidValue("the reply claims to be a processing result but has no valid status", "status")
        metadata = fields.get("metadata")
        return cls(
            fields["status"],
            fields.get("data"),
            str(fields.get("message") or ""),
            metadata if isinstance(metadata, dict) else {},
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProcessingResult):
            return NotImplemented
        return (self.status, self.data, self.message, self.metadata) == (
            other.status,
            other.data,
            other.message,
            other.metadata,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = [repr(self.status)]
        for name in ("data", "message", "metadata"):
            value = getattr(self, name)
            if value not in (None, "", {}):
                parts.append(f"{name}={value!r}")
        return f"ProcessingResult({', '.join(parts)})"


def decode_reply(payload: common_pb2.Payload) -> Any:
    """The value of a reply or chunk; a ProcessingResult if that is what was returned."""
    if payload.content_type == RESULT_JSON:
        return ProcessingResult.from_payload(payload)
    return decode_payload(payload)
