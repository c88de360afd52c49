"""Messages as handlers and senders see them: a thin, lazily decoding view of the wire's Message."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from time import time_ns
from typing import Any, TypeVar, overload

from amx.v1 import common_pb2, message_pb2
from amx_engine import _values
from amx_engine._errors import InvalidInput

T = TypeVar("T")

_UNSET: Any = object()


class Priority(IntEnum):
    """How urgent a message is; the lower the number, the sooner. No priority starves.

    Accepted by name everywhere: `Priority("high") is Priority.HIGH`.
    """

    CRITICAL = 1
    HIGH = 2
    NORMAL = 3
    LOW = 4
    BACKGROUND = 5

    @classmethod
    def _missing_(cls, value: object) -> Priority | None:
        if isinstance(value, str):
            return cls.__members__.get(value.upper())
        return cls.NORMAL if value == 0 else None

    @classmethod
    def of(cls, value: Priority | str | int) -> Priority:
        """The priority of that name or number. Raises InvalidInput listing the names."""
        if type(value) is cls:
            return value
        try:
            return cls(value)  # type: ignore[arg-type]  # names are found by _missing_
        except ValueError:
            names = ", ".join(name.lower() for name in cls.__members__)
            raise InvalidInput(f"priority {value!r} is unknown; use one of {names}", pointer="priority") from None


_PRIORITIES = {0: Priority.NORMAL, **{priority.value: priority for priority in Priority}}


class Message:
    """A message to an agent instance, or from one.

    content: any value with a JSON form, or a bytes-like `payload` with its `content_type`. type: chooses the handler
    where none is named. priority: a Priority or its name. headers: text to text, at most 8 KiB together. source: where
    the application says it came from. id: two durable messages with one id are one message. idempotency_key: a
    repeated request with it gets the first one's outcome. ttl: how long it may wait in a mailbox. delay: how long it
    is held back. durable: stored before it is acknowledged (None: what the operation and handler say).

    A delivered message is shared by everyone it is delivered to in this process: treat its content as read-only.
    """

    __slots__ = ("_content", "_proto")

    _proto: message_pb2.Message
    _content: Any

    def __init__(
        self,
        content: Any = None,
        *,
        type: str = "",
        priority: Priority | str | int = Priority.NORMAL,
        headers: Mapping[str, str] | None = None,
        source: str = "",
        id: str = "",
        idempotency_key: str = "",
        ttl: timedelta | None = None,
        delay: timedelta | None = None,
        durable: bool | None = None,
        agent: str = "",
        key: str = "",
        handler: str = "",
        payload: bytes | None = None,
        content_type: str = "",
        traceparent: str = "",
    ) -> None:
        proto = message_pb2.Message()
        fill(
            proto,
            agent,
            key,
            handler,
            type,
            priority,
            headers,
            delay,
            ttl,
            id,
            idempotency_key,
            durable,
            source,
            traceparent,
        )
        self._proto = proto
        if payload is not None:
            if content is not None:
                raise InvalidInput("a message has either content or payload, not both", pointer="payload")
            proto.payload.content_type = content_type or "application/octet-stream"
            proto.payload.data = payload
            content = _UNSET
        self._content = content

    @classmethod
    def from_proto(cls, proto: message_pb2.Message) -> Message:
        """A view of `proto`, which must not change afterwards. Decodes nothing yet."""
        message: Message = cls.__new__(cls)
        message._proto = proto
        message._content = _UNSET
        return message

    @classmethod
    def from_bytes(cls, proto: bytes, content_type: str, data: bytes) -> Message:
        """A view of a serialised message, whose payload is this. Decodes nothing yet."""
        message = _PlainMessage.__new__(_PlainMessage)
        message._bytes = proto
        message._kind = content_type
        message._data = data
        message._content = _UNSET
        return message

    @classmethod
    def from_event(cls, event: message_pb2.Event) -> Message:
        """The message a subscribed handler gets of a published event; attributes become headers."""
        message = _EventMessage.__new__(_EventMessage)
        message._event = event
        message._content = _UNSET
        return message

    def to_proto(self, target: message_pb2.Message) -> None:
        """Fills `target` with this message. Raises InvalidValue if the content has no JSON form."""
        target.CopyFrom(self._proto)
        if not target.sent_at_ms:
            target.sent_at_ms = time_ns() // 1_000_000
        content = self._content
        if content is not None and content is not _UNSET and not target.HasField("payload"):
            payload = target.payload
            payload.content_type, payload.data = encode_payload(content)

    @property
    def content(self) -> Any:
        """The content: decoded at first use, the same object afterwards. None if there is none.

        JSON becomes Python values, text stays text, anything else is bytes. Raises InvalidValue if it is not what its
        content type says.
        """
        content = self._content
        if content is _UNSET:
            content = self._content = decode_payload(self._proto.payload)
        return content

    def decoded(self) -> Any:
        """The content, for whoever makes something of it and may be the only one that asks: perhaps decoded anew."""
        return self.content

    def _looked_at(self) -> message_pb2.Message:
        """The message, for one look at one of its fields."""
        return self._proto

    def content_as(self, kind: type[T]) -> T:
        """The content as a dataclass, pydantic model, TypedDict or other annotated type.

        Raises InvalidInput naming the field that does not fit.
        """
        from amx_engine._schema import converter_of

        value: T = converter_of(kind).decode(self.content, "")
        return value

    @property
    def payload(self) -> bytes:
        """The content as it travels. Raises InvalidValue if it has no JSON form."""
        return self.encoded()[1]

    @property
    def content_type(self) -> str:
        """Media type of the payload; `application/json` if not said."""
        return self._proto.payload.content_type or self.encoded()[0] or _values.JSON

    def encoded(self) -> tuple[str, bytes]:
        """(content type, data) as they travel; ("", b"") if there is no content. Raises as `payload`."""
        content = self._content
        if content is _UNSET or content is None or self._proto.HasField("payload"):
            return self._proto.payload.content_type, self._proto.payload.data
        return encode_payload(content)

    @property
    def id(self) -> str:
        """Identity of the message; empty before the engine minted one."""
        return self._proto.message_id

    @property
    def type(self) -> str:
        """Application type."""
        return self._proto.type

    @property
    def agent(self) -> str:
        """Name of the agent it is for."""
        return self._proto.agent

    @property
    def key(self) -> str:
        """Key of the instance it is for."""
        return self._proto.key or "default"

    @property
    def handler(self) -> str:
        """Handler it names, or empty."""
        return self._proto.handler

    @property
    def priority(self) -> Priority:
        """How urgent it is."""
        number = self._looked_at().priority
        return _PRIORITIES.get(number) or Priority(int(number))

    @property
    def headers(self) -> Mapping[str, str]:
        """Application headers; read-only."""
        return self._proto.headers

    @property
    def source(self) -> str:
        """Where the application says it came from."""
        return self._proto.source

    @property
    def sender(self) -> str:
        """Who sent it: `agent/key`, or the subject of the caller's identity. Set by the engine."""
        return self._proto.sender

    @property
    def topic(self) -> str:
        """Topic of the event this message carries, or empty."""
        return self._proto.topic

    @property
    def idempotency_key(self) -> str:
        """Identity of the request across repeats, or empty."""
        return self._proto.idempotency_key

    @property
    def traceparent(self) -> str:
        """W3C trace context of the sender, or empty."""
        return self._proto.traceparent

    @property
    def ttl(self) -> timedelta | None:
        """How long it may wait in a mailbox; None: without end."""
        return timedelta(milliseconds=self._proto.ttl_ms) if self._proto.ttl_ms else None

    @property
    def delay(self) -> timedelta | None:
        """How long it is held back; None: not at all."""
        return timedelta(milliseconds=self._proto.delay_ms) if self._proto.delay_ms else None

    @property
    def durable(self) -> bool | None:
        """Whether it asks to be stored; None: it does not say."""
        durability = self._proto.durability
        return None if not durability else durability == common_pb2.DURABILITY_DURABLE

    @property
    def sent_at(self) -> datetime | None:
        """When its sender made it, in UTC; None if unknown."""
        millis = self._proto.sent_at_ms
        return datetime.fromtimestamp(millis / 1000, UTC) if millis else None

    def __repr__(self) -> str:
        proto = self._proto
        name = f"{proto.agent}/{proto.key or 'default'}" if proto.agent else "unaddressed"
        what = proto.handler or proto.type or proto.topic
        return f"<Message {proto.message_id or 'new'} to {name}{'#' + what if what else ''}>"


class _EventMessage(Message):
    """A Message made of an event. Few handlers look at more than the content: the rest is made when it is asked for."""

    __slots__ = ("_event", "_made")

    _event: message_pb2.Event
    _made: message_pb2.Message

    @property
    def _proto(self) -> message_pb2.Message:  # type: ignore[override]  # in place of the attribute
        try:
            return self._made
        except AttributeError:
            event = self._event
            proto = self._made = message_pb2.Message(
                topic=event.topic,
                key=event.key,
                message_id=event.event_id,
                sender=event.publisher,
                traceparent=event.traceparent,
                priority=event.priority,
                durability=event.durability,
                headers=event.attributes,
            )
            proto.payload.CopyFrom(event.payload)
            return proto

    @property
    def content(self) -> Any:
        content = self._content
        if content is _UNSET:
            content = self._content = decode_payload(self._event.payload)
        return content


class _PlainMessage(Message):
    """A Message as it travelled, and its payload; the rest is made when it is asked for."""

    __slots__ = ("_bytes", "_data", "_kind", "_made")

    _bytes: bytes
    _data: bytes
    _kind: str
    _made: message_pb2.Message

    @property
    def _proto(self) -> message_pb2.Message:  # type: ignore[override]  # in place of the attribute
        try:
            return self._made
        except AttributeError:
            proto = self._made = message_pb2.Message.FromString(self._bytes)
            return proto

    @property
    def content(self) -> Any:
        content = self._content
        if content is _UNSET:
            content = self._content = decode_content(self._kind, self._data)
        return content

    def _looked_at(self) -> message_pb2.Message:
        try:
            return self._made
        except AttributeError:
            return message_pb2.Message.FromString(self._bytes)  # not kept: it takes ten times as much as the bytes

    def decoded(self) -> Any:
        content = self._content
        return decode_content(self._kind, self._data) if content is _UNSET else content


class AgentReference:
    """The address of one agent instance: `name/key`; and of one of its handlers, where a router chooses that too."""

    __slots__ = ("handler", "key", "name")

    def __init__(self, name: str, key: str = "default", handler: str = "") -> None:
        if not name:
            raise InvalidInput("an agent reference needs the name of an agent", pointer="name")
        self.name = name
        self.key = key or "default"
        self.handler = handler

    @classmethod
    def parse(cls, address: str) -> AgentReference:
        """The reference of `name/key`, or of `name` alone."""
        name, _, key = address.partition("/")
        return cls(name, key)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AgentReference):
            return NotImplemented
        return (self.name, self.key, self.handler) == (other.name, other.key, other.handler)

    def __hash__(self) -> int:
        return hash((self.name, self.key, self.handler))

    def __str__(self) -> str:
        return f"{self.name}/{self.key}" + (f"#{self.handler}" if self.handler else "")

    def __repr__(self) -> str:
        return f"AgentReference({str(self)!r})"


def outgoing(
    agent: str | AgentReference,
    content: Any,
    key: str = "",
    handler: str = "",
    type: str = "",
    priority: Priority | str = Priority.NORMAL,
    headers: Mapping[str, str] | None = None,
    delay: timedelta | None = None,
    ttl: timedelta | None = None,
    id: str = "",
    idempotency_key: str = "",
    durable: bool | None = None,
) -> message_pb2.Message:
    """A new message to `agent`, as it travels; a Message given as content keeps what the other arguments do not say.

    Raises InvalidValue if the content has no JSON form, InvalidInput naming an argument that cannot be.
    """
    proto = message_pb2.Message()
    if isinstance(content, Message):
        content.to_proto(proto)
        proto.sender = proto.topic = ""  # who passes a message on is its sender now
    else:
        proto.sent_at_ms = time_ns() // 1_000_000
        if content is not None:
            payload = proto.payload
            payload.content_type, payload.data = encode_payload(content)
    if isinstance(agent, AgentReference):
        key = key or agent.key
        handler = handler or agent.handler
        agent = agent.name
    elif not key and "/" in agent:
        agent, _, key = agent.partition("/")
    fill(proto, agent, key, handler, type, priority, headers, delay, ttl, id, idempotency_key, durable)
    return proto


def fill(
    proto: message_pb2.Message,
    agent: str,
    key: str,
    handler: str,
    type: str,
    priority: Priority | str | int,
    headers: Mapping[str, str] | None,
    delay: timedelta | None,
    ttl: timedelta | None,
    id: str,
    idempotency_key: str,
    durable: bool | None,
    source: str = "",
    traceparent: str = "",
) -> None:
    """Sets the fields that are given. Raises InvalidInput naming an argument that cannot be."""
    if agent:
        proto.agent = agent
    if key:
        proto.key = key
    if handler:
        proto.handler = handler
    if type:
        proto.type = type
    if priority is not Priority.NORMAL:
        proto.priority = Priority.of(priority).value  # type: ignore[assignment]
    if headers:
        proto.headers.update(headers)
    if delay is not None:
        proto.delay_ms = milliseconds(delay, "delay")
    if ttl is not None:
        proto.ttl_ms = milliseconds(ttl, "ttl")
    if id:
        proto.message_id = id
    if idempotency_key:
        proto.idempotency_key = idempotency_key
    if durable is not None:
        proto.durability = common_pb2.DURABILITY_DURABLE if durable else common_pb2.DURABILITY_VOLATILE
    if source:
        proto.source = source
    if traceparent:
        proto.traceparent = traceparent


def encode_payload(content: Any) -> tuple[str, bytes]:
    """(content type, data) of any value; ("", b"") for None. Raises InvalidValue naming the place."""
    if content is None:
        return "", b""
    if isinstance(content, common_pb2.Payload):
        return content.content_type, content.data
    to_payload = getattr(content, "to_payload", None)
    if to_payload is not None:
        pair: tuple[str, bytes] = to_payload()
        return pair
    return _values.JSON, _values.encode(content)


def decode_payload(payload: common_pb2.Payload) -> Any:
    """The value of a payload; see `decode_content`."""
    return decode_content(payload.content_type, payload.data)


def decode_content(kind: str, data: bytes) -> Any:
    """The value of a payload of content type `kind`: JSON decoded, text as str, else bytes; None if there is none."""
    if not data and not kind:
        return None
    if not kind or kind == _values.JSON:
        return _values.decode(data)
    media = kind.partition(";")[0].strip().lower()
    if media == _values.JSON or media.endswith("+json"):
        return _values.decode(data)
    if media.startswith("text/"):
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _values.InvalidValue(f"content says {kind} but is not UTF-8 at byte {error.start}") from None
    return data


@overload
def milliseconds(value: timedelta | float | str, what: str) -> int: ...
@overload
def milliseconds(value: None, what: str) -> None: ...
def milliseconds(value: timedelta | float | str | None, what: str) -> int | None:
    """Whole milliseconds, at least 1 for anything above zero.

    value: a timedelta, seconds, or text such as `250ms`, `30s`, `5m`, `24h`, `7d`. Raises InvalidInput naming `what`.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = _parse_period(value, what)
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 <= seconds < 2**53 / 1000:
        raise InvalidInput(f"{what} is {value!r}; expected zero or a positive length of time", pointer=what)
    millis = round(seconds * 1000)
    return 1 if seconds and not millis else millis


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _parse_period(text: str, what: str) -> timedelta:
    number = text.strip().rstrip("msdh")
    unit = text.strip()[len(number) :]
    try:
        return timedelta(seconds=float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        raise InvalidInput(
            f"{what} is {text!r}; expected a timedelta, seconds, or text such as 250ms, 30s, 5m, 24h, 7d", pointer=what
        ) from None
