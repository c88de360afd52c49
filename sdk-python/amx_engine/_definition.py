"""Compiles a decorated class into what the engine is told of it and what runs its handlers."""

from __future__ import annotations

import collections.abc
import copy
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal, get_args, get_origin

from amx.v1 import agent_pb2, common_pb2
from amx_engine import _values
from amx_engine._capability import Capability
from amx_engine._context import Context
from amx_engine._decorators import CLASS_NOTE, PERMISSIONS_NOTE, ClassNote, MethodNote, method_note
from amx_engine._errors import INVALID_ARGUMENT, NOT_FOUND, AmxError, DefinitionError, InvalidInput
from amx_engine._memory import ATTACHED, MemorySpec, memory_specs
from amx_engine._message import AgentReference, Message, Priority
from amx_engine._pipeline import Stage, run_pipeline
from amx_engine._result import ProcessingResult
from amx_engine._schema import ANYTHING, Compiler, Converter, Field, ParametersConverter, first_paragraph, schema_text
from amx_engine._values import RESULT_JSON

Style = Literal["async", "sync", "stream"]

HOSTED = "__amx_hosted__"

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")
_PERMISSION = re.compile(r"[A-Za-z0-9_.*-]+(?::[A-Za-z0-9_.*-]+)*")

_STREAMS = (
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
    collections.abc.AsyncIterable,
)


class HostedHandler:
    """One handler of a hosted agent.

    style: `async` for coroutine functions, `sync` for plain ones (to be run in a thread), `stream` for async
    generators. function: what to call, with the instance first. wants_context: its arguments include the Context.
    """

    __slots__ = (
        "_input",
        "_output",
        "_passes_message",
        "_plan",
        "concurrent",
        "function",
        "name",
        "style",
        "wants_context",
    )

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        style: Style,
        concurrent: bool,
        plan: tuple[str, ...],
        input: Converter | None,
        output: Converter | None,
    ) -> None:
        self.name = name
        self.style: Style = style
        self.concurrent = concurrent
        self.wants_context = "context" in plan
        self._passes_message = plan == ("message",)
        self.function = function
        self._plan = plan
        self._input = input
        self._output = output

    def arguments(self, message: Message, context: Context | None) -> tuple[Any, ...]:
        """What to call the handler with, after the instance.

        Raises AmxError INVALID_INPUT naming what does not fit, INVALID_VALUE if the content is not JSON.
        """
        if self._passes_message:
            return (message,)
        decoded: Any = None
        if self._input is not None:
            try:
                decoded = self._input.decode(message.decoded(), "")
            except InvalidInput as error:
                raise self._invalid(error.reason, error) from None
        arguments: list[Any] = []
        for what in self._plan:
            if what == "message":
                arguments.append(message)
            elif what == "context":
                arguments.append(context)
            elif what == "content":
                arguments.append(decoded)
            else:
                arguments.extend(decoded)
        return tuple(arguments)

    def encode_result(self, value: Any) -> tuple[str, bytes]:
        """(content type, data) of what the handler returned; ("", b"") for None.

        Raises AmxError INVALID_OUTPUT naming the field that has no JSON form or is not what is declared.
        """
        if value is None and (self._output is None or self._output.open or self.style == "stream"):
            return "", b""
        kind = type(value)
        if kind is ProcessingResult or kind is common_pb2.Payload:
            return self._encode_special(value)
        return self._encode(value)

    def encode_chunk(self, value: Any) -> tuple[str, bytes]:
        """(content type, data) of a chunk. Raises as `encode_result`."""
        kind = type(value)
        if kind is ProcessingResult or kind is common_pb2.Payload:
            return self._encode_special(value)
        return self._encode(value)

    def _encode(self, value: Any) -> tuple[str, bytes]:
        output = self._output
        try:
            if output is None or output.open:
                if isinstance(value, Message):
                    return value.encoded()
                return _values.JSON, _values.encode(value)
            encoded = output.encode(value, "")
            return ("", b"") if encoded is None else (_values.JSON, _values.encode(encoded))
        except InvalidInput as error:
            raise self._invalid("INVALID_OUTPUT", error) from None

    def _encode_special(self, value: Any) -> tuple[str, bytes]:
        if isinstance(value, common_pb2.Payload):
            return value.content_type, value.data
        try:
            return RESULT_JSON, value.to_payload()[1]
        except InvalidInput as error:
            raise self._invalid("INVALID_OUTPUT", error) from None

    def _invalid(self, reason: str, error: InvalidInput) -> AmxError:
        what = "result" if reason == "INVALID_OUTPUT" else "input"
        return AmxError(
            INVALID_ARGUMENT,
            reason,
            f"{what} of handler '{self.name}': {error.message}",
            metadata={"handler": self.name, "field": error.pointer},
        )


class HostedAgent:
    """An agent class, compiled: its definition for the engine and everything needed to run it. See `of`."""

    def __init__(self, cls: type, prototype: object | None) -> None:
        note = cls.__dict__.get(CLASS_NOTE)
        if not isinstance(note, ClassNote):
            raise DefinitionError(_not_decorated(cls), reason="NOT_AN_AGENT")
        self.cls = cls
        self._prototype = prototype
        self._callable = False
        self._note = note
        self.name = note.name
        self.version = note.version
        compiler = Compiler(note.scope)
        self.memories: Mapping[str, MemorySpec] = memory_specs(cls, compiler)
        self.capabilities: dict[str, Capability[Any]] = {
            name: attribute for name, attribute in _members(cls) if isinstance(attribute, Capability)
        }
        self.definition = agent_pb2.AgentDefinition(
            name=self.name,
            version=self.version,
            kind=note.kind,
            description=note.description or first_paragraph(cls.__doc__),
            groups=note.groups,
            labels=note.labels,
            idle_timeout_ms=note.idle_timeout_ms,
            mailbox_capacity=note.mailbox_capacity,
            capabilities=list(self.capabilities),
            order=note.order,
            memories=[spec.to_proto() for spec in self.memories.values()],
            supervisor=note.supervisor.to_proto() if note.supervisor is not None else None,
        )
        self.handlers: dict[str, HostedHandler] = {}
        self._check_names()
        _ClassCompiler(self, cls, note, compiler).run()

    @classmethod
    def of(cls, agent: Any) -> HostedAgent:
        """The compiled form of a decorated class, or of an instance of one. Compiled once per class or object.

        Raises DefinitionError naming the culprit and the cure.
        """
        if isinstance(agent, HostedAgent):
            return agent
        if isinstance(agent, type):
            hosted = agent.__dict__.get(HOSTED)
            if not isinstance(hosted, HostedAgent):
                hosted = cls(agent, None)
                type.__setattr__(agent, HOSTED, hosted)
            return hosted
        hosted = getattr(agent, "__dict__", {}).get(HOSTED)
        if not isinstance(hosted, HostedAgent):
            hosted = cls(type(agent), agent)
        return hosted

    def handler(self, name: str) -> HostedHandler:
        """The handler of that name. Raises AmxError HANDLER_UNKNOWN naming those there are."""
        found = self.handlers.get(name)
        if found is None:
            raise AmxError(
                NOT_FOUND,
                "HANDLER_UNKNOWN",
                f"agent '{self.name}' has no handler '{name}'; it has {', '.join(self.handlers) or 'none'}",
            )
        return found

    def new_instance(self, key: str) -> object:
        """A user object for the instance `key`.

        A class is called without arguments. An object that was handed over is copied shallowly, once per key, so that
        instances share what it holds but not its attributes. Raises DefinitionError if the class cannot be called so.
        """
        if self._prototype is not None:
            instance = copy.copy(self._prototype)
            vars(instance).pop(ATTACHED, None)
            return instance
        if not self._callable:
            try:
                inspect.signature(self.cls).bind()
            except TypeError as error:
                raise DefinitionError(
                    f"{self.cls.__qualname__}() cannot be called without arguments ({error}); give them defaults, or"
                    f" hand over an object: with_agent({self.cls.__name__}(...))"
                ) from None
            except ValueError:
                pass  # no signature to look at
            self._callable = True
        return self.cls()

    async def close(self) -> None:
        """Closes the capabilities that were built: all of them even if one fails, then raises the first error."""
        first: Exception | None = None
        for capability in self.capabilities.values():
            try:
                await capability.close(self.cls)
            except Exception as error:
                first = first or error
        if first is not None:
            raise first

    def _check_names(self) -> None:
        decorator = self._note.decorator
        if not _NAME.fullmatch(self.name):
            raise DefinitionError(
                f"@{decorator}(name={self.name!r}): use 1 to 128 letters, digits, dots, underscores and hyphens"
            )
        if not _VERSION.fullmatch(self.version):
            raise DefinitionError(f"@{decorator}(version={self.version!r}): use a semantic version such as 1.0.0")

    def __repr__(self) -> str:
        return f"<HostedAgent {self.name} {self.version}>"


class _ClassCompiler:
    """Fills the definition and handlers of one HostedAgent."""

    def __init__(self, hosted: HostedAgent, cls: type, note: ClassNote, compiler: Compiler) -> None:
        self._hosted = hosted
        self._cls = cls
        self._note = note
        self._compiler = compiler
        self._class_permissions = tuple(getattr(cls, PERMISSIONS_NOTE, ()))

    def run(self) -> None:
        noted = [(name, function, said) for name, function in _members(self._cls) if (said := method_note(function))]
        for name, function, said in noted:
            where = f"{self._cls.__qualname__}.{name}"
            if said.handler:
                self._add_handler(name, function, said, where)
            elif (said.permissions or said.subscriptions) and said.stage is None and not said.error_handler:
                raise DefinitionError(f"{where} has @requires_permission but is no handler; add @handler")
        definition = self._hosted.definition
        if not definition.default_handler and self._note.kind != agent_pb2.AGENT_KIND_PIPELINE:
            # What runs by schedule or on events is rarely what a message without a handler's name is for.
            asked = [said.name or name for name, _, said in noted if said.handler and not _runs_by_itself(said)]
            if len(asked) == 1:
                definition.default_handler = asked[0]
        kind = self._note.kind
        if kind == agent_pb2.AGENT_KIND_PIPELINE:
            self._add_pipeline(noted)
        elif any(said.stage is not None or said.error_handler for _, _, said in noted):
            raise DefinitionError(f"{self._cls.__qualname__} has stages but is no pipeline; decorate it with @Pipeline")
        if kind == agent_pb2.AGENT_KIND_ROUTER:
            self._add_router()
        elif kind == agent_pb2.AGENT_KIND_MONITOR:
            self._add_monitor()
        if not self._hosted.handlers:
            raise DefinitionError(f"{self._cls.__qualname__} has no handlers; decorate a method with @handler")

    def _add_handler(self, method: str, function: Callable[..., Any], said: MethodNote, where: str) -> None:
        name = said.name or method
        if not _NAME.fullmatch(name):
            raise DefinitionError(f"{where}: the handler name {name!r} may hold letters, digits, dots, _ and - only")
        style = _style(function, where)
        execution = _execution(said, style, where)
        plan, converter = self._parameters(function, where)
        output = self._output(function, style, where)
        hosted = HostedHandler(
            name, function, style=style, concurrent=said.concurrent, plan=plan, input=converter, output=output
        )
        if style == "sync" and execution == agent_pb2.HANDLER_EXECUTION_LOOP:
            hosted.style, hosted.function = "async", _on_loop(function)
        self._register(hosted, where)
        definition = self._define(name, function, said)
        definition.execution = execution
        definition.input_schema = "" if converter is None else schema_text(converter)
        definition.output_schema = "" if output is None else schema_text(output)
        definition.streaming = style == "stream"
        if said.default:
            if self._hosted.definition.default_handler:
                raise DefinitionError(
                    f"{where} and {self._hosted.definition.default_handler!r} are both default=True; choose one"
                )
            self._hosted.definition.default_handler = name
        for schedule in said.schedules:
            added = self._hosted.definition.schedules.add()
            added.CopyFrom(schedule)
            added.handler = name

    def _define(self, name: str, function: Callable[..., Any], said: MethodNote) -> agent_pb2.HandlerDefinition:
        definition = self._hosted.definition.handlers.add(
            name=name,
            description=first_paragraph(function.__doc__),
            concurrent=said.concurrent,
            timeout_ms=said.timeout_ms,
            message_types=said.types,
        )
        if said.durable is not None:
            definition.durability = common_pb2.DURABILITY_DURABLE if said.durable else common_pb2.DURABILITY_VOLATILE
        if said.retry is not None:
            definition.retry.CopyFrom(said.retry.to_proto())
        if said.circuit_breaker is not None:
            definition.circuit_breaker.CopyFrom(said.circuit_breaker.to_proto())
        for permission in dict.fromkeys((*self._class_permissions, *said.permissions)):
            if not _PERMISSION.fullmatch(permission):
                raise DefinitionError(f"permission {permission!r} of handler '{name}': use the form area:action")
            definition.permissions.append(permission)
        for pattern, filter in dict.fromkeys(said.subscriptions):
            if not pattern:
                raise DefinitionError(f"handler '{name}' subscribes to an empty topic; name one, e.g. 'orders.*'")
            definition.subscriptions.add(pattern=pattern, filter=filter, handler=name)
        return definition

    def _register(self, handler: HostedHandler, where: str) -> None:
        if handler.name in self._hosted.handlers:
            raise DefinitionError(f"{where}: there is a handler '{handler.name}' already; give one another name")
        self._hosted.handlers[handler.name] = handler

    def _parameters(self, function: Callable[..., Any], where: str) -> tuple[tuple[str, ...], Converter | None]:
        """What the handler is called with, in order, and how content becomes its data parameters."""
        hints = self._compiler.hints(function)
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters:
            raise DefinitionError(f"{where} takes no parameters; a handler is a method and takes self")
        plan: list[str] = []
        data: list[inspect.Parameter] = []
        for parameter in parameters[1:]:
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                continue
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                if parameter.default is inspect.Parameter.empty:
                    raise DefinitionError(f"{where}: parameter '{parameter.name}' is keyword-only; make it positional")
                continue
            hint = hints.get(parameter.name, inspect.Parameter.empty)
            if hint is Message or (hint is inspect.Parameter.empty and parameter.name in ("message", "msg", "event")):
                plan.append("message")
            elif hint is Context or (hint is inspect.Parameter.empty and parameter.name in ("context", "ctx")):
                plan.append("context")
            else:
                if data and plan[-1] != "data":
                    raise DefinitionError(f"{where}: put Message and Context parameters before or after all the others")
                plan.append("data")
                data.append(parameter)
        if not data:
            return tuple(plan), None
        first = plan.index("data")
        rest = [what for what in plan if what != "data"]
        if len(data) == 1:
            plan = [*rest[:first], "content", *rest[first:]]
            hint = hints.get(data[0].name, Any)
            converter = self._compile(hint, f"{where}, parameter '{data[0].name}'")
            if data[0].default is not inspect.Parameter.empty:
                converter = WithDefault(converter, data[0].default)
            return tuple(plan), converter
        fields = []
        defaults = {}
        for parameter in data:
            converter = self._compile(hints.get(parameter.name, Any), f"{where}, parameter '{parameter.name}'")
            required = parameter.default is inspect.Parameter.empty
            if not required:
                defaults[parameter.name] = parameter.default
            fields.append(Field(parameter.name, converter, required=required))
        return (*rest[:first], "fields", *rest[first:]), ParametersConverter(fields, defaults)

    def _output(self, function: Callable[..., Any], style: Style, where: str) -> Converter | None:
        hint = self._compiler.hints(function).get("return", Any)
        if style == "stream":
            arguments = get_args(hint)
            hint = arguments[0] if get_origin(hint) in _STREAMS and arguments else Any
        if hint is Message or hint is common_pb2.Payload:
            return None
        converter = self._compile(hint, f"{where}, its result")
        return None if converter is ANYTHING else converter

    def _compile(self, annotation: Any, where: str) -> Converter:
        try:
            return self._compiler.compile(annotation)
        except DefinitionError as error:
            raise DefinitionError(f"{where}: {error.message}") from None

    def _add_pipeline(self, noted: list[tuple[str, Callable[..., Any], MethodNote]]) -> None:
        where = self._cls.__qualname__
        stages = []
        error_handlers = []
        for position, (name, function, said) in enumerate(noted):
            if said.stage is not None:
                order, timeout = said.stage
                count = len(inspect.signature(function).parameters)
                if count not in (1, 2):
                    raise DefinitionError(f"{where}.{name}: a stage takes self and context, nothing else")
                stages.append(Stage(name, position if order is None else order, function, count == 2, timeout))
            if said.error_handler:
                error_handlers.append(function)
                if len(inspect.signature(function).parameters) != 3:
                    raise DefinitionError(f"{where}.{name}: an error handler takes self, context and error")
        if not stages:
            raise DefinitionError(f"pipeline {where} has no stages; decorate methods with @stage(order=1), ...")
        if len(error_handlers) > 1:
            raise DefinitionError(f"pipeline {where} has {len(error_handlers)} error handlers; keep one")
        orders: dict[float, str] = {}
        for stage in stages:
            if stage.order in orders:
                raise DefinitionError(
                    f"pipeline {where}: stages '{orders[stage.order]}' and '{stage.name}' have the same order"
                    f" {stage.order:g}; number them differently"
                )
            orders[stage.order] = stage.name
        stages.sort(key=lambda stage: stage.order)
        ordered = tuple(stages)
        on_error = error_handlers[0] if error_handlers else None
        name = self._hosted.name

        async def run(self: object, message: Message, context: Context) -> Any:
            return await run_pipeline(name, ordered, on_error, self, message, context)

        run.__doc__ = "Carries a value through the stages " + ", ".join(stage.name for stage in ordered) + "."
        handler = HostedHandler(
            "run", run, style="async", concurrent=False, plan=("message", "context"), input=None, output=None
        )
        self._register(handler, where)
        self._define("run", run, MethodNote())
        self._hosted.definition.default_handler = self._hosted.definition.default_handler or "run"

    def _add_router(self) -> None:
        route = self._one_method("route", 2, "async def route(self, message: Message) -> AgentReference | None")
        self._add_special("route", route, _RouterHandler)

    def _add_monitor(self) -> None:
        method = self._one_method(
            "on_message_processed",
            5,
            "async def on_message_processed(self, agent_name, message, result, duration)",
        )
        self._add_special("on_message_processed", method, _MonitorHandler)

    def _add_special(self, name: str, function: Callable[..., Any], kind: type[HostedHandler]) -> None:
        where = f"{self._cls.__qualname__}.{name}"
        style = _style(function, where)
        if style == "stream":
            raise DefinitionError(f"{where} is a generator; it answers once")
        said = method_note(function) or MethodNote()
        self._register(
            kind(name, function, style=style, concurrent=said.concurrent, plan=(), input=None, output=None), where
        )
        self._define(name, function, said).execution = _execution(said, style, where)

    def _one_method(self, name: str, parameters: int, signature: str) -> Callable[..., Any]:
        function = dict(_members(self._cls)).get(name)
        if not inspect.isfunction(function) or len(inspect.signature(function).parameters) != parameters:
            raise DefinitionError(f"{self._cls.__qualname__} needs a method: {signature}")
        if self._hosted.handlers:
            raise DefinitionError(f"{self._cls.__qualname__} can have no handlers besides '{name}'")
        return function


def _runs_by_itself(said: MethodNote) -> bool:
    return bool(said.schedules or said.subscriptions)


class WithDefault(Converter):
    """A single data parameter with a default: used where there is no content."""

    def __init__(self, converter: Converter, default: Any) -> None:
        self._converter = converter
        self._default = default
        self.expected = converter.expected

    def decode(self, value: Any, pointer: str) -> Any:
        return self._default if value is None else self._converter.decode(value, pointer)

    def encode(self, value: Any, pointer: str) -> Any:
        return self._converter.encode(value, pointer)

    def schema(self, definitions: dict[str, Any]) -> dict[str, Any]:
        schema = self._converter.schema(definitions)
        return {"anyOf": [schema, {"type": "null"}]} if schema else schema


class _RouterHandler(HostedHandler):
    """`route`: gets the message to place, answers with the agent."""

    __slots__ = ()

    def arguments(self, message: Message, context: Context | None) -> tuple[Any, ...]:
        return (_seen_message(message.content, "message"),)

    def encode_result(self, value: Any) -> tuple[str, bytes]:
        if value is None:
            return _values.JSON, b"null"
        if isinstance(value, str):
            value = AgentReference.parse(value)
        if not isinstance(value, AgentReference):
            raise self._invalid(
                "INVALID_OUTPUT", InvalidInput(f"expected an AgentReference or None, got {value!r}; use find_agent")
            )
        answer = {"agent": value.name, "key": value.key}
        if value.handler:
            answer["handler"] = value.handler
        return _values.JSON, _values.encode(answer)


class _MonitorHandler(HostedHandler):
    """`on_message_processed`: gets what was processed, with what outcome, in what time."""

    __slots__ = ()

    def arguments(self, message: Message, context: Context | None) -> tuple[Any, ...]:
        seen = message.content
        try:
            result = seen["result"]
            outcome = ProcessingResult(
                result["status"],
                result.get("data"),
                str(result.get("message") or ""),
                {"error_type": result["error_type"]} if result.get("error_type") else {},
            )
            duration = timedelta(milliseconds=float(seen["duration_ms"]))
            return (str(seen["agent_name"]), _seen_message(seen["message"], "message"), outcome, duration)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._invalid("INVALID_INPUT", InvalidInput(f"the engine's report is incomplete: {error}")) from None

    def encode_result(self, value: Any) -> tuple[str, bytes]:
        return "", b""


def _seen_message(fields: Any, where: str) -> Message:
    """The message that a router or monitor is told of."""
    if not isinstance(fields, dict):
        raise InvalidInput(f"{where}: expected an object", pointer=where)
    headers = fields.get("headers") or {}
    return Message(
        fields.get("content"),
        type=str(fields.get("type") or ""),
        priority=Priority.of(fields.get("priority") or Priority.NORMAL),
        headers={str(name): str(value) for name, value in headers.items()},
        source=str(fields.get("source") or ""),
        id=str(fields.get("id") or ""),
        agent=str(fields.get("agent") or ""),
        key=str(fields.get("key") or ""),
        handler=str(fields.get("handler") or ""),
    )


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Attributes of a class, inherited ones included, in the order they were written, base classes first."""
    found: dict[str, Any] = {}
    for owner in reversed(cls.__mro__[:-1]):
        found.update(vars(owner))
    yield from found.items()


def _style(function: Callable[..., Any], where: str) -> Style:
    if inspect.isasyncgenfunction(function):
        return "stream"
    if inspect.isgeneratorfunction(function):
        raise DefinitionError(f"{where} is a plain generator; make it `async def` to stream")
    if not inspect.isfunction(function):
        raise DefinitionError(f"{where} is no plain method; decorators of handlers go on functions, outermost")
    return "async" if inspect.iscoroutinefunction(function) else "sync"


_EXECUTIONS = {
    "loop": agent_pb2.HANDLER_EXECUTION_LOOP,
    "thread": agent_pb2.HANDLER_EXECUTION_THREAD,
    "process": agent_pb2.HANDLER_EXECUTION_PROCESS,
}


def _execution(said: MethodNote, style: Style, where: str) -> agent_pb2.HandlerExecution:
    """Where a handler runs. Raises DefinitionError for what cannot run there."""
    if said.execution is None:
        return agent_pb2.HANDLER_EXECUTION_UNSPECIFIED
    found = _EXECUTIONS.get(said.execution)
    if found is None:
        raise DefinitionError(f"{where}: execution={said.execution!r} is none of {', '.join(map(repr, _EXECUTIONS))}")
    if style != "sync" and said.execution != "loop":
        raise DefinitionError(
            f"{where} is `async def` and runs on an event loop, so execution={said.execution!r} would not free it;"
            " write it as a plain `def`, or move the part that computes into a handler of its own"
        )
    return found


def _on_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function as one that is run where it is called."""

    async def run(*arguments: Any) -> Any:
        return function(*arguments)

    return run


def _not_decorated(cls: type) -> str:
    decorated = next((base for base in cls.__mro__[1:] if CLASS_NOTE in base.__dict__), None)
    if decorated is not None:
        return (
            f"{cls.__module__}.{cls.__qualname__} is a subclass of the agent {decorated.__qualname__}, but no agent by"
            " that; decorate it with @Agent too"
        )
    return f"{cls.__module__}.{cls.__qualname__} is no agent; was it decorated with @Agent?"
