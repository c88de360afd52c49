"""AMX Engine for Python: agents as plain annotated classes.

Decorate a class with `Agent` and its methods with `handler`, `memory`, `capability` and `scheduled`; host it and talk
to it with `AmxEngine`. Everything public is here and in `amx_engine.types`, `amx_engine.connectors` and
`amx_engine.testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amx_engine._broadcast import Scope
from amx_engine._capability import capability
from amx_engine._context import Context, current_context
from amx_engine._decorators import (
    Agent,
    CircuitBreaker,
    MessageRouter,
    PerformanceMonitor,
    Pipeline,
    Retry,
    error_handler,
    handler,
    message_router,
    performance_monitor,
    requires_permission,
    scheduled,
    stage,
    subscribe,
)
from amx_engine._errors import AmxError, DefinitionError, HandlerError, InvalidInput
from amx_engine._memory import expire, memory
from amx_engine._message import AgentReference, Message, Priority
from amx_engine._pipeline import NotificationService, PipelineContext
from amx_engine._receipts import Publication, Receipt
from amx_engine._result import ProcessingResult
from amx_engine._routing import BaseMessageRouter, BasePerformanceMonitor
from amx_engine._run import run
from amx_engine._schema import Int64
from amx_engine._supervision import Child, Supervisor
from amx_engine._version import VERSION

if TYPE_CHECKING:
    from amx_engine._client import AmxEngine

__version__ = VERSION

__all__ = [
    "Agent",
    "AgentReference",
    "AmxEngine",
    "AmxError",
    "BaseMessageRouter",
    "BasePerformanceMonitor",
    "Child",
    "CircuitBreaker",
    "Context",
    "DefinitionError",
    "HandlerError",
    "Int64",
    "InvalidInput",
    "Message",
    "MessageRouter",
    "NotificationService",
    "PerformanceMonitor",
    "Pipeline",
    "PipelineContext",
    "Priority",
    "ProcessingResult",
    "Publication",
    "Receipt",
    "Retry",
    "Scope",
    "Supervisor",
    "capability",
    "current_context",
    "error_handler",
    "expire",
    "handler",
    "memory",
    "message_router",
    "performance_monitor",
    "requires_permission",
    "run",
    "scheduled",
    "stage",
    "subscribe",
]


_CLIENT = ("AmxEngine",)


def __getattr__(name: str) -> Any:
    # The client brings grpc with it; declaring agents does not need that.
    if name in _CLIENT:
        from amx_engine import _client

        return getattr(_client, name)
    raise AttributeError(f"module 'amx_engine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_CLIENT})
