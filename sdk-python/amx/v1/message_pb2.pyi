from amx.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Message(_message.Message):
    __slots__ = ("agent", "key", "handler", "type", "payload", "headers", "priority", "message_id", "idempotency_key", "ttl_ms", "source", "sender", "traceparent", "durability", "delay_ms", "sent_at_ms", "topic")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AGENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    agent: str
    key: str
    handler: str
    type: str
    payload: _common_pb2.Payload
    headers: _containers.ScalarMap[str, str]
    priority: _common_pb2.Priority
    message_id: str
    idempotency_key: str
    ttl_ms: int
    source: str
    sender: str
    traceparent: str
    durability: _common_pb2.Durability
    delay_ms: int
    sent_at_ms: int
    topic: str
    def __init__(self, agent: _Optional[str] = ..., key: _Optional[str] = ..., handler: _Optional[str] = ..., type: _Optional[str] = ..., payload: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., headers: _Optional[_Mapping[str, str]] = ..., priority: _Optional[_Union[_common_pb2.Priority, str]] = ..., message_id: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., ttl_ms: _Optional[int] = ..., source: _Optional[str] = ..., sender: _Optional[str] = ..., traceparent: _Optional[str] = ..., durability: _Optional[_Union[_common_pb2.Durability, str]] = ..., delay_ms: _Optional[int] = ..., sent_at_ms: _Optional[int] = ..., topic: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("topic", "payload", "attributes", "event_id", "key", "durability", "publisher", "traceparent", "priority")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    PUBLISHER_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    topic: str
    payload: _common_pb2.Payload
    attributes: _containers.ScalarMap[str, str]
    event_id: str
    key: str
    durability: _common_pb2.Durability
    publisher: str
    traceparent: str
    priority: _common_pb2.Priority
    def __init__(self, topic: _Optional[str] = ..., payload: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., attributes: _Optional[_Mapping[str, str]] = ..., event_id: _Optional[str] = ..., key: _Optional[str] = ..., durability: _Optional[_Union[_common_pb2.Durability, str]] = ..., publisher: _Optional[str] = ..., traceparent: _Optional[str] = ..., priority: _Optional[_Union[_common_pb2.Priority, str]] = ...) -> None: ...

class Subscription(_message.Message):
    __slots__ = ("pattern", "filter", "handler")
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    pattern: str
    filter: str
    handler: str
    def __init__(self, pattern: _Optional[str] = ..., filter: _Optional[str] = ..., handler: _Optional[str] = ...) -> None: ...

class BroadcastScope(_message.Message):
    __slots__ = ("all", "agent", "group", "labels")
    ALL_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    all: bool
    agent: str
    group: str
    labels: str
    def __init__(self, all: bool = ..., agent: _Optional[str] = ..., group: _Optional[str] = ..., labels: _Optional[str] = ...) -> None: ...

class BroadcastRecipient(_message.Message):
    __slots__ = ("instance", "result", "failure")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    result: _common_pb2.Payload
    failure: _common_pb2.Failure
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ...) -> None: ...

class BroadcastResult(_message.Message):
    __slots__ = ("message_id", "recipients", "succeeded", "failed")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    recipients: _containers.RepeatedCompositeFieldContainer[BroadcastRecipient]
    succeeded: int
    failed: int
    def __init__(self, message_id: _Optional[str] = ..., recipients: _Optional[_Iterable[_Union[BroadcastRecipient, _Mapping]]] = ..., succeeded: _Optional[int] = ..., failed: _Optional[int] = ...) -> None: ...
