"""The fixtures of conformance/README.md, but for the Interpreter, as agents of the Python SDK."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, TypedDict

from amx_engine import (
    Agent,
    AgentReference,
    BaseMessageRouter,
    BasePerformanceMonitor,
    Child,
    Context,
    HandlerError,
    Int64,
    Message,
    MessageRouter,
    PerformanceMonitor,
    ProcessingResult,
    Supervisor,
    handler,
    memory,
    requires_permission,
    scheduled,
    subscribe,
)
from conformance.testees.python.failures import raised
from conformance.testees.python.names import named
from conformance.testees.python.waiting import waiting

observed: list[list[str]] = []  # what the Monitor of this process remembers


class Color(Enum):
    RED = 1
    GREEN = 2
    BLUE = 3


class Nested(TypedDict, total=False):
    name: str
    depth: int


class Typed(TypedDict, total=False):
    text: str
    flag: bool
    small: int
    large: Int64
    ratio: float
    amount: Decimal
    data: bytes
    at: datetime
    on: date
    lasting: timedelta
    color: Color
    tags: list[str]
    scores: dict[str, int]
    nested: Nested
    maybe: str | None


@Agent(name=named("Echo"))
class Echo:
    @handler(default=True)
    async def echo(self, content: Any) -> Any:
        return content

    @handler
    async def typed(self, value: Typed) -> Typed:
        return value

    @handler
    async def describe(self, message: Message, context: Context) -> dict[str, Any]:
        return {
            "agent": context.agent,
            "key": context.key,
            "handler": message.handler,
            "type": message.type,
            "headers": dict(message.headers),
            "source": message.source,
            "sender": message.sender,
            "priority": message.priority.name,
            "message_id": message.id,
            "attempt": context.attempt,
            "traceparent": message.traceparent,
            "content": message.content,
        }

    @handler
    async def nothing(self) -> None: ...

    @handler
    @requires_permission("conformance.guard")
    async def guarded(self) -> str:
        return "open"


@Agent(name=named("Counter"))
class Counter:
    total: int = memory(persistent=True, default=0)

    @handler
    async def increment(self, n: int = 1) -> int:
        self.total += n
        return self.total

    @handler(name="total", default=True)
    async def read_total(self) -> int:
        return self.total

    @handler
    async def fail_after_increment(self, n: int = 1) -> None:
        self.total += n
        raise HandlerError("failed after the increment, as it was asked to", reason="OOPS")


@Agent(name=named("Failing"))
class Failing:
    @handler(default=True)
    async def fail(self, what: dict[str, Any]) -> None:
        raise raised(what)

    @handler
    async def result(self, what: dict[str, Any]) -> ProcessingResult:
        return ProcessingResult(**what)


@Agent(name=named("Slow"))
class Slow:
    @handler(default=True)
    async def wait(self) -> str:
        return await waiting.wait()

    @handler(concurrent=True)
    async def hold(self) -> str:
        return await waiting.wait()

    @handler(concurrent=True)
    async def release(self) -> int:
        return waiting.release()

    @handler(concurrent=True)
    async def cancelled(self) -> int:
        return waiting.cancelled


@Agent(name=named("Stream"))
class Stream:
    @handler(default=True)
    async def count(self, to: int, fail_at: int | None = None) -> AsyncIterator[int]:
        for i in range(to):
            if i == fail_at:
                raise HandlerError(f"failed in place of chunk {i}, as it was asked to", reason="BROKEN")
            yield i

    @handler
    async def endless(self) -> AsyncIterator[int]:
        i = 0
        while True:
            yield i
            i += 1


class Pause(TypedDict):
    ms: int


@Agent(name=named("Blocking"))
class Blocking:
    @handler(default=True, execution="thread")
    def block(self, pause: Pause) -> str:
        time.sleep(pause["ms"] / 1000)
        return "done"

    @handler(execution="process")
    def block_process(self, pause: Pause) -> str:
        time.sleep(pause["ms"] / 1000)
        return "done"

    @handler(execution="loop")
    async def block_loop(self, pause: Pause) -> str:
        time.sleep(pause["ms"] / 1000)  # noqa: ASYNC251 (that is the point of it)
        return "done"


@Agent(name=named("Scheduled"))
class Scheduled:
    count: int = memory(persistent=True, default=0)

    @scheduled(name="mornings", cron="0 30 6 * * MON-FRI", zone="Europe/Berlin", missed="skip")
    @scheduled(
        name="after-rest", fixed_delay=timedelta(milliseconds=30_000), initial_delay=timedelta(milliseconds=5_000)
    )
    @scheduled(name="every-minute", interval=timedelta(milliseconds=60_000))
    async def tick(self) -> int:
        self.count += 1
        return self.count

    @handler(default=True)
    async def ticks(self) -> int:
        return self.count


@Agent(
    name=named("Overseer"),
    supervisor=Supervisor(
        Child("Ward"),
        Child("Orderly", key="*", restart="transient", on_restart="report"),
        Child("Visitor", key="guest", restart="temporary"),
        strategy="rest_for_one",
        max_restarts=5,
        within=timedelta(seconds=10),
        max_backoff=timedelta(seconds=2),
    ),
)
class Overseer:
    @handler
    async def watch(self) -> str:
        return "watching"


@MessageRouter(name=named("Router"), order=10)
class Router(BaseMessageRouter):
    async def route(self, message: Message) -> AgentReference | None:
        if message.type != "conformance.route":
            return None
        where = message.content
        return self.find_agent(where["agent"], where.get("key") or "default", where.get("handler") or "")


@PerformanceMonitor(name=named("Monitor"))
class Monitor(BasePerformanceMonitor):
    async def on_message_processed(
        self, agent_name: str, message: Message, result: ProcessingResult, duration: timedelta
    ) -> None:
        if agent_name.endswith("Echo"):
            observed.append([agent_name, message.handler, result.status])


@Agent(name=named("Listener"), groups="conformance", labels={"tier": "gold"})
class Listener:
    seen: list[Any] = memory(persistent=True, default_factory=list)

    @subscribe("conformance.events.*", filter="level in (high, critical)")
    async def on_event(self, content: Any) -> None:
        if content == "fail":
            raise HandlerError("refused, as it was asked to", reason="REFUSED")
        self.seen.append(content)

    @handler(name="seen", default=True)
    async def read_seen(self) -> list[Any]:
        return list(self.seen)

    @handler
    async def observed(self) -> list[list[str]]:
        return observed
