"""Decorators: what they make of classes, bare and with arguments, and what they refuse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pytest

from amx.v1 import agent_pb2, common_pb2
from amx_engine import (
    Agent,
    AgentReference,
    AmxError,
    BaseMessageRouter,
    BasePerformanceMonitor,
    Child,
    CircuitBreaker,
    Context,
    DefinitionError,
    Message,
    MessageRouter,
    PerformanceMonitor,
    Priority,
    ProcessingResult,
    Retry,
    Supervisor,
    capability,
    handler,
    memory,
    message_router,
    performance_monitor,
    requires_permission,
    scheduled,
    subscribe,
)
from amx_engine._context import reset_current, set_current
from amx_engine._definition import HostedAgent


def definition_of(handler_name: str, hosted: HostedAgent) -> agent_pb2.HandlerDefinition:
    return next(one for one in hosted.definition.handlers if one.name == handler_name)


def test_bare_decorators_take_names_from_the_code() -> None:
    @Agent
    class Greeter:
        """Greets.

        At length.
        """

        @handler
        async def greet(self, message: Message) -> str:
            """Says hello."""
            return "hello"

    hosted = HostedAgent.of(Greeter)
    assert (hosted.name, hosted.version) == ("Greeter", "1.0.0")
    assert hosted.definition.description == "Greets."
    assert hosted.definition.kind == agent_pb2.AGENT_KIND_AGENT
    described = definition_of("greet", hosted)
    assert described.description == "Says hello."
    assert described.output_schema == '{"type":"string"}'
    message = Message()
    assert hosted.handlers["greet"].arguments(message, None) == (message,)
    assert HostedAgent.of(Greeter) is hosted


def test_decorators_with_arguments_say_everything() -> None:
    @Agent(
        name="orders",
        version="2.1.0-rc.1",
        description="Takes orders.",
        groups=["shop"],
        labels={"tier": "gold"},
        idle_timeout="5m",
        mailbox_capacity=10,
    )
    @requires_permission("orders:read")
    class Orders:
        @requires_permission("orders:write")
        @handler(
            name="place",
            retry=Retry(attempts=3, initial=timedelta(seconds=1), multiplier=1.5, maximum="60s", never=("SOLD_OUT",)),  # type: ignore[arg-type]
            durable=True,
            timeout=timedelta(seconds=2),
            topics=["orders.*"],
            filter="region = eu",
            types="order_placed",
            default=True,
            circuit_breaker=CircuitBreaker(failures=3, rest=timedelta(seconds=9)),
        )
        @subscribe("audit.**", "audit.orders")
        def take(self, message: Message) -> None: ...

        @handler(concurrent=True, durable=False, retry=1, circuit_breaker=False)
        async def look(self) -> int:
            return 1

    hosted = HostedAgent.of(Orders)
    definition = hosted.definition
    assert definition.groups == ["shop"] and dict(definition.labels) == {"tier": "gold"}
    assert definition.idle_timeout_ms == 300_000 and definition.mailbox_capacity == 10
    assert definition.default_handler == "place"
    place = definition_of("place", hosted)
    assert place.retry.max_attempts == 3 and place.retry.initial_backoff_ms == 1000
    assert place.retry.max_backoff_ms == 60_000 and place.retry.non_retryable_reasons == ["SOLD_OUT"]
    assert place.durability == common_pb2.DURABILITY_DURABLE and place.timeout_ms == 2000
    assert place.message_types == ["order_placed"]
    assert place.permissions == ["orders:read", "orders:write"]
    assert [(one.pattern, one.filter) for one in place.subscriptions] == [
        ("audit.**", ""),
        ("audit.orders", ""),
        ("orders.*", "region = eu"),
    ]
    assert place.circuit_breaker.failure_threshold == 3 and place.circuit_breaker.open_ms == 9000
    look = definition_of("look", hosted)
    assert look.concurrent and look.durability == common_pb2.DURABILITY_VOLATILE
    assert look.retry.max_attempts == 1 and look.circuit_breaker.disabled
    assert hosted.handlers["place"].style == "sync" and hosted.handlers["look"].style == "async"


def test_scheduled_methods_become_schedules_of_their_handlers() -> None:
    @Agent
    class Clock:
        @scheduled(interval=timedelta(hours=6))
        async def every(self) -> None: ...

        @scheduled(fixed_delay="30s", initial_delay="1s", missed="skip", key="main")
        async def after(self) -> None: ...

        @scheduled(cron="0 0 3 * * *", zone="Europe/Vienna", missed="run_all", name="nightly")
        @handler(name="night")
        async def by_cron(self) -> None: ...

        @scheduled
        async def bare(self) -> None: ...

    schedules = {one.name: one for one in HostedAgent.of(Clock).definition.schedules}
    assert schedules["every"].fixed_rate_ms == 6 * 3600 * 1000 and schedules["every"].handler == "every"
    assert schedules["after"].fixed_delay_ms == 30_000 and schedules["after"].initial_delay_ms == 1000
    assert schedules["after"].missed == agent_pb2.MISSED_RUNS_SKIP and schedules["after"].key == "main"
    assert schedules["nightly"].cron == "0 0 3 * * *" and schedules["nightly"].time_zone == "Europe/Vienna"
    assert schedules["nightly"].handler == "night"
    assert schedules["bare"].fixed_rate_ms == 60_000


@dataclass
class Item:
    price: float


@dataclass
class Order:
    items: list[Item]


def test_parameters_are_filled_by_annotation() -> None:
    @Agent
    class Parameters:
        @handler
        async def whole(self, order: Order) -> None: ...

        @handler
        async def members(self, order: Order, count: int, note: str = "none") -> None: ...

        @handler
        async def mixed(self, message: Message, order: Order, context: Context) -> None: ...

        @handler
        async def bare(self, text, ctx) -> None: ...  # type: ignore[no-untyped-def]

        @handler
        async def optional(self, limit: int = 10) -> None: ...

        @handler
        async def nothing(self) -> None: ...

    handlers = HostedAgent.of(Parameters).handlers
    content = {"items": [{"price": 1.5}]}
    order = Order([Item(1.5)])
    message = Message(content)
    context = Context(message)
    assert handlers["whole"].arguments(message, None) == (order,)
    assert handlers["members"].arguments(Message({"order": content, "count": 2}), None) == (order, 2, "none")
    assert handlers["mixed"].arguments(message, context) == (message, order, context)
    assert handlers["mixed"].wants_context and not handlers["whole"].wants_context
    assert handlers["bare"].arguments(Message("hi"), context) == ("hi", context)
    assert handlers["optional"].arguments(Message(), None) == (10,)
    assert handlers["nothing"].arguments(message, None) == ()
    schema = json.loads(definition_of("members", HostedAgent.of(Parameters)).input_schema)
    assert schema["required"] == ["order", "count"]
    assert schema["properties"]["order"] == {"$ref": "#/$defs/Order"}


def test_input_that_does_not_fit_is_invalid_input_naming_the_field() -> None:
    @Agent
    class Taker:
        @handler
        async def take(self, order: Order, fast: bool) -> None: ...

    content = {"order": {"items": [{"price": 1}, {"price": 2}, {"price": "x"}]}, "fast": True}
    with pytest.raises(AmxError) as caught:
        HostedAgent.of(Taker).handlers["take"].arguments(Message(content), None)
    assert caught.value.reason == "INVALID_INPUT"
    assert caught.value.metadata == {"handler": "take", "field": "order.items[2].price"}
    assert not caught.value.retryable


def test_input_that_is_not_json_is_invalid_value() -> None:
    @Agent
    class Taker:
        @handler
        async def take(self, content: Any) -> None: ...

    message = Message(payload=b'{"a": 1, "a": 2}', content_type="application/json")
    with pytest.raises(AmxError) as caught:
        HostedAgent.of(Taker).handlers["take"].arguments(message, None)
    assert caught.value.reason == "INVALID_VALUE"
    assert "duplicate key 'a'" in caught.value.message


def test_results_are_encoded_and_checked_by_annotation() -> None:
    @Agent
    class Giver:
        @handler
        async def typed(self) -> Order | None: ...

        @handler
        async def anything(self): ...  # type: ignore[no-untyped-def]

        @handler
        async def nothing(self) -> None: ...

        @handler
        async def result(self) -> ProcessingResult: ...  # type: ignore[empty-body]

        @handler
        async def chunks(self) -> AsyncIterator[int]:
            yield 1

    handlers = HostedAgent.of(Giver).handlers
    assert handlers["typed"].encode_result(Order([Item(1)])) == ("application/json", b'{"items":[{"price":1.0}]}')
    assert handlers["typed"].encode_result(None) == ("", b"")
    assert handlers["anything"].encode_result({"a": 1}) == ("application/json", b'{"a":1}')
    assert handlers["anything"].encode_result(None) == ("", b"")
    assert handlers["anything"].encode_result(Message([1])) == ("application/json", b"[1]")
    assert handlers["nothing"].encode_result(None) == ("", b"")
    content_type, data = handlers["result"].encode_result(ProcessingResult.success({"a": 1}, from_cache=True))
    assert content_type == "application/vnd.amx.result+json"
    assert json.loads(data) == {"status": "success", "data": {"a": 1}, "message": "", "metadata": {"from_cache": True}}
    assert handlers["chunks"].style == "stream"
    assert handlers["chunks"].encode_chunk(1) == ("application/json", b"1")
    assert definition_of("chunks", HostedAgent.of(Giver)).output_schema == '{"type":"integer"}'
    for name, value, field in [
        ("typed", {"items": []}, ""),
        ("typed", Order([Item("x")]), "items[0].price"),  # type: ignore[arg-type]
        ("anything", {"a": {1, object()}}, "a"),
        ("nothing", 1, ""),
        ("chunks", "1", ""),
    ]:
        with pytest.raises(AmxError) as caught:
            handlers[name].encode_chunk(value) if name == "chunks" else handlers[name].encode_result(value)
        assert caught.value.reason == "INVALID_OUTPUT"
        assert caught.value.metadata["field"] == field


def test_annotations_of_classes_made_in_functions_are_resolved() -> None:
    @dataclass
    class Local:
        n: int

    @Agent
    class User:
        @handler
        async def take(self, local: Local) -> None: ...

    assert HostedAgent.of(User).handlers["take"].arguments(Message({"n": 1}), None) == (Local(1),)


def test_inherited_handlers_and_memories_belong_to_the_agent() -> None:
    class Base:
        @memory
        def seen(self) -> int:
            return 0

        @handler
        async def first(self) -> None: ...

        @handler
        async def dropped(self) -> None: ...

    @Agent
    class Derived(Base):
        dropped = None  # type: ignore[assignment]

        @handler
        async def second(self) -> None: ...

    hosted = HostedAgent.of(Derived)
    assert list(hosted.handlers) == ["first", "second"]
    assert list(hosted.memories) == ["seen"]


def undecorated() -> Any:
    class Plain:
        @handler
        async def run(self) -> None: ...

    return Plain


def subclass() -> Any:
    @Agent
    class Base:
        @handler
        async def run(self) -> None: ...

    class Derived(Base): ...

    return Derived


def no_handlers() -> Any:
    @Agent
    class Empty: ...

    return Empty


def two_defaults() -> Any:
    @Agent
    class Twice:
        @handler(default=True)
        async def a(self) -> None: ...

        @handler(default=True)
        async def b(self) -> None: ...

    return Twice


def bad_name() -> Any:
    @Agent(name="no spaces")
    class Named:
        @handler
        async def a(self) -> None: ...

    return Named


def bad_version() -> Any:
    @Agent(version="one")
    class Versioned:
        @handler
        async def a(self) -> None: ...

    return Versioned


def unresolved() -> Any:
    @Agent
    class Unresolved:
        @handler
        async def a(self, thing: Unheard) -> None: ...  # type: ignore[name-defined] # noqa: F821

    return Unresolved


def formless() -> Any:
    @Agent
    class Formless:
        @handler
        async def a(self, thing: asyncio.Queue[int]) -> None: ...

    return Formless


def permission_only() -> Any:
    @Agent
    class Guarded:
        @requires_permission("a:b")
        async def a(self) -> None: ...

    return Guarded


def generator() -> Any:
    @Agent
    class Generator:
        @handler
        def a(self) -> Any:
            yield 1

    return Generator


def staged() -> Any:
    from amx_engine import stage

    @Agent
    class Staged:
        @stage(order=1)
        async def a(self) -> None: ...

    return Staged


def threaded_coroutine() -> Any:
    @Agent
    class Waiting:
        @handler(execution="thread")
        async def a(self) -> None: ...

    return Waiting


def processed_stream() -> Any:
    @Agent
    class Streaming:
        @handler(execution="process")
        async def a(self) -> AsyncIterator[int]:
            yield 1

    return Streaming


def unheard_execution() -> Any:
    @Agent
    class Somewhere:
        @handler(execution=cast(Any, "gpu"))
        def a(self) -> None: ...

    return Somewhere


def test_where_a_handler_runs_is_in_its_definition() -> None:
    @Agent
    class Placed:
        @handler
        def unsaid(self) -> None: ...

        @handler(execution="loop")
        async def waits(self) -> None: ...

        @handler(execution="loop")
        def quick(self) -> None: ...

        @handler(execution="thread")
        def blocks(self) -> None: ...

        @handler(execution="process")
        def computes(self) -> None: ...

    hosted = HostedAgent.of(Placed)
    said = {one.name: agent_pb2.HandlerExecution.Name(one.execution) for one in hosted.definition.handlers}
    assert said == {
        "unsaid": "HANDLER_EXECUTION_UNSPECIFIED",
        "waits": "HANDLER_EXECUTION_LOOP",
        "quick": "HANDLER_EXECUTION_LOOP",
        "blocks": "HANDLER_EXECUTION_THREAD",
        "computes": "HANDLER_EXECUTION_PROCESS",
    }


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (threaded_coroutine, "Waiting.a is `async def`.*write it as a plain `def`"),
        (processed_stream, "Streaming.a is `async def`"),
        (unheard_execution, "'gpu' is none of 'loop', 'thread', 'process'"),
        (undecorated, "was it decorated with @Agent"),
        (subclass, "decorate it with @Agent too"),
        (no_handlers, "decorate a method with @handler"),
        (two_defaults, "choose one"),
        (bad_name, "letters, digits"),
        (bad_version, "semantic version"),
        (unresolved, "Unheard"),
        (formless, "parameter 'thing'.*has no JSON form"),
        (permission_only, "add @handler"),
        (generator, "async def"),
        (staged, "decorate it with @Pipeline"),
    ],
)
def test_definitions_that_cannot_be_name_culprit_and_cure(make: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        HostedAgent.of(make())


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: Agent("name"), "options are keywords"),  # type: ignore[call-overload]
        (lambda: handler(Retry(attempts=1)), "goes on a method"),  # type: ignore[call-overload]
        (lambda: requires_permission(), "needs permissions"),
        (lambda: requires_permission(print), "needs permissions"),  # type: ignore[arg-type]
        (lambda: subscribe(), "needs topic patterns"),
        (lambda: memory(default=[]), "default_factory=list"),
        (lambda: memory(default=1, default_factory=int), "not both"),  # type: ignore[call-overload]
        (lambda: Retry(attempts=0).to_proto(), "at least 1"),
    ],
)
def test_decorators_used_wrongly_say_so(use: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        use()


@pytest.mark.parametrize(
    "options",
    [{}, {"interval": timedelta(0)}, {"interval": "1s", "cron": "* * * * *"}, {"cron": "* *"}, {"interval": "soon"}],
)
def test_schedules_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(AmxError):
        scheduled(**options)(lambda self: None)


class Resource:
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.closed = False

    def close(self) -> None:
        self.closed = True


async def test_capabilities_are_built_once_shared_and_closed() -> None:
    Resource.made = 0

    @Agent
    class User:
        @capability
        def sync(self) -> Resource:
            return Resource()

        @capability
        async def asynchronous(self) -> Resource:
            await asyncio.sleep(0)
            return Resource()

        @capability()
        def never(self) -> Resource:
            raise AssertionError

        @handler
        async def run(self) -> None: ...

    hosted = HostedAgent.of(User)
    assert list(hosted.definition.capabilities) == ["sync", "asynchronous", "never"]
    one: Any = hosted.new_instance("1")
    two: Any = hosted.new_instance("2")
    assert Resource.made == 0
    first = one.sync
    assert first is two.sync is one.sync
    made = await asyncio.gather(*[asyncio.ensure_future(_await(one.asynchronous)) for _ in range(3)])
    assert made[0] is made[1] is await two.asynchronous
    assert Resource.made == 2
    await hosted.close()
    assert first.closed and made[0].closed
    assert one.sync is not first


async def _await(value: Any) -> Any:
    return await value


async def test_a_capability_that_fails_is_built_at_the_next_use() -> None:
    attempts = []

    @Agent
    class User:
        @capability
        async def flaky(self) -> str:
            attempts.append(1)
            if len(attempts) == 1:
                raise OSError("down")
            return "up"

        @handler
        async def run(self) -> None: ...

    user = User()
    with pytest.raises(OSError, match="down"):
        await user.flaky
    assert await user.flaky == "up"
    await HostedAgent.of(User).close()


def test_an_object_handed_over_is_copied_per_key() -> None:
    @Agent
    class Configured:
        def __init__(self, limit: int) -> None:
            self.limit = limit

        @memory
        def seen(self) -> int:
            return 0

        @handler
        async def run(self) -> None: ...

    prototype = Configured(5)
    prototype.seen = 3
    hosted = HostedAgent.of(prototype)
    one: Any = hosted.new_instance("1")
    two: Any = hosted.new_instance("2")
    one.seen += 1
    assert (one.limit, one.seen, two.seen, prototype.seen) == (5, 1, 0, 3)
    with pytest.raises(DefinitionError, match="hand over an object"):
        HostedAgent.of(Configured).new_instance("1")


@pytest.mark.parametrize("decorate", [MessageRouter, message_router, MessageRouter(name="r", order=5)])
async def test_a_router_answers_with_an_address(decorate: Any) -> None:
    class Router(BaseMessageRouter):
        async def route(self, message: Message) -> AgentReference | str | None:
            if message.priority == Priority.HIGH:
                return self.find_agent("HighPriorityAgent")
            if message.type == "customer_inquiry":
                return self.find_agent("CustomerServiceAgent", message.headers["customer"])
            return "MobileAgent/app" if message.source == "mobile_app" else None

    hosted = HostedAgent.of(decorate(Router))
    assert hosted.definition.kind == agent_pb2.AGENT_KIND_ROUTER
    route = hosted.handlers["route"]
    router = hosted.new_instance("default")

    async def ask(**fields: Any) -> Any:
        seen = Message({"type": "", "source": "", "priority": "NORMAL", "content": None, "headers": {}, **fields})
        content_type, data = route.encode_result(await route.function(router, *route.arguments(seen, None)))
        assert content_type == "application/json"
        return json.loads(data)

    assert await ask(priority="HIGH") == {"agent": "HighPriorityAgent", "key": "default"}
    assert await ask(type="customer_inquiry", headers={"customer": "7"}) == {
        "agent": "CustomerServiceAgent",
        "key": "7",
    }
    assert await ask(source="mobile_app") == {"agent": "MobileAgent", "key": "app"}
    assert await ask() is None


@pytest.mark.parametrize("decorate", [PerformanceMonitor, performance_monitor])
async def test_a_monitor_records_and_alerts(decorate: Any) -> None:
    class Tracker(BasePerformanceMonitor):
        async def on_message_processed(
            self, agent_name: str, message: Message, result: ProcessingResult, duration: timedelta
        ) -> None:
            self.metrics.record_processing_time(agent_name, duration)
            if duration > timedelta(seconds=5):
                self.alerts.send_slow_processing_alert(agent_name, message, duration)
            if not result.is_success:
                self.metrics.increment_error_count(agent_name, result.error_type)

    hosted = HostedAgent.of(decorate(Tracker))
    assert hosted.definition.kind == agent_pb2.AGENT_KIND_MONITOR
    told = hosted.handlers["on_message_processed"]
    tracker: Any = hosted.new_instance("default")
    published = []
    for status, kind, millis in [("success", None, 10), ("error", "SEAT_TAKEN", 20), ("success", None, 6000)]:
        report = Message(
            {
                "agent_name": "a",
                "message": {"id": "m1", "priority": "LOW", "content": 1},
                "result": {"status": status, "error_type": kind, "data": None},
                "duration_ms": millis,
            }
        )
        context = Context(report)
        token = set_current(context)
        await told.function(tracker, *told.arguments(report, None))
        reset_current(token)
        published.append(context.has_effects)
    measured = tracker.metrics.of("a")
    assert measured.processed == 3 and measured.errors == {"SEAT_TAKEN": 1}
    assert measured.p50 == timedelta(milliseconds=20) and measured.longest == timedelta(seconds=6)
    assert published == [False, False, True]


# --- supervisors -----------------------------------------------------------------------------------------------------


def test_supervisor_declares_its_children_in_order_of_start() -> None:
    @Agent(
        supervisor=Supervisor(
            Child("Database"),
            Child("Session", key="*", restart="transient", on_restart="wake_up"),
            strategy="rest_for_one",
            max_restarts=7,
            within=timedelta(minutes=1),
            max_backoff="10s",
        )
    )
    class Shop:
        @handler
        async def status(self) -> str:
            return "open"

    policy = HostedAgent.of(Shop).definition.supervisor
    assert policy.strategy == agent_pb2.RESTART_STRATEGY_REST_FOR_ONE
    assert (policy.max_restarts, policy.within_ms, policy.max_backoff_ms) == (7, 60_000, 10_000)
    assert [(child.agent, child.key, child.restart, child.on_restart) for child in policy.children] == [
        ("Database", "default", agent_pb2.RESTART_TYPE_PERMANENT, ""),
        ("Session", "*", agent_pb2.RESTART_TYPE_TRANSIENT, "wake_up"),
    ]


def test_agent_that_supervises_nobody_says_nothing_of_it() -> None:
    @Agent
    class Alone:
        @handler
        async def status(self) -> str:
            return "open"

    assert not HostedAgent.of(Alone).definition.HasField("supervisor")


@pytest.mark.parametrize(
    ("supervisor", "complaint"),
    [
        (Supervisor(), "needs children"),
        (Supervisor(cast(Any, "Cart")), "needs children"),
        (Supervisor(Child("")), "name the agent"),
        (Supervisor(Child("Cart"), max_restarts=0), "use 1 or more"),
        (Supervisor(Child("Cart"), strategy=cast(Any, "all")), "one_for_one, one_for_all, rest_for_one"),
        (Supervisor(Child("Cart", restart=cast(Any, "always"))), "permanent, transient, temporary"),
    ],
)
def test_supervisor_that_cannot_be_is_refused_and_says_how_it_could(supervisor: Supervisor, complaint: str) -> None:
    @Agent(supervisor=supervisor)
    class Shop:
        @handler
        async def status(self) -> str:
            return "open"

    with pytest.raises(DefinitionError, match=complaint):
        HostedAgent.of(Shop)
