"""Capabilities: dependencies built at first use, once per process and agent class, closed when the agent stops."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar, overload
from weakref import WeakKeyDictionary

from amx_engine._errors import DefinitionError

T = TypeVar("T")
S = TypeVar("S")


class Capability(Generic[T]):
    """The descriptor behind `@capability`.

    Reading it on any instance of the class gives the one shared object. A builder that is `async def` gives something
    to await: `database = await self.database`. A builder that raises is asked again at the next use.
    """

    def __init__(self, build: Callable[[Any], T]) -> None:
        if not callable(build) or isinstance(build, type):
            raise DefinitionError(f"@capability goes on a method that builds something, not on {build!r}")
        self.name: str = getattr(build, "__name__", "")
        self.__doc__ = build.__doc__
        self._build = build
        self._asynchronous = inspect.iscoroutinefunction(build)
        self._built: WeakKeyDictionary[type, Any] = WeakKeyDictionary()
        self._lock = threading.RLock()

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Capability[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        kind = type(instance)
        try:
            return self._built[kind]
        except KeyError:
            pass
        with self._lock:  # plain handlers run in several threads
            if kind not in self._built:
                built: Any = _Building(self._build, instance) if self._asynchronous else self._build(instance)
                self._built[kind] = built
            return self._built[kind]

    def __set__(self, instance: object, value: Any) -> None:
        """Replaces the shared object, e.g. by a test's stand-in. The old one is not closed."""
        self._built[type(instance)] = _Ready(value) if self._asynchronous else value

    async def close(self, owner: type) -> None:
        """Closes what was built for `owner`, by `aclose`, `close` or leaving its context; then it may be built anew."""
        with self._lock:
            built = self._built.pop(owner, None)
        if isinstance(built, _Building):
            built = await built.result()
        elif isinstance(built, _Ready):
            built = built.value
        if built is not None:
            await _close(built)


@overload
def capability(build: Callable[[Any], T], /) -> Capability[T]: ...
@overload
def capability(build: None = None, /) -> Callable[[Callable[[Any], S]], Capability[S]]: ...
def capability(build: Any = None, /) -> Any:
    """Makes a method build a dependency at first use; see Capability."""
    return Capability if build is None else Capability(build)


class _Ready(Generic[T]):
    """An awaitable that is done."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, T]:
        return self.value
        yield


class _Building:
    """An asynchronous build that everyone may await, and that is repeated after a failure."""

    def __init__(self, build: Callable[[Any], Any], instance: object) -> None:
        self._build = build
        self._instance = instance
        self._task: asyncio.Task[Any] | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        task = self._task
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._task = asyncio.ensure_future(self._run())
        # One handler being cancelled must not cancel the build that others wait for.
        return asyncio.shield(task).__await__()

    async def result(self) -> Any:
        """What was built, or None if nothing (successfully) was."""
        if self._task is None:
            return None
        done, _ = await asyncio.wait({self._task})
        task = done.pop()
        return None if task.cancelled() or task.exception() is not None else task.result()

    async def _run(self) -> Any:
        return await self._build(self._instance)


async def _close(built: Any) -> None:
    for name, arguments in (
        ("aclose", ()),
        ("close", ()),
        ("__aexit__", (None, None, None)),
        ("__exit__", (None, None, None)),
    ):
        method = getattr(built, name, None)
        if callable(method):
            outcome = method(*arguments)
            if isinstance(outcome, Awaitable):
                await outcome
            return
