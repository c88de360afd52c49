"""The Interpreter: runs a list of operations from its input, so that most new cases need no change here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any, TypeAlias

from amx_engine import Agent, Context, Message, ProcessingResult, Scope, expire, handler, memory
from amx_engine._definition import HostedAgent
from amx_engine.types import InvalidInput
from conformance.testees.python.failures import raised, shown
from conformance.testees.python.names import named
from conformance.testees.python.waiting import waiting

Operation: TypeAlias = Mapping[str, Any]

NOTHING: Any = object()
"""The outcome of an operation without a value."""


class Returned(Exception):
    """The operation `return` was met."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


@Agent(name=named("Interpreter"), groups="conformance", labels={"tier": "gold"}, idle_timeout=timedelta(minutes=5))
class Interpreter:
    @memory(persistent=True)
    def value(self):  # type: ignore[no-untyped-def]  # anything
        return None

    @memory(persistent=True)
    def map(self):  # type: ignore[no-untyped-def]
        return {}

    @memory(persistent=True)
    def set(self):  # type: ignore[no-untyped-def]
        return set()

    @memory(persistent=True)
    def list(self):  # type: ignore[no-untyped-def]
        return []

    @memory(ttl=timedelta(seconds=60))
    def scratch(self):  # type: ignore[no-untyped-def]
        return {}

    @memory(persistent=True, max_entries=3)
    def bounded(self):  # type: ignore[no-untyped-def]
        return {}

    @handler(default=True)
    async def run(self, operations: Any, context: Context) -> Any:
        return await self._run(operations, context)

    @handler(concurrent=True)
    async def concurrent(self, operations: Any, context: Context) -> Any:
        return await self._run(operations, context)

    @handler
    async def stream(self, operations: Any, context: Context) -> AsyncIterator[Any]:
        for operation in operations:
            if operation["op"] == "yield":
                yield operation.get("value")
                continue
            try:
                await self._outcome(operation, context)
            except Returned:
                return

    async def _run(self, operations: Any, context: Context) -> Any:
        try:
            return [await self._outcome(operation, context) for operation in operations]
        except Returned as end:
            return end.value

    def _outside(self, operation: Operation, context: Context) -> None:
        outcomes = _outside_outcomes[operation["name"]] = []
        nobody = Context(Message(), calls=context._calls)

        async def call() -> None:
            for one in operation["ops"]:
                outcomes.append(await self._outcome(one, nobody))

        task = asyncio.create_task(call())
        _outside_tasks.add(task)
        task.add_done_callback(_outside_tasks.discard)

    async def _outcome(self, operation: Operation, context: Context) -> dict[str, Any]:
        try:
            value = await self._do(operation, context)
        except Returned:
            raise
        except Exception as error:
            if operation.get("or_raise"):
                raise
            return {"failure": shown(error)}
        return {} if value is NOTHING else {"ok": value}

    async def _do(self, operation: Operation, context: Context) -> Any:
        op = operation["op"]
        match op:
            case "return":
                raise Returned(operation.get("value"))
            case "raise":
                raise raised(operation)
            case "wait":
                return await waiting.wait()
            case "context":
                return _context(context)
            case "parallel":
                return await asyncio.gather(*(self._outcome(one, context) for one in operation["ops"]))
            case "outside":
                self._outside(operation, context)
                return NOTHING
            case "outcomes":
                return [*_outside_outcomes.get(operation["name"], ())]
            case "register":
                await _register(operation, context)
                return NOTHING
        if op in _CALLS:
            return await _CALLS[op](operation, context)
        if op in _STAGED:
            _STAGED[op](operation, context)
            return NOTHING
        if op in _OWN_MEMORY:
            return _OWN_MEMORY[op](self, operation)
        raise InvalidInput(f"there is no operation '{op}' here", pointer="op")


_outside_outcomes: dict[str, list[dict[str, Any]]] = {}
_outside_tasks: set[asyncio.Task[None]] = set()


async def _register(operation: Operation, context: Context) -> None:
    from conformance.testees.python.__main__ import hosted

    names = operation.get("agents") or []
    agents = [HostedAgent.of(one) for one in hosted(",".join(names))] if names else []
    link: Any = context._calls  # what AmxEngine.host uses; without sockets there is no AmxEngine
    await link.register(agents, [named(name) for name in operation.get("removed") or []])


def _context(context: Context) -> dict[str, Any]:
    message = context.message
    return {
        "agent": context.agent,
        "key": context.key,
        "handler": message.handler,
        "attempt": context.attempt,
        "message_id": message.id,
        "has_deadline": context.deadline is not None,
        "sender": message.sender,
    }


# Calls


def _message(operation: Operation) -> Message:
    known: dict[str, Any] = {name: operation[name] for name in _SAME if name in operation}
    if "message_id" in operation:
        known["id"] = operation["message_id"]
    for name in ("ttl", "delay"):
        if f"{name}_ms" in operation:
            known[name] = timedelta(milliseconds=operation[f"{name}_ms"])
    return Message(operation.get("payload"), **known)


_SAME = ("type", "headers", "priority", "idempotency_key", "durable", "source")


def _where(operation: Operation) -> dict[str, Any]:
    return {name: operation[name] for name in ("key", "handler") if name in operation}


def _timeout(operation: Operation) -> timedelta | None:
    return timedelta(milliseconds=operation["timeout_ms"]) if "timeout_ms" in operation else None


async def _request(operation: Operation, context: Context) -> Any:
    reply = await context.request(
        operation.get("agent", ""), _message(operation), **_where(operation), timeout=_timeout(operation)
    )
    return _plain(reply)


async def _stream(operation: Operation, context: Context) -> list[Any]:
    chunks: list[Any] = []
    take = operation.get("take")
    stream = context.stream(operation["agent"], _message(operation), **_where(operation), timeout=_timeout(operation))
    async with aclosing(stream):
        async for chunk in stream:
            chunks.append(_plain(chunk))
            if len(chunks) == take:
                break
    return chunks


async def _send_now(operation: Operation, context: Context) -> dict[str, Any]:
    receipt = await context.send_now(
        operation.get("agent", ""), _message(operation), **_where(operation), timeout=_timeout(operation)
    )
    return {"message_id": receipt.message_id, "duplicate": receipt.duplicate}


async def _publish_now(operation: Operation, context: Context) -> dict[str, Any]:
    return {"subscribers": await context.publish_now(operation["topic"], operation.get("payload"), **_event(operation))}


async def _broadcast(operation: Operation, context: Context) -> dict[str, Any]:
    ((kind, argument),) = operation["scope"].items()
    scope = Scope.all() if kind == "all" else getattr(Scope, kind)(argument)
    outcome = await context.broadcast(
        scope, operation.get("payload"), handler=operation.get("handler", ""), timeout=_timeout(operation)
    )
    recipients = []
    for one in outcome.recipients:
        what = {"failure": shown(one.error)} if one.error is not None else {"ok": _plain(one.value)}
        recipients.append({"agent": one.instance.name, "key": one.instance.key, **what})
    return {"succeeded": outcome.succeeded, "failed": outcome.failed, "recipients": recipients}


async def _subscribe(operation: Operation, context: Context) -> list[dict[str, Any]]:
    taken: list[dict[str, Any]] = []
    async with context.events(operation["pattern"], operation.get("filter", "")) as events:
        async for event in events:
            taken.append({"topic": event.topic, "payload": event.content, "attributes": dict(event.headers)})
            if len(taken) == operation["take"]:
                break
    return taken


async def _memory_of(operation: Operation, context: Context) -> Any:
    other = context.memory(operation["agent"], operation.get("key", ""))
    found = await other.get(operation["memory"], operation.get("entry"), NOTHING)
    return [*found] if isinstance(found, set) else found


def _plain(value: Any) -> Any:
    if isinstance(value, ProcessingResult):
        return {"status": value.status, "data": value.data, "message": value.message, "metadata": value.metadata}
    return value


_CALLS: dict[str, Callable[[Operation, Context], Awaitable[Any]]] = {
    "request": _request,
    "stream": _stream,
    "send_now": _send_now,
    "publish_now": _publish_now,
    "broadcast": _broadcast,
    "subscribe": _subscribe,
    "memory_of": _memory_of,
}

# Effects


def _event(operation: Operation) -> dict[str, Any]:
    known = {name: operation[name] for name in ("attributes", "key", "durable") if name in operation}
    return {**known, "id": operation.get("event_id", "")}


def _send(operation: Operation, context: Context) -> None:
    context.send(operation.get("agent", ""), _message(operation), **_where(operation))


def _publish(operation: Operation, context: Context) -> None:
    context.publish(operation["topic"], operation.get("payload"), **_event(operation))


def _schedule(operation: Operation, context: Context) -> None:
    timing: dict[str, Any] = {
        parameter: timedelta(milliseconds=operation[field])
        for field, parameter in (("every_ms", "every"), ("delay_ms", "fixed_delay"), ("after_ms", "after"))
        if field in operation
    }
    if "cron" in operation:
        timing["cron"] = operation["cron"]
    context.schedule(operation["name"], operation["handler"], operation.get("payload"), **timing)


def _unschedule(operation: Operation, context: Context) -> None:
    context.unschedule(operation["name"])


_STAGED: dict[str, Callable[[Operation, Context], None]] = {
    "send": _send,
    "publish": _publish,
    "schedule": _schedule,
    "unschedule": _unschedule,
}

# Own memory


def _get(agent: Interpreter, operation: Operation) -> Any:
    memory = getattr(agent, operation["memory"])
    match operation["memory"]:
        case "value":
            return NOTHING if memory is None else memory
        case "set":
            return operation["value"] in memory
        case "list":
            return memory[operation["key"]] if -len(memory) <= operation["key"] < len(memory) else NOTHING
    return memory.get(operation["key"], NOTHING)


def _put(agent: Interpreter, operation: Operation) -> Any:
    if operation["memory"] == "value":
        agent.value = operation.get("value")
    else:
        getattr(agent, operation["memory"])[operation["key"]] = operation.get("value")
    return NOTHING


def _remove(agent: Interpreter, operation: Operation) -> Any:
    memory = getattr(agent, operation["memory"])
    match operation["memory"]:
        case "value":
            agent.value = None
        case "set":
            memory.discard(operation["value"])
        case "list":
            del memory[operation["key"]]
        case _:
            memory.pop(operation["key"], None)
    return NOTHING


def _clear(agent: Interpreter, operation: Operation) -> Any:
    if operation["memory"] == "value":
        agent.value = None
    else:
        getattr(agent, operation["memory"]).clear()
    return NOTHING


def _append(agent: Interpreter, operation: Operation) -> Any:
    getattr(agent, operation["memory"]).append(operation.get("value"))
    return NOTHING


def _add(agent: Interpreter, operation: Operation) -> Any:
    getattr(agent, operation["memory"]).add(operation["value"])
    return NOTHING


def _length(agent: Interpreter, operation: Operation) -> Any:
    return len(getattr(agent, operation["memory"]))


def _all(agent: Interpreter, operation: Operation) -> Any:
    memory = getattr(agent, operation["memory"])
    match operation["memory"]:
        case "value":
            return NOTHING if memory is None else memory
        case "set" | "list":
            return [*memory]
    return [[key, value] for key, value in memory.items()]


def _expire(agent: Interpreter, operation: Operation) -> Any:
    after = timedelta(milliseconds=operation["after_ms"])
    if operation["memory"] == "value":
        expire(agent, "value", after)
    else:
        item = operation["value"] if operation["memory"] == "set" else operation["key"]
        expire(agent, operation["memory"], after, item=item)
    return NOTHING


_OWN_MEMORY: dict[str, Callable[[Interpreter, Operation], Any]] = {
    "get": _get,
    "put": _put,
    "remove": _remove,
    "clear": _clear,
    "append": _append,
    "add": _add,
    "length": _length,
    "all": _all,
    "expire": _expire,
}
