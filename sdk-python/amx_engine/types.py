"""The values handlers and senders work with. Everything here is re-exported by `amx_engine` too."""

from __future__ import annotations

from amx_engine._context import Context, current_context
from amx_engine._errors import AmxError, DefinitionError, HandlerError, InvalidInput
from amx_engine._message import AgentReference, Message, Priority
from amx_engine._pipeline import NotificationService, PipelineContext
from amx_engine._result import ProcessingResult
from amx_engine._schema import Int64
from amx_engine._values import InvalidValue

__all__ = [
    "AgentReference",
    "AmxError",
    "Context",
    "DefinitionError",
    "HandlerError",
    "Int64",
    "InvalidInput",
    "InvalidValue",
    "Message",
    "NotificationService",
    "PipelineContext",
    "Priority",
    "ProcessingResult",
    "current_context",
]
