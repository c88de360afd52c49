"""Outbound operations: shared, cached, batched, limited, repeated, streamed to many, and accounted for.

`IoManager` is the way in; `HttpProvider`, `Files` and `Tools` are what it drives, and anything else that is a
`Provider`. Knows nothing of agents but their names.
"""

from amx_server.inference.io.accounting import CacheStats, IoStats, ProviderStats, Wait, WaitObserver
from amx_server.inference.io.concurrency import ConcurrencyPolicy
from amx_server.inference.io.files import FileContent, Files
from amx_server.inference.io.flights import Call, Stream
from amx_server.inference.io.http import HttpProvider, HttpRequest, HttpResponse
from amx_server.inference.io.manager import IoConfig, IoManager
from amx_server.inference.io.operations import (
    BACKGROUND,
    CRITICAL,
    HIGH,
    LOW,
    NOBODY,
    NORMAL,
    Operation,
    Response,
    Waiter,
    WaitReason,
    address,
    canonical_json,
)
from amx_server.inference.io.programs import Program, ProgramResult
from amx_server.inference.io.providers import BatchPolicy, Provider, ProviderPolicy
from amx_server.inference.io.retries import RetryPolicy
from amx_server.inference.io.sse import ServerEvent
from amx_server.inference.io.tools import Tool, Tools

__all__ = [
    "BACKGROUND",
    "CRITICAL",
    "HIGH",
    "LOW",
    "NOBODY",
    "NORMAL",
    "BatchPolicy",
    "CacheStats",
    "Call",
    "ConcurrencyPolicy",
    "FileContent",
    "Files",
    "HttpProvider",
    "HttpRequest",
    "HttpResponse",
    "IoConfig",
    "IoManager",
    "IoStats",
    "Operation",
    "Program",
    "ProgramResult",
    "Provider",
    "ProviderPolicy",
    "ProviderStats",
    "Response",
    "RetryPolicy",
    "ServerEvent",
    "Stream",
    "Tool",
    "Tools",
    "Wait",
    "WaitObserver",
    "WaitReason",
    "Waiter",
    "address",
    "canonical_json",
]
