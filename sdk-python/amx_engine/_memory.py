"""Memory of agents: the `memory` decorator, and everything one instance remembers in this process."""

from __future__ import annotations

import collections
import collections.abc
import enum
import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from sys import intern
from typing import Any, Generic, Protocol, TypeVar, get_args, get_origin, overload

from amx.v1 import agent_pb2, link_pb2, memory_pb2
from amx_engine import _values
from amx_engine._changes import NOTHING, ChangeLog, Entry
from amx_engine._errors import DefinitionError, InvalidInput
from amx_engine._lifetimes import Expiry, Lifetime, lifetime_ms
from amx_engine._recency import Recency
from amx_engine._roots import (
    Codec,
    MemoryList,
    MemoryMap,
    MemorySet,
    MemoryValue,
    Root,
    WatchedList,
    WatchedMap,
    WatchedSet,
)
from amx_engine._schema import Compiler, Converter, first_paragraph
from amx_engine._values import InvalidValue

T = TypeVar("T")
S = TypeVar("S")

ATTACHED = "__amx_memory__"

VALUE = agent_pb2.MEMORY_KIND_VALUE
MAP = agent_pb2.MEMORY_KIND_MAP
SET = agent_pb2.MEMORY_KIND_SET
LIST = agent_pb2.MEMORY_KIND_LIST

_MISSING: Any = object()
_SMALL_IMAGE_BYTES = 4096

_KINDS: dict[Any, agent_pb2.MemoryKind] = {
    dict: MAP,
    collections.defaultdict: MAP,
    collections.OrderedDict: MAP,
    collections.abc.Mapping: MAP,
    collections.abc.MutableMapping: MAP,
    list: LIST,
    collections.abc.Sequence: LIST,
    collections.abc.MutableSequence: LIST,
    set: SET,
    collections.abc.Set: SET,
    collections.abc.MutableSet: SET,
}


class Memory(Generic[T]):
    """The descriptor behind `@memory`: reads give the tracked object, assignment replaces its content.

    Without an engine, an instance's memories live as long as the instance, so agents can be tried as plain objects.
    """

    def __init__(
        self,
        initial: Callable[[Any], T] | None,
        *,
        persistent: bool,
        ttl_ms: int,
        max_entries: int,
        description: str,
    ) -> None:
        self.name = ""
        self.initial = initial
        self.persistent = persistent
        self.ttl_ms = ttl_ms
        self.max_entries = max_entries
        self.description = description
        self.function: Callable[[Any], T] | None = None

    def __call__(self, function: Callable[[Any], S]) -> Memory[S]:
        """Decorates the method that returns the initial value."""
        if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
            raise DefinitionError(f"@memory goes on a plain method that returns the initial value, not on {function!r}")
        decorated = Memory(
            function,
            persistent=self.persistent,
            ttl_ms=self.ttl_ms,
            max_entries=self.max_entries,
            description=self.description or first_paragraph(function.__doc__),
        )
        decorated.function = function
        decorated.name = function.__name__
        decorated.__doc__ = function.__doc__
        return decorated

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Memory[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        return _attached(instance).value(self.name)

    def __set__(self, instance: object, value: T) -> None:
        _attached(instance).assign(self.name, value)


@overload
def memory(function: Callable[[Any], T], /) -> Memory[T]: ...
@overload
def memory(
    function: None = None,
    /,
    *,
    default: Any,
    persistent: bool = False,
    ttl: timedelta | str | None = None,
    max_entries: int = 0,
    description: str = "",
) -> Any: ...
@overload
def memory(
    function: None = None,
    /,
    *,
    default_factory: Callable[[], Any],
    persistent: bool = False,
    ttl: timedelta | str | None = None,
    max_entries: int = 0,
    description: str = "",
) -> Any: ...
@overload
def memory(
    function: None = None,
    /,
    *,
    persistent: bool = False,
    ttl: timedelta | str | None = None,
    max_entries: int = 0,
    description: str = "",
) -> Memory[Any]: ...
def memory(
    function: Any = None,
    /,
    *,
    default: Any = _MISSING,
    default_factory: Callable[[], Any] | None = None,
    persistent: bool = False,
    ttl: timedelta | str | None = None,
    max_entries: int = 0,
    description: str = "",
) -> Any:
    """Declares what every instance of an agent remembers: on a method, or as a field.

        @memory(persistent=True, ttl=timedelta(hours=24))
        def cache(self): return {}

        counts: dict[str, int] = memory(persistent=True, default_factory=dict)

    The initial value says what it is: a dict, a list, a set, or one value. Changes made by a handler are committed
    with its result, or undone if it fails. persistent: survives hibernation and restarts. ttl: lifetime of an entry
    since it was last written; entries expire between messages. One entry has a lifetime of its own if it is written
    with `self.cache.put(key, value, ttl="10m")`, `add(member, ttl=…)` of a set, `append(value, ttl=…)` of a list, or
    given one by `expire`. max_entries: most that a commit keeps, the least recently used go first (of a list, the
    front).

    Values are what JSON holds. Others need an annotation, e.g. `-> dict[str, Order]`. Tuples come back as lists.
    """
    if default is not _MISSING and default_factory is not None:
        raise DefinitionError("memory() has either a default or a default_factory, not both")
    if isinstance(default, (dict, list, set)):
        raise DefinitionError(
            f"memory(default={default!r}) would share one object; use default_factory={type(default).__name__}"
        )
    if max_entries < 0:
        raise DefinitionError(f"memory(max_entries={max_entries}): use a positive number, or 0 for no bound")
    initial: Callable[[Any], Any] | None = None
    if default_factory is not None:
        factory = default_factory
        initial = lambda _: factory()  # noqa: E731
    elif default is not _MISSING:
        initial = lambda _: default  # noqa: E731
    made: Memory[Any] = Memory(
        initial,
        persistent=persistent,
        ttl_ms=0 if ttl is None else lifetime_ms(ttl),
        max_entries=max_entries,
        description=description,
    )
    return made if function is None else made(function)


def expire(agent: object, name: str, ttl: Lifetime, *, item: Any = _MISSING) -> None:
    """Gives something that an agent remembers a lifetime of its own, which starts now.

        expire(self, "token", timedelta(minutes=10))
        expire(self, "cache", "10m", item=key)

    name: of the memory. item: a key of a dict, a member of a set, an index of a list; leave it out for a single value,
    which becomes the initial one again. It counts as a write: the next one without a lifetime ends it. Raises
    InvalidInput for an unknown name, a missing item or a lifetime that is not positive, KeyError or IndexError if
    there is no such entry.
    """
    _attached(agent).expire(name, ttl, item)


@dataclass(frozen=True, slots=True)
class MemorySpec:
    """One memory of an agent class, as it was declared and understood."""

    name: str
    kind: agent_pb2.MemoryKind
    persistent: bool
    ttl_ms: int
    max_entries: int
    description: str
    codec: Codec
    initial: Callable[[Any], Any]

    def to_proto(self) -> agent_pb2.MemoryDefinition:
        """The memory as it travels."""
        return agent_pb2.MemoryDefinition(
            name=self.name,
            kind=self.kind,
            persistent=self.persistent,
            ttl_ms=self.ttl_ms,
            max_entries=self.max_entries,
            description=self.description,
        )

    def initial_value(self, instance: object) -> Any:
        """A new initial value. Raises DefinitionError if it is not of the declared kind."""
        value = self.initial(instance)
        kind = kind_of_value(value)
        if kind != self.kind and self.kind != VALUE:
            raise DefinitionError(
                f"memory '{self.name}' is declared as a {_NAMES[self.kind]}, but its initial value is {value!r}"
            )
        return value


_ASSIGNABLE: dict[agent_pb2.MemoryKind, Any] = {
    VALUE: object,
    MAP: collections.abc.Mapping,
    LIST: (list, tuple),
    SET: collections.abc.Set,
}
_NAMES = {VALUE: "value", MAP: "dict", LIST: "list", SET: "set"}


def kind_of_value(value: Any) -> agent_pb2.MemoryKind:
    """What kind of memory an initial value makes. Raises DefinitionError for containers that cannot be tracked."""
    kind = _KINDS.get(type(value))
    if kind is not None:
        return kind
    if isinstance(value, (dict, list, set, collections.deque, frozenset)):
        raise DefinitionError(
            f"a memory cannot be a {type(value).__name__}; use a dict (or defaultdict), a list (with max_entries in"
            " place of a bounded deque), or a set"
        )
    return VALUE


def memory_specs(cls: type, compiler: Compiler | None = None) -> dict[str, MemorySpec]:
    """The memories of a class, inherited ones included, by name."""
    compiler = compiler or Compiler()
    specs: dict[str, MemorySpec] = {}
    for owner in reversed(cls.__mro__):
        for name, attribute in list(vars(owner).items()):
            if isinstance(attribute, Memory):
                specs[name] = _spec(cls, owner, attribute, compiler)
            else:
                specs.pop(name, None)
    return specs


def _spec(cls: type, owner: type, declared: Memory[Any], compiler: Compiler) -> MemorySpec:
    where = f"{owner.__qualname__}.{declared.name}"
    if declared.function is not None:
        annotation = compiler.hints(declared.function).get("return", _MISSING)
    else:
        annotation = compiler.hints(owner).get(declared.name, _MISSING)
    if annotation is Any:
        annotation = _MISSING
    origin = annotation if get_origin(annotation) is None else get_origin(annotation)
    arguments = get_args(annotation)
    initial = declared.initial
    if initial is None:
        if origin not in (dict, list, set):
            raise DefinitionError(f"memory '{where}' has no initial value; give it a default or a default_factory")
        factory: Callable[[], Any] = origin
        initial = lambda _: factory()  # noqa: E731
    if annotation is not _MISSING:
        kind = _KINDS.get(origin, VALUE) if isinstance(origin, collections.abc.Hashable) else VALUE
    else:
        kind = kind_of_value(_try_initial(cls, where, initial))
    key = item = None
    if kind == MAP and len(arguments) == 2:
        key, item = _converter(compiler, arguments[0]), _converter(compiler, arguments[1])
    elif kind == LIST and arguments:
        item = _converter(compiler, arguments[0])
    elif kind == SET and arguments:
        key = _converter(compiler, arguments[0])
    elif kind == VALUE and annotation is not _MISSING:
        item = _converter(compiler, annotation)
    return MemorySpec(
        name=declared.name,
        kind=kind,
        persistent=declared.persistent,
        ttl_ms=declared.ttl_ms,
        max_entries=declared.max_entries if kind != VALUE else 0,
        description=declared.description,
        codec=MemoryCodec(key, item),
        initial=initial,
    )


def _try_initial(cls: type, where: str, initial: Callable[[Any], Any]) -> Any:
    """An initial value to learn the kind from. The method rarely needs more of its instance than being one."""
    try:
        return initial(object.__new__(cls))
    except DefinitionError:
        raise
    except Exception as error:
        raise DefinitionError(
            f"memory '{where}' could not be asked for its initial value before __init__ ran ({error});"
            " annotate what it returns, e.g. -> dict[str, int]"
        ) from error


def _converter(compiler: Compiler, annotation: Any) -> Converter | None:
    converter = compiler.compile(annotation)
    return None if converter.open else converter


class MemoryCodec(Codec):
    """Values of a memory by annotation; without one, exactly what JSON holds and gives back unchanged."""

    def __init__(self, key: Converter | None, item: Converter | None) -> None:
        self._key = key
        self._item = item
        self.opaque = item is not None and item.opaque
        self.lists = item is None

    def encode(self, value: Any, pointer: str) -> bytes:
        if self._item is not None:
            try:
                return _values.encode(self._item.encode(value, pointer))
            except InvalidValue:
                raise
            except InvalidInput as error:
                raise InvalidValue(f"memory {error.message}", error.pointer) from None
        try:
            _require_plain(value, pointer)
            return _values.encode_plain(value, pointer)
        except RecursionError:
            raise InvalidValue(f"memory {pointer}: is nested too deeply, or contains itself", pointer) from None

    def decode(self, data: bytes, pointer: str) -> Any:
        value = _values.decode(data)
        return value if self._item is None else self._item.decode(value, pointer)

    def key_id(self, key: Any) -> str:
        if self._key is not None:
            return _values.encode_canonical(self._key.encode(key, "key"))
        _require_key(key)
        return _values.encode_canonical(key)

    def key_of(self, id: str) -> Any:
        value = _values.decode_key(id)
        return _hashable(value) if self._key is None else self._key.decode(value, "key")


def _is_entry(kind: agent_pb2.MemoryKind, id: str) -> bool:
    """Whether a memory of this kind has entries with such ids; another class may have stored it under the name."""
    if kind == LIST:
        return id.removeprefix("-").isdecimal()
    return (id == "") == (kind == VALUE)


_ATOMS = (str, int, float, type(None))


def _require_plain(value: Any, pointer: str) -> None:
    """Raises InvalidValue unless `value` comes back from JSON as what it is (tuples as lists)."""
    kind = type(value)
    if kind is str or kind is float or kind is bool or value is None:
        return
    if kind is int:
        _values.require_safe(value, pointer)
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidValue(
                    f"memory {pointer}: the key {key!r} is not text; nested keys must be, unless the memory is"
                    " annotated, e.g. -> dict[str, dict[int, str]]",
                    pointer,
                )
            _require_plain(item, f"{pointer}.{key}")
    elif isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        for index, item in enumerate(value):
            _require_plain(item, f"{pointer}[{index}]")
    elif not isinstance(value, _ATOMS) or isinstance(value, enum.Enum):
        raise InvalidValue(
            f"memory {pointer}: a {kind.__qualname__} does not come back from JSON as one; annotate the memory,"
            f" e.g. -> dict[str, {kind.__name__}], or store text, numbers, lists and dicts",
            pointer,
        )


def _require_key(key: Any) -> None:
    if isinstance(key, tuple) and not hasattr(key, "_fields"):
        for part in key:
            _require_key(part)
    elif not isinstance(key, _ATOMS) or isinstance(key, enum.Enum):
        raise InvalidValue(
            f"memory key {key!r}: a {type(key).__qualname__} does not come back from JSON as one; annotate the memory,"
            f" e.g. -> dict[{type(key).__name__}, ...], or use text, numbers or tuples of them",
            "key",
        )
    elif isinstance(key, float) and key - key != 0:
        raise InvalidValue(f"memory key {key!r} is not a finite number", "key")


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value


class HasMemories(Protocol):
    """What InstanceMemory needs of an agent."""

    @property
    def memories(self) -> Mapping[str, MemorySpec]:
        """Its memories by name."""
        ...


class InstanceMemory:
    """Everything one instance remembers, in this process.

    version: of the last load, counted up by every `collect` that gave changes.
    Memories are decoded at first use. Not thread-safe; one handler at a time may change it.
    """

    __slots__ = ("_changed", "_clock", "_images", "_instance", "_loaded_at", "_roots", "_specs", "version")

    def __init__(self, agent: HasMemories, clock: Callable[[], float] = time.monotonic) -> None:
        self._specs = agent.memories
        self._clock = clock
        self._roots: dict[str, Root] = {}
        self._images: dict[str, memory_pb2.MemoryImage | bytes] = NOTHING
        self._loaded_at = 0.0
        self._instance: Any = None
        self._changed = False
        self.version = 0

    def load(self, image: memory_pb2.InstanceMemory | None, version: int) -> None:
        """Forgets everything and remembers `image` instead, at `version`. `image` must not change afterwards."""
        self._roots = {}
        self._images = NOTHING if image is None else _kept(image)
        self._loaded_at = self._clock()
        self._changed = False
        self.version = version

    def attach(self, instance: object) -> None:
        """Makes the memory attributes of `instance` resolve to this memory.

        Raises DefinitionError if its __init__ changed memories, which would be lost.
        """
        try:
            attributes = vars(instance)
        except TypeError:
            if self._specs:
                raise DefinitionError(
                    f"{type(instance).__qualname__} has memories but no __dict__; remove __slots__ from the class"
                ) from None
            return
        before = attributes.get(ATTACHED)
        if before is not None and before is not self and before.changed and before._instance is instance:
            raise DefinitionError(
                f"{type(instance).__qualname__}.__init__ changes a memory, which would be overwritten by what the"
                " instance remembers; give the memory its initial value in its declaration"
            )
        attributes[ATTACHED] = self
        self._instance = instance

    @property
    def changed(self) -> bool:
        """Whether there may be anything to commit."""
        return self._changed

    def value(self, name: str) -> Any:
        """The tracked object of a memory, or the value."""
        root = self._root(name)
        if type(root) is MemoryValue:
            return root.get()
        return root

    def assign(self, name: str, value: Any) -> None:
        """Makes a memory equal to `value`."""
        root = self._root(name)
        if root is value:  # `self.rows += [1]` changes the list, then assigns it
            return
        kind = self._specs[name].kind
        if not isinstance(value, _ASSIGNABLE[kind]):
            raise TypeError(f"memory '{name}' is a {_NAMES[kind]}; it cannot become {value!r}")
        root.assign(value)

    def expire(self, name: str, ttl: Lifetime, item: Any) -> None:
        """What `expire` does."""
        spec = self._specs.get(name)
        if spec is None:
            known = ", ".join(self._specs) or "none"
            raise InvalidInput(f"there is no memory '{name}'; there are: {known}", pointer="name")
        if spec.kind == VALUE and item is not _MISSING:
            raise InvalidInput(f"memory '{name}' is a single value, which has no item {item!r}", pointer="item")
        if spec.kind != VALUE and item is _MISSING:
            raise InvalidInput(
                f"memory '{name}' is a {_NAMES[spec.kind]}; say which of its entries expires: expire(…, item=…)",
                pointer="item",
            )
        self._root(name).expire(item, ttl)

    def collect(self, effects: link_pb2.Effects) -> None:
        """Appends what changed to `effects`, takes it as committed, and counts the version up if there was anything.

        Raises InvalidValue naming the memory and place of a value that cannot be stored; nothing is appended then, and
        `rollback` undoes the rest.
        """
        if not self._changed:
            return
        if self.version == 0:
            for spec in self._specs.values():
                if spec.kind != VALUE:
                    self._root(spec.name)
        plan = []
        for name, root in self._roots.items():
            log = root._log
            if log.active or log.initial:
                limit = self._specs[name].max_entries
                if limit:
                    root.evict(limit)
                plan.append((self._specs[name], root, root.encode(name)))
        changes = effects.memory
        before = len(changes)
        for spec, root, encoded in plan:
            log = root._log
            if log.cleared:
                change = changes.add()
                change.name = spec.name
                change.clear = True
            for id in log.removed:
                change = changes.add()
                change.name = spec.name
                change.remove = id
            steps: Iterable[tuple[Entry, bytes | None]] = encoded
            if log.recency is not None:
                steps = log.recency.steps(encoded)
            for entry, data in steps:
                change = changes.add()
                change.name = spec.name
                if data is None:
                    change.touch = entry.id
                    continue
                put = change.put
                put.id = entry.id
                put.value = data
                if entry.deadline is not None:
                    put.expires_in_ms = max(1, round((entry.deadline - self._clock()) * 1000))
            root.commit(encoded)
        self._changed = False
        if len(changes) > before:
            self.version += 1

    def rollback(self) -> bool:
        """Undoes what changed since the last `collect` or `load`; always possible."""
        if self._changed:
            for root in self._roots.values():
                if root._log.active:
                    root.rollback()
            self._changed = False
        return True

    def note_change(self) -> None:
        """One of the memories has changed."""
        self._changed = True

    def _root(self, name: str) -> Root:
        root = self._roots.get(name)
        if root is None:
            root = self._build(name)
        elif (expiring := root._log.expiring) is not None and expiring.due and not root._log.active:
            root = self._expire(name, root, expiring)
        return root

    def _build(self, name: str) -> Root:
        spec = self._specs[name]
        recency = Recency() if spec.max_entries and spec.kind in (MAP, SET) else None
        log = ChangeLog(self, self._clock, spec.ttl_ms / 1000 if spec.ttl_ms else None, recency)
        codec = spec.codec
        root: Root
        image = self._images.get(name)
        entries = _entries(image) if image is not None else ()
        fresh = not entries and (self.version == 0 or not spec.persistent or spec.kind == VALUE)
        initial = spec.initial_value(self._instance) if fresh or spec.kind == MAP else None
        if spec.kind == MAP:
            factory = initial.default_factory if isinstance(initial, collections.defaultdict) else None
            watched = bool(spec.max_entries) or codec.opaque
            root = WatchedMap(log, codec, factory) if watched else MemoryMap(log, codec, factory)
        elif spec.kind == LIST:
            root = WatchedList(log, codec) if codec.opaque else MemoryList(log, codec)
        elif spec.kind == SET:
            root = WatchedSet(log, codec) if spec.max_entries else MemorySet(log, codec)
        else:
            root = MemoryValue(log, codec)
        if fresh:
            changed = self._changed
            root.fill(initial)
            self._changed = changed
            log.active = False
        else:
            now, loaded = self._clock(), self._loaded_at
            items = []
            for entry in entries:
                deadline = loaded + entry.expires_in_ms / 1000 if entry.expires_in_ms else None
                if deadline is None or deadline > now:
                    items.append((entry.id, entry.value, deadline))
            if not items and spec.kind == VALUE:
                root.fill(spec.initial_value(self._instance))
            try:
                if not all(_is_entry(spec.kind, id) for id, _, _ in items):
                    raise InvalidInput(f"it was no {_NAMES[spec.kind]} before")
                root.load(items)
            except InvalidValue:
                raise  # not even JSON
            except InvalidInput as error:
                raise InvalidInput(
                    f"memory '{name}' remembers what its declaration does not allow: {error.message};"
                    " change that, or what is remembered (`amx memory`)",
                    pointer=name,
                ) from None
            log.expect_only(root.entries())
            if recency is not None:
                recency.load(root.entries())
        self._roots[name] = root
        if self._images.pop(name, None) is not None and not self._images:
            self._images = NOTHING
        return root

    def _expire(self, name: str, root: Root, expiring: Expiry) -> Root:
        """Drops what has expired. The engine expires it by itself, so this is no change."""
        log = root._log
        for entry in expiring.take(self._clock()):
            if type(root) is MemoryValue:
                root.fill(self._specs[name].initial_value(self._instance))
            else:
                if log.recency is not None:
                    log.recency.forget(entry)
                log.initial.pop(entry, None)
                root.forget(entry)
        return root


def _kept(image: memory_pb2.InstanceMemory) -> dict[str, memory_pb2.MemoryImage | bytes]:
    """The memories of `image` until they are used. Small ones as bytes: what is part of a message keeps all of it."""
    if image.ByteSize() > _SMALL_IMAGE_BYTES:
        return {one.name: one for one in image.memories}
    return {intern(one.name): _shared(one.name, one.SerializeToString()) for one in image.memories}


_latest: dict[str, bytes] = {}


def _shared(name: str, image: bytes) -> bytes:
    """The image, as the object that the instance before has of it: those made together begin with the same."""
    latest = _latest.get(name)
    if latest == image:
        return latest
    _latest[intern(name)] = image
    return image


def _entries(image: memory_pb2.MemoryImage | bytes) -> Sequence[memory_pb2.MemoryEntry]:
    return (memory_pb2.MemoryImage.FromString(image) if isinstance(image, bytes) else image).entries


class _Detached:
    """The memories of an object that no engine hosts."""

    def __init__(self, cls: type) -> None:
        self.memories: Mapping[str, MemorySpec] = memory_specs(cls)


_detached: dict[type, _Detached] = {}


def _attached(instance: Any) -> InstanceMemory:
    try:
        found: InstanceMemory | None = instance.__dict__.get(ATTACHED)
    except AttributeError:
        raise DefinitionError(
            f"{type(instance).__qualname__} has memories but no __dict__; remove __slots__ from the class"
        ) from None
    if found is not None:
        return found
    cls = type(instance)
    hosted = getattr(cls, "__dict__", {}).get("__amx_hosted__")
    if hosted is None:
        hosted = _detached.get(cls)
        if hosted is None:
            hosted = _detached[cls] = _Detached(cls)
    made = InstanceMemory(hosted)
    made.attach(instance)
    return made
