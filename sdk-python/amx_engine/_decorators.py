"""The decorators. They only take notes on classes and methods; `_definition` reads the notes.

Every decorator works bare and with arguments, and methods may carry them in any order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar, overload

from amx.v1 import agent_pb2
from amx_engine._context import Missed, make_schedule
from amx_engine._errors import DefinitionError
from amx_engine._message import milliseconds
from amx_engine._supervision import Supervisor

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

Execution = Literal["loop", "thread", "process"]
"""Where a handler runs; see `handler`."""

CLASS_NOTE = "__amx_agent__"
METHOD_NOTE = "__amx_method__"
PERMISSIONS_NOTE = "__amx_permissions__"


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how fast a failed message is repeated.

    attempts: in all, the first included; None: the engine's default. initial, maximum: first and longest wait.
    multiplier: growth of the wait. only: repeat only these reasons. never: never repeat these.
    """

    attempts: int | None = None
    initial: timedelta | None = None
    multiplier: float | None = None
    maximum: timedelta | None = None
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    def to_proto(self) -> agent_pb2.RetryPolicy:
        """The policy as it travels. Raises DefinitionError for values that make no sense."""
        if self.attempts is not None and self.attempts < 1:
            raise DefinitionError(f"Retry(attempts={self.attempts}): at least 1 attempt is made; use 1 for no repeats")
        if self.multiplier is not None and self.multiplier < 1:
            raise DefinitionError(f"Retry(multiplier={self.multiplier}): waits cannot shrink; use 1 or more")
        return agent_pb2.RetryPolicy(
            max_attempts=self.attempts or 0,
            initial_backoff_ms=milliseconds(self.initial, "Retry.initial") or 0,
            multiplier=self.multiplier or 0.0,
            max_backoff_ms=milliseconds(self.maximum, "Retry.maximum") or 0,
            retryable_reasons=_texts(self.only),
            non_retryable_reasons=_texts(self.never),
        )


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """When a failing handler is given a rest: after `failures` in a row, for `rest`. None: the engine's default."""

    failures: int | None = None
    rest: timedelta | None = None
    disabled: bool = False

    def to_proto(self) -> agent_pb2.CircuitBreakerPolicy:
        """The policy as it travels."""
        return agent_pb2.CircuitBreakerPolicy(
            failure_threshold=self.failures or 0,
            open_ms=milliseconds(self.rest, "CircuitBreaker.rest") or 0,
            disabled=self.disabled,
        )


@dataclass(slots=True)
class ClassNote:
    """What a class decorator said."""

    kind: agent_pb2.AgentKind
    decorator: str
    name: str
    version: str
    description: str
    groups: tuple[str, ...]
    labels: dict[str, str]
    idle_timeout_ms: int
    mailbox_capacity: int
    order: int
    supervisor: Supervisor | None
    # Names visible where the class was written, to resolve annotations of classes made inside functions.
    scope: Mapping[str, Any]


@dataclass(slots=True)
class MethodNote:
    """What method decorators said, gathered."""

    handler: bool = False
    name: str = ""
    retry: Retry | None = None
    circuit_breaker: CircuitBreaker | None = None
    durable: bool | None = None
    concurrent: bool = False
    timeout_ms: int = 0
    default: bool = False
    types: tuple[str, ...] = ()
    execution: Execution | None = None
    permissions: list[str] = field(default_factory=list)
    subscriptions: list[tuple[str, str]] = field(default_factory=list)
    schedules: list[agent_pb2.ScheduleDefinition] = field(default_factory=list)
    stage: tuple[float | None, timedelta | None] | None = None
    error_handler: bool = False


class ClassDecorator:
    """A decorator that makes a class something the engine hosts.

    name: unique in the namespace; the class's name unless given. version: semantic version; the highest connected one
    takes new messages. description: one paragraph; the docstring's first unless given. groups, labels: for broadcasts.
    idle_timeout: before an instance hibernates. mailbox_capacity: messages that may wait per instance. order: routers
    and monitors with higher ones are asked first. supervisor: whom it keeps running. Use it bare, or with keywords.
    """

    def __init__(self, kind: agent_pb2.AgentKind, spelling: str) -> None:
        self._kind = kind
        self._spelling = spelling

    @overload
    def __call__(self, cls: C, /) -> C: ...
    @overload
    def __call__(
        self,
        cls: None = None,
        /,
        *,
        name: str = "",
        version: str = "1.0.0",
        description: str = "",
        groups: Iterable[str] | str = (),
        labels: Mapping[str, str] | None = None,
        idle_timeout: timedelta | str | None = None,
        mailbox_capacity: int = 0,
        order: int = 0,
        supervisor: Supervisor | None = None,
    ) -> Callable[[C], C]: ...
    def __call__(
        self,
        cls: Any = None,
        /,
        *,
        name: str = "",
        version: str = "1.0.0",
        description: str = "",
        groups: Iterable[str] | str = (),
        labels: Mapping[str, str] | None = None,
        idle_timeout: timedelta | str | None = None,
        mailbox_capacity: int = 0,
        order: int = 0,
        supervisor: Supervisor | None = None,
    ) -> Any:
        frame = sys._getframe(1)
        scope = {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)
        del frame

        def note(target: Any) -> Any:
            if not isinstance(target, type):
                raise DefinitionError(
                    f"@{self._spelling} goes on a class, and {target!r} is none;"
                    f" options are keywords: @{self._spelling}(name=...)"
                )
            said = ClassNote(
                kind=self._kind,
                decorator=self._spelling,
                name=name or target.__name__,
                version=version,
                description=description,
                groups=_texts(groups),
                labels=dict(labels or {}),
                idle_timeout_ms=milliseconds(idle_timeout, "idle_timeout") or 0,
                mailbox_capacity=mailbox_capacity,
                order=order,
                supervisor=supervisor,
                scope=scope,
            )
            setattr(target, CLASS_NOTE, said)
            return target

        return note if cls is None else note(cls)

    def __repr__(self) -> str:
        return f"@{self._spelling}"


Agent = ClassDecorator(agent_pb2.AGENT_KIND_AGENT, "Agent")
Pipeline = ClassDecorator(agent_pb2.AGENT_KIND_PIPELINE, "Pipeline")
MessageRouter = ClassDecorator(agent_pb2.AGENT_KIND_ROUTER, "MessageRouter")
PerformanceMonitor = ClassDecorator(agent_pb2.AGENT_KIND_MONITOR, "PerformanceMonitor")
message_router = MessageRouter
performance_monitor = PerformanceMonitor


@overload
def handler(function: F, /) -> F: ...
@overload
def handler(
    function: None = None,
    /,
    *,
    name: str = "",
    retry: Retry | int | None = None,
    durable: bool | None = None,
    concurrent: bool = False,
    timeout: timedelta | str | None = None,
    topics: Iterable[str] | str = (),
    filter: str = "",
    types: Iterable[str] | str = (),
    default: bool = False,
    permissions: Iterable[str] | str = (),
    circuit_breaker: CircuitBreaker | bool | None = None,
    execution: Execution | None = None,
) -> Callable[[F], F]: ...
def handler(
    function: Any = None,
    /,
    *,
    name: str = "",
    retry: Retry | int | None = None,
    durable: bool | None = None,
    concurrent: bool = False,
    timeout: timedelta | str | None = None,
    topics: Iterable[str] | str = (),
    filter: str = "",
    types: Iterable[str] | str = (),
    default: bool = False,
    permissions: Iterable[str] | str = (),
    circuit_breaker: CircuitBreaker | bool | None = None,
    execution: Execution | None = None,
) -> Any:
    """Makes a method receive messages: `async def`, plain `def` (runs in a thread), or an async generator (streams).

    name: the method's unless given. retry: a Retry, or the number of attempts. durable: whether messages that do not
    say are stored first. concurrent: may run beside other messages of its instance, and must not change memory.
    timeout: longest run. topics, filter: events it receives. types: message types it receives where no handler is
    named; default: it receives all the others. permissions: what the caller must hold. circuit_breaker: when it is
    given a rest; False for never. execution: where it runs. "loop": on the event loop, also if it is a plain `def`,
    which must then be quick. "thread": a plain `def` that blocks or computes. "process": a plain `def` that computes
    for long; where the engine hosts its agent, it does so in helper processes.
    """

    def note(target: F) -> F:
        said = _method_note(target, "handler")
        said.handler = True
        said.name = name or said.name
        said.retry = Retry(attempts=retry) if isinstance(retry, int) else retry
        said.durable = durable
        said.concurrent = concurrent
        said.timeout_ms = milliseconds(timeout, "timeout") or 0
        said.default = default
        said.types = _texts(types)
        said.execution = execution
        said.permissions += _texts(permissions)
        said.subscriptions += [(topic, filter) for topic in _texts(topics)]
        if isinstance(circuit_breaker, bool):
            said.circuit_breaker = CircuitBreaker(disabled=not circuit_breaker)
        else:
            said.circuit_breaker = circuit_breaker
        return target

    return note if function is None else note(function)


def subscribe(*topics: str, filter: str = "") -> Callable[[F], F]:
    """Makes a method receive events: `@subscribe("orders.*", filter="region = eu")`. It is a handler by that."""
    if not topics or not all(isinstance(topic, str) for topic in topics):
        raise DefinitionError('@subscribe needs topic patterns: @subscribe("orders.*")')

    def note(target: F) -> F:
        said = _method_note(target, "subscribe")
        said.handler = True
        said.subscriptions += [(topic, filter) for topic in topics]
        return target

    return note


def requires_permission(*permissions: str) -> Callable[[T], T]:
    """Demands permissions of the caller of a handler, or of every handler of a class: all of them, as `area:action`."""
    if not permissions or not all(isinstance(permission, str) for permission in permissions):
        raise DefinitionError('@requires_permission needs permissions: @requires_permission("orders:write")')

    def note(target: T) -> T:
        if isinstance(target, type):
            inherited = getattr(target, PERMISSIONS_NOTE, ())
            setattr(target, PERMISSIONS_NOTE, (*inherited, *permissions))
        else:
            _method_note(target, "requires_permission").permissions += permissions
        return target

    return note


@overload
def scheduled(function: F, /) -> F: ...
@overload
def scheduled(
    function: None = None,
    /,
    *,
    interval: timedelta | str | None = None,
    fixed_delay: timedelta | str | None = None,
    cron: str = "",
    zone: str = "",
    missed: Missed = "run_once",
    initial_delay: timedelta | str | None = None,
    key: str = "",
    name: str = "",
) -> Callable[[F], F]: ...
def scheduled(
    function: Any = None,
    /,
    *,
    interval: timedelta | str | None = None,
    fixed_delay: timedelta | str | None = None,
    cron: str = "",
    zone: str = "",
    missed: Missed = "run_once",
    initial_delay: timedelta | str | None = None,
    key: str = "",
    name: str = "",
) -> Any:
    """Runs a method by itself, at exactly one of: every `interval`, `fixed_delay` after each run, or by `cron`.

    Bare, it runs once a minute. cron: five fields, or six with seconds first, in the IANA `zone` (UTC). missed: what
    happens to occurrences nobody could run. initial_delay: before the first run. key: the instance that runs it.
    """

    def note(target: F) -> F:
        said = _method_note(target, "scheduled")
        every = timedelta(minutes=1) if function is not None else _period(interval, "interval")
        method: str = getattr(target, "__name__", "")
        said.handler = True
        said.schedules.append(
            make_schedule(
                name or method,
                method,
                every=every,
                fixed_delay=_period(fixed_delay, "fixed_delay"),
                cron=cron,
                zone=zone,
                missed=missed,
                initial_delay=_period(initial_delay, "initial_delay"),
                key=key,
            )
        )
        return target

    return note if function is None else note(function)


@overload
def stage(function: F, /) -> F: ...
@overload
def stage(
    function: None = None, /, *, order: float | None = None, timeout: timedelta | str | None = None
) -> Callable[[F], F]: ...
def stage(function: Any = None, /, *, order: float | None = None, timeout: timedelta | str | None = None) -> Any:
    """Makes a method a stage of a pipeline. Lower orders run first; without one, stages run as they are written."""

    def note(target: F) -> F:
        _method_note(target, "stage").stage = (order, _period(timeout, "timeout"))
        return target

    return note if function is None else note(function)


@overload
def error_handler(function: F, /) -> F: ...
@overload
def error_handler(function: None = None, /) -> Callable[[F], F]: ...
def error_handler(function: Any = None, /) -> Any:
    """Makes a method `(self, context, error)` decide what a failed pipeline returns."""

    def note(target: F) -> F:
        _method_note(target, "error_handler").error_handler = True
        return target

    return note if function is None else note(function)


def method_note(function: object) -> MethodNote | None:
    """What was noted on a method, or None."""
    said = getattr(function, METHOD_NOTE, None)
    return said if isinstance(said, MethodNote) else None


def _method_note(target: Any, decorator: str) -> MethodNote:
    if isinstance(target, (staticmethod, classmethod)) or not callable(target) or isinstance(target, type):
        raise DefinitionError(f"@{decorator} goes on a method of an agent class, not on {target!r}")
    said = method_note(target)
    if said is None:
        said = MethodNote()
        setattr(target, METHOD_NOTE, said)
    return said


def _texts(values: Iterable[str] | str) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


def _period(value: timedelta | str | None, what: str) -> timedelta | None:
    return None if value is None else timedelta(milliseconds=milliseconds(value, what))
