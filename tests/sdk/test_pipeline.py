"""Pipelines: order, results, failures, error handlers, alerts."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from amx.v1 import agent_pb2, common_pb2, link_pb2, memory_pb2, message_pb2
from amx_engine import AmxError, Context, DefinitionError, HandlerError, Message, Pipeline, error_handler, memory, stage
from amx_engine._calls import SubscriptionCall
from amx_engine._definition import HostedAgent
from amx_engine.types import PipelineContext


class Published:
    """An engine that takes events and remembers them."""

    def __init__(self) -> None:
        self.events: list[message_pb2.Event] = []

    async def publish(
        self, event: message_pb2.Event, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> link_pb2.Published:
        self.events.append(event)
        return link_pb2.Published(event_id="e", subscribers=2)

    async def send(self, *args: Any, **options: Any) -> link_pb2.Accepted:
        raise NotImplementedError

    async def request(self, *args: Any, **options: Any) -> common_pb2.Payload:
        raise NotImplementedError

    def stream(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError

    async def broadcast(self, *args: Any, **options: Any) -> message_pb2.BroadcastResult:
        raise NotImplementedError

    async def memory(self, *args: Any, **options: Any) -> memory_pb2.MemoryOperationResult:
        raise NotImplementedError

    async def subscribe(self, *args: Any, **options: Any) -> SubscriptionCall:
        raise NotImplementedError

    def unsubscribe(self, call: SubscriptionCall) -> None:
        raise NotImplementedError


async def run(cls: type, content: Any = None, engine: Published | None = None, **config: Any) -> Any:
    hosted = HostedAgent.of(cls)
    handler = hosted.handlers["run"]
    message = Message(content)
    context = Context(message, agent=hosted.name, calls=engine, config=config)
    return await handler.function(hosted.new_instance("default"), *handler.arguments(message, context))


async def test_stages_run_in_order_and_see_what_was_before() -> None:
    @Pipeline(name="Sums")
    class Sums:
        @memory
        def runs(self) -> int:
            return 0

        @stage(order=2)
        def double(self, context: PipelineContext) -> int:
            assert threading.current_thread() is not threading.main_thread()
            assert context.current_stage == "double"
            return int(context.previous_result) * 2

        @stage(order=1)
        async def total(self, context: PipelineContext) -> int:
            assert not hasattr(context, "partial_results")
            assert context.previous_result == context.input == [1, 2]
            return int(sum(context.input)) + int(context.config["offset"])

        @stage(order=3)
        async def finish(self, context: PipelineContext) -> dict[str, Any]:
            self.runs += 1
            assert context.results == context.partial_results == {"total": 13, "double": 26}
            return {"sum": context.previous_result, "runs": self.runs}

    definition = HostedAgent.of(Sums).definition
    assert definition.kind == agent_pb2.AGENT_KIND_PIPELINE
    assert [one.name for one in definition.handlers] == ["run"] and definition.default_handler == "run"
    assert [one.name for one in definition.memories] == ["runs"]
    assert await run(Sums, [1, 2], offset=10) == {"sum": 26, "runs": 1}


async def test_bare_stages_run_as_written() -> None:
    @Pipeline
    class Written:
        @stage
        async def b(self) -> list[str]:
            return ["b"]

        @stage
        async def a(self, context: PipelineContext) -> list[str]:
            return [*context.previous_result, "a"]

    assert await run(Written) == ["b", "a"]


async def test_a_failure_without_error_handler_names_the_stage_and_keeps_the_cause() -> None:
    @Pipeline
    class Failing:
        @stage(order=1)
        async def fine(self) -> int:
            return 1

        @stage(order=2)
        async def broken(self) -> int:
            raise KeyError("amount")

    with pytest.raises(AmxError, match=r"'Failing' failed at stage 'broken'.*amount") as caught:
        await run(Failing)
    assert caught.value.reason == "PIPELINE_STAGE_FAILED" and caught.value.retryable
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.metadata == {"pipeline": "Failing", "stage": "broken"}


async def test_a_named_failure_keeps_its_name() -> None:
    @Pipeline
    class Failing:
        @stage
        async def broken(self) -> int:
            raise HandlerError("none left", reason="SOLD_OUT")

    with pytest.raises(AmxError) as caught:
        await run(Failing)
    assert caught.value.reason == "SOLD_OUT" and not caught.value.retryable


@pytest.mark.parametrize("failing", ["first", "second"])
async def test_the_error_handler_decides_the_result(failing: str) -> None:
    @Pipeline
    class Handled:
        @stage(order=1)
        async def first(self) -> int:
            if failing == "first":
                raise ValueError("boom")
            return 1

        @stage(order=2)
        async def second(self) -> int:
            raise ValueError("boom")

        @error_handler
        async def handle(self, context: PipelineContext, error: Exception) -> Any:
            assert context.current_stage == failing and str(error) == "boom"
            context.logger.error("failed at %s", context.current_stage)
            await context.notification_service.send_alert(
                channel="data-engineering", message=f"failed: {error}", severity="high"
            )
            return context.partial_results if hasattr(context, "partial_results") else None

    engine = Published()
    assert await run(Handled, engine=engine) == (None if failing == "first" else {"first": 1})
    (event,) = engine.events
    assert event.topic == "alerts.data-engineering"
    assert dict(event.attributes) == {"severity": "high", "source": "Handled/default"}


async def test_a_stage_that_takes_too_long_fails_by_name() -> None:
    @Pipeline
    class Slow:
        @stage(timeout=timedelta(milliseconds=1))
        async def wait(self) -> None:
            await asyncio.Event().wait()

    with pytest.raises(AmxError, match="did not end within") as caught:
        await run(Slow)
    assert caught.value.reason == "DEADLINE_EXCEEDED"


def no_stages() -> Any:
    @Pipeline
    class Nothing: ...

    return Nothing


def same_order() -> Any:
    @Pipeline
    class Same:
        @stage(order=1)
        async def a(self) -> None: ...

        @stage(order=1)
        async def b(self) -> None: ...

    return Same


def two_error_handlers() -> Any:
    @Pipeline
    class Twice:
        @stage
        async def a(self) -> None: ...

        @error_handler
        async def b(self, context: Any, error: Any) -> None: ...

        @error_handler()
        async def c(self, context: Any, error: Any) -> None: ...

    return Twice


def wrong_parameters() -> Any:
    @Pipeline
    class Wrong:
        @stage
        async def a(self, one: Any, two: Any) -> None: ...

    return Wrong


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_stages, "no stages"),
        (same_order, "same order"),
        (two_error_handlers, "keep one"),
        (wrong_parameters, "takes self and context"),
    ],
)
def test_pipelines_that_cannot_be_say_why(make: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        HostedAgent.of(make())
