"""Agent definitions: what makes one well-formed, how two differ, and the compiled form the engine works with."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from amx.v1 import agent_pb2, common_pb2, message_pb2
from amx_server.core.errors import AmxError, invalid
from amx_server.memory.instance_memory import MemorySpec
from amx_server.runtime.filters import compile_filter
from amx_server.runtime.schemas import schema_problem
from amx_server.runtime.timing import validate_schedule
from amx_server.runtime.topics import parse_pattern
from amx_server.runtime.versions import precedence

MAX_DEFINITION_BYTES = 1024 * 1024
MAX_ITEMS = 1000  # of anything repeated
MAX_NAME_BYTES = 128
MAX_TEXT_BYTES = 16 * 1024
MAX_KEY_BYTES = 512
MAX_DURATION_MS = 100 * 366 * 24 * 3600 * 1000

_AGENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_NAME = re.compile(r"\w[\w.-]*")  # methods and fields are named in any script
_WORD = re.compile(r"[^\s'\"!=<>(),]+")  # what filter expressions can name
_TEXT = re.compile(r".*", re.DOTALL)

_T = TypeVar("_T")


class _EnumType(Protocol):
    def values(self) -> Sequence[int]: ...


ROUTER = agent_pb2.AGENT_KIND_ROUTER
MONITOR = agent_pb2.AGENT_KIND_MONITOR
PIPELINE = agent_pb2.AGENT_KIND_PIPELINE
PROCESS = agent_pb2.HANDLER_EXECUTION_PROCESS


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """One handler, as the engine works with it. timeout: seconds, 0: not said. retry and breaker: as declared."""

    name: str
    streaming: bool
    concurrent: bool
    durability: common_pb2.Durability
    timeout: float
    permissions: tuple[str, ...]
    retry: agent_pb2.RetryPolicy
    breaker: agent_pb2.CircuitBreakerPolicy
    subscriptions: tuple[message_pb2.Subscription, ...]
    execution: agent_pb2.HandlerExecution


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One version of one agent, as the engine works with it. idle_timeout: seconds; 0 there and elsewhere: not said.

    persistent: at least one of its memories is. computes: at least one of its handlers says that it computes for long,
    so that its instances belong where the least runs.
    """

    definition: agent_pb2.AgentDefinition
    name: str
    version: str
    kind: agent_pb2.AgentKind
    handlers: Mapping[str, HandlerSpec]
    by_type: Mapping[str, str]  # message type -> handler
    default_handler: str  # for everything else; empty: there is none
    memories: Mapping[str, MemorySpec]
    persistent: bool
    groups: frozenset[str]
    labels: Mapping[str, str]
    idle_timeout: float
    mailbox_capacity: int
    order: int
    computes: bool

    @classmethod
    def compile(cls, definition: agent_pb2.AgentDefinition) -> AgentSpec:
        """Raises AmxError INVALID_DEFINITION, naming agent and field. `definition` must not be changed afterwards."""
        validate_definition(definition)
        handlers = {handler.name: _compile_handler(handler) for handler in definition.handlers}
        memories = {memory.name: MemorySpec.from_definition(memory) for memory in definition.memories}
        default = definition.default_handler or (next(iter(handlers)) if len(handlers) == 1 else "")
        return cls(
            definition=definition,
            name=definition.name,
            version=definition.version,
            kind=definition.kind or agent_pb2.AGENT_KIND_AGENT,
            handlers=handlers,
            by_type={kind: handler.name for handler in definition.handlers for kind in handler.message_types},
            default_handler=default,
            memories=memories,
            persistent=any(memory.persistent for memory in memories.values()),
            groups=frozenset(definition.groups),
            labels=dict(definition.labels),
            idle_timeout=definition.idle_timeout_ms / 1000,
            mailbox_capacity=definition.mailbox_capacity,
            order=definition.order,
            computes=any(handler.execution == PROCESS for handler in definition.handlers),
        )

    def choose(self, message_type: str) -> str:
        """Name of the handler for a message that names none. Raises AmxError HANDLER_AMBIGUOUS."""
        name = self.by_type.get(message_type) or self.default_handler
        if not name:
            handlers = ", ".join(sorted(self.handlers)) or "none"
            raise invalid(
                "HANDLER_AMBIGUOUS",
                f"the message names no handler, no handler of agent '{self.name}' takes the type '{message_type}',"
                f" and none is the default; name one of: {handlers}",
                agent=self.name,
                type=message_type,
            )
        return name


def _compile_handler(handler: agent_pb2.HandlerDefinition) -> HandlerSpec:
    return HandlerSpec(
        name=handler.name,
        streaming=handler.streaming,
        concurrent=handler.concurrent,
        durability=handler.durability,
        timeout=handler.timeout_ms / 1000,
        permissions=tuple(handler.permissions),
        retry=handler.retry,
        breaker=handler.circuit_breaker,
        subscriptions=tuple(handler.subscriptions),
        execution=handler.execution,
    )


# --- validation ------------------------------------------------------------------------------------------------------


def validate_definition(definition: agent_pb2.AgentDefinition) -> None:
    """Raises AmxError INVALID_DEFINITION; its message and its metadata `agent` and `field` say what and where."""
    _Validation(definition).run()


class _Validation:
    """One pass over one definition."""

    def __init__(self, definition: agent_pb2.AgentDefinition) -> None:
        self._definition = definition

    def run(self) -> None:
        definition = self._definition
        size = definition.ByteSize()
        if size > MAX_DEFINITION_BYTES:
            raise self._bad("definition", f"it has {size} bytes, {MAX_DEFINITION_BYTES} are allowed")
        self._name("name", definition.name, _AGENT_NAME, "ASCII letters, digits, '.', '_' and '-'")
        self._call("version", precedence, definition.version)
        self._enum("kind", definition.kind, agent_pb2.AgentKind)
        self._text("description", definition.description)
        self._duration("idle_timeout_ms", definition.idle_timeout_ms)
        self._unique("handlers", (handler.name for handler in definition.handlers))
        for handler in definition.handlers:
            self._handler(f"handlers['{handler.name}']", handler)
        self._unique("message_types", (kind for handler in definition.handlers for kind in handler.message_types))
        self._handler_choice()
        self._unique("memories", (memory.name for memory in definition.memories))
        for memory in definition.memories:
            self._memory(f"memories['{memory.name}']", memory)
        self._unique("schedules", (schedule.name for schedule in definition.schedules))
        for schedule in definition.schedules:
            self._schedule(f"schedules['{schedule.name}']", schedule)
        self._supervisor(definition.supervisor)
        self._unique("groups", definition.groups)
        self._unique("capabilities", definition.capabilities)
        for label, value in definition.labels.items():
            self._name("labels", label, _WORD, "no spaces, quotes or operators")
            self._name(f"labels['{label}']", value, _TEXT, "", empty=True)

    def _handler(self, field: str, handler: agent_pb2.HandlerDefinition) -> None:
        self._text(f"{field}.description", handler.description)
        for part, schema in (("input_schema", handler.input_schema), ("output_schema", handler.output_schema)):
            problem = schema_problem(schema) if schema else None
            if problem is not None:
                raise self._bad(f"{field}.{part}", problem)
        self._enum(f"{field}.durability", handler.durability, common_pb2.Durability)
        self._enum(f"{field}.execution", handler.execution, agent_pb2.HandlerExecution)
        self._duration(f"{field}.timeout_ms", handler.timeout_ms)
        self._retry(f"{field}.retry", handler.retry)
        self._duration(f"{field}.circuit_breaker.open_ms", handler.circuit_breaker.open_ms)
        self._unique(f"{field}.permissions", handler.permissions, _WORD)
        self._unique(f"{field}.message_types", handler.message_types, _TEXT)
        self._count(f"{field}.subscriptions", len(handler.subscriptions))
        for index, subscription in enumerate(handler.subscriptions):
            self._call(f"{field}.subscriptions[{index}].pattern", parse_pattern, subscription.pattern)
            self._call(f"{field}.subscriptions[{index}].filter", compile_filter, subscription.filter)
            if subscription.handler not in ("", handler.name):
                raise self._bad(f"{field}.subscriptions[{index}].handler", "it names another handler; leave it empty")

    def _handler_choice(self) -> None:
        definition = self._definition
        names = [handler.name for handler in definition.handlers]
        if definition.default_handler and definition.default_handler not in names:
            raise self._bad("default_handler", f"'{definition.default_handler}' is none of its handlers {names}")
        if definition.kind in (ROUTER, MONITOR) and len(names) != 1:
            raise self._bad("handlers", f"a router or monitor has exactly one handler, not {len(names)}")
        if definition.kind == PIPELINE and "run" not in names:
            raise self._bad("handlers", "a pipeline has a handler 'run'")

    def _retry(self, field: str, retry: agent_pb2.RetryPolicy) -> None:
        if retry.multiplier and not (math.isfinite(retry.multiplier) and retry.multiplier >= 1):
            raise self._bad(f"{field}.multiplier", f"it is {retry.multiplier:g}; it must be 1 or more")
        self._duration(f"{field}.initial_backoff_ms", retry.initial_backoff_ms)
        self._duration(f"{field}.max_backoff_ms", retry.max_backoff_ms)
        if 0 < retry.max_backoff_ms < retry.initial_backoff_ms:
            raise self._bad(f"{field}.max_backoff_ms", "it is shorter than initial_backoff_ms")
        self._unique(f"{field}.retryable_reasons", retry.retryable_reasons)
        self._unique(f"{field}.non_retryable_reasons", retry.non_retryable_reasons)

    def _memory(self, field: str, memory: agent_pb2.MemoryDefinition) -> None:
        self._enum(f"{field}.kind", memory.kind, agent_pb2.MemoryKind)
        self._text(f"{field}.description", memory.description)
        self._duration(f"{field}.ttl_ms", memory.ttl_ms)
        if memory.max_entries and memory.kind in (
            agent_pb2.MEMORY_KIND_UNSPECIFIED,
            agent_pb2.MEMORY_KIND_VALUE,
        ):
            raise self._bad(f"{field}.max_entries", "a single value has one entry; leave it out")

    def _schedule(self, field: str, schedule: agent_pb2.ScheduleDefinition) -> None:
        names = [handler.name for handler in self._definition.handlers]
        if schedule.handler not in names:
            raise self._bad(f"{field}.handler", f"'{schedule.handler}' is none of its handlers {names}")
        self._enum(f"{field}.missed", schedule.missed, agent_pb2.MissedRuns)
        self._call(field, validate_schedule, schedule)
        if len(schedule.key.encode()) > MAX_KEY_BYTES:
            raise self._bad(f"{field}.key", f"it is longer than {MAX_KEY_BYTES} bytes")

    def _supervisor(self, policy: agent_pb2.SupervisorPolicy) -> None:
        if not self._definition.HasField("supervisor"):
            return
        self._enum("supervisor.strategy", policy.strategy, agent_pb2.RestartStrategy)
        self._duration("supervisor.within_ms", policy.within_ms)
        self._duration("supervisor.max_backoff_ms", policy.max_backoff_ms)
        if not policy.children:
            raise self._bad(
                "supervisor.children", "there are none; name those it keeps running, or leave supervisor out"
            )
        self._count("supervisor.children", len(policy.children))
        seen: set[tuple[str, str]] = set()
        for index, child in enumerate(policy.children):
            field = f"supervisor.children[{index}]"
            self._name(f"{field}.agent", child.agent, _AGENT_NAME, "ASCII letters, digits, '.', '_' and '-'")
            if len(child.key.encode()) > MAX_KEY_BYTES:
                raise self._bad(f"{field}.key", f"it is longer than {MAX_KEY_BYTES} bytes")
            if child.agent == self._definition.name:
                raise self._bad(f"{field}.agent", "it is the supervisor itself; another agent supervises it")
            self._enum(f"{field}.restart", child.restart, agent_pb2.RestartType)
            self._name(f"{field}.on_restart", child.on_restart, _NAME, "letters, digits, '.', '_' and '-'", empty=True)
            if (child.agent, child.key or "default") in seen:
                raise self._bad(field, f"'{child.agent}/{child.key or 'default'}' is there twice; name each child once")
            seen.add((child.agent, child.key or "default"))

    def _unique(self, field: str, names: Iterable[str], allowed: re.Pattern[str] = _NAME) -> None:
        seen: set[str] = set()
        for name in names:
            self._name(field, name, allowed, "letters, digits, '.', '_' and '-'" if allowed is _NAME else "no spaces")
            if name in seen:
                raise self._bad(field, f"'{name}' is there twice; names are unique")
            seen.add(name)
            self._count(field, len(seen))

    def _count(self, field: str, count: int) -> None:
        if count > MAX_ITEMS:
            raise self._bad(field, f"there are more than {MAX_ITEMS}")

    def _name(self, field: str, name: str, allowed: re.Pattern[str], words: str, empty: bool = False) -> None:
        if not name and not empty:
            raise self._bad(field, "a name is empty")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise self._bad(field, f"'{name[:32]}...' is longer than {MAX_NAME_BYTES} bytes")
        if not allowed.fullmatch(name) and name:
            raise self._bad(field, f"'{name}' has other characters than it may ({words}), or begins with a sign")

    def _text(self, field: str, text: str) -> None:
        if len(text.encode()) > MAX_TEXT_BYTES:
            raise self._bad(field, f"it is longer than {MAX_TEXT_BYTES} bytes")

    def _duration(self, field: str, milliseconds: int) -> None:
        if milliseconds > MAX_DURATION_MS:
            raise self._bad(field, "it is longer than 100 years")

    def _enum(self, field: str, value: int, kind: _EnumType) -> None:
        if value not in kind.values():
            raise self._bad(field, f"the engine does not know the value {value}; a newer engine may")

    def _call(self, field: str, check: Callable[[_T], object], value: _T) -> None:
        try:
            check(value)
        except AmxError as error:
            raise self._bad(field, error.message) from error

    def _bad(self, field: str, why: str) -> AmxError:
        name = self._definition.name[:MAX_NAME_BYTES]
        return invalid("INVALID_DEFINITION", f"agent '{name}', {field}: {why}", agent=name, field=field)


# --- differences -----------------------------------------------------------------------------------------------------


def difference(old: agent_pb2.AgentDefinition, new: agent_pb2.AgentDefinition) -> str | None:
    """The first differences in words; None if the definitions mean the same. Order and JSON layout do not count."""
    found = _differences("", old, new)
    shown = "; ".join(islice(found, 3))
    more = sum(1 for _ in found)
    return f"{shown}; and {more} more" if more else shown or None


def _differences(path: str, old: Message, new: Message) -> Iterator[str]:
    for descriptor in new.DESCRIPTOR.fields:
        field = f"{path}{descriptor.name}"
        before, after = getattr(old, descriptor.name), getattr(new, descriptor.name)
        if isinstance(after, Message):
            yield from _differences(f"{field}.", before, after)
        elif isinstance(after, str | bytes | int | float):
            if descriptor.containing_oneof is not None and (
                old.HasField(descriptor.name) != new.HasField(descriptor.name)
            ):
                yield f"{field} is {'set' if new.HasField(descriptor.name) else 'not set'} now"
            elif before != after:
                yield from _value_difference(field, _enum_name(descriptor, before), _enum_name(descriptor, after))
        elif hasattr(after, "items"):
            yield from _json_difference(field, dict(before), dict(after))
        elif descriptor.message_type is agent_pb2.SupervisedChild.DESCRIPTOR:
            if before != after:  # their order is that of their start
                yield f"{field} was {_shown(list(before))}, is {_shown(list(after))}"
        elif descriptor.message_type is None or "name" not in descriptor.message_type.fields_by_name:
            if sorted(map(_sortable, before)) != sorted(map(_sortable, after)):
                yield f"{field} was {_shown(list(before))}, is {_shown(list(after))}"
        else:
            yield from _named_differences(field, before, after)


def _named_differences(field: str, before: Iterable[Any], after: Iterable[Any]) -> Iterator[str]:
    old, new = {item.name: item for item in before}, {item.name: item for item in after}
    for name in old:
        if name not in new:
            yield f"{field} lacks '{name}' now"
    for name, item in new.items():
        if name in old:
            yield from _differences(f"{field}['{name}'].", old[name], item)
        else:
            yield f"{field} has '{name}' in addition"


def _value_difference(field: str, before: object, after: object) -> Iterator[str]:
    if field.endswith("_schema") and isinstance(before, str) and isinstance(after, str) and before and after:
        yield from _json_difference(field, json.loads(before), json.loads(after))
    else:
        yield f"{field} was {_shown(before)}, is {_shown(after)}"


def _json_difference(path: str, before: object, after: object) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            if key not in after:
                yield f"{path} lacks '{key}' now"
            elif key not in before:
                yield f"{path} has '{key}' in addition"
            else:
                yield from _json_difference(f"{path}/{key}", before[key], after[key])
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        yield f"{path} was {_shown(before)}, is {_shown(after)}"


def _enum_name(descriptor: Any, value: Any) -> object:
    known = descriptor.enum_type.values_by_number.get(value) if descriptor.enum_type is not None else None
    return value if known is None else known.name


def _sortable(item: object) -> str:
    return item if isinstance(item, str) else str(item)


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
