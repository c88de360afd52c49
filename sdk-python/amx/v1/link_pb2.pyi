from amx.v1 import agent_pb2 as _agent_pb2
from amx.v1 import common_pb2 as _common_pb2
from amx.v1 import memory_pb2 as _memory_pb2
from amx.v1 import message_pb2 as _message_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LinkFrame(_message.Message):
    __slots__ = ("items", "seq", "ack")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[LinkItem]
    seq: int
    ack: int
    def __init__(self, items: _Optional[_Iterable[_Union[LinkItem, _Mapping]]] = ..., seq: _Optional[int] = ..., ack: _Optional[int] = ...) -> None: ...

class LinkItem(_message.Message):
    __slots__ = ("id", "hello", "welcome", "rejected", "invoke", "complete", "chunk", "call", "reply", "deliver", "delivered", "event", "activate", "deactivate", "credit", "ping", "pong", "cancel", "drain", "drained", "go_away", "register")
    ID_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    INVOKE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    DELIVER_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_FIELD_NUMBER: _ClassVar[int]
    DEACTIVATE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    DRAINED_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    REGISTER_FIELD_NUMBER: _ClassVar[int]
    id: int
    hello: Hello
    welcome: Welcome
    rejected: Rejected
    invoke: Invoke
    complete: Complete
    chunk: Chunk
    call: Call
    reply: Reply
    deliver: Deliver
    delivered: Delivered
    event: _message_pb2.Event
    activate: Activate
    deactivate: Deactivate
    credit: Credit
    ping: Ping
    pong: Pong
    cancel: Cancel
    drain: Drain
    drained: Drained
    go_away: GoAway
    register: Register
    def __init__(self, id: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., rejected: _Optional[_Union[Rejected, _Mapping]] = ..., invoke: _Optional[_Union[Invoke, _Mapping]] = ..., complete: _Optional[_Union[Complete, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., call: _Optional[_Union[Call, _Mapping]] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ..., deliver: _Optional[_Union[Deliver, _Mapping]] = ..., delivered: _Optional[_Union[Delivered, _Mapping]] = ..., event: _Optional[_Union[_message_pb2.Event, _Mapping]] = ..., activate: _Optional[_Union[Activate, _Mapping]] = ..., deactivate: _Optional[_Union[Deactivate, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., drained: _Optional[_Union[Drained, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ..., register: _Optional[_Union[Register, _Mapping]] = ...) -> None: ...

class SoftwareInfo(_message.Message):
    __slots__ = ("name", "version", "language")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    language: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., language: _Optional[str] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("link_id", "sdk", "protocol_min", "protocol_max", "features", "agents", "resume_token", "received_seq", "credit", "host", "engines_known")
    LINK_ID_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_SEQ_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ENGINES_KNOWN_FIELD_NUMBER: _ClassVar[int]
    link_id: str
    sdk: SoftwareInfo
    protocol_min: int
    protocol_max: int
    features: _containers.RepeatedScalarFieldContainer[str]
    agents: _containers.RepeatedCompositeFieldContainer[_agent_pb2.AgentDefinition]
    resume_token: str
    received_seq: int
    credit: int
    host: str
    engines_known: bool
    def __init__(self, link_id: _Optional[str] = ..., sdk: _Optional[_Union[SoftwareInfo, _Mapping]] = ..., protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., agents: _Optional[_Iterable[_Union[_agent_pb2.AgentDefinition, _Mapping]]] = ..., resume_token: _Optional[str] = ..., received_seq: _Optional[int] = ..., credit: _Optional[int] = ..., host: _Optional[str] = ..., engines_known: bool = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("session_id", "protocol", "features", "limits", "heartbeat_interval_ms", "resume_token", "resume_window_ms", "resumed", "received_seq", "namespace", "engine", "engines", "engine_number")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESUME_WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_SEQ_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    ENGINE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    protocol: int
    features: _containers.RepeatedScalarFieldContainer[str]
    limits: Limits
    heartbeat_interval_ms: int
    resume_token: str
    resume_window_ms: int
    resumed: bool
    received_seq: int
    namespace: str
    engine: SoftwareInfo
    engines: _containers.RepeatedCompositeFieldContainer[EngineEndpoint]
    engine_number: int
    def __init__(self, session_id: _Optional[str] = ..., protocol: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., heartbeat_interval_ms: _Optional[int] = ..., resume_token: _Optional[str] = ..., resume_window_ms: _Optional[int] = ..., resumed: bool = ..., received_seq: _Optional[int] = ..., namespace: _Optional[str] = ..., engine: _Optional[_Union[SoftwareInfo, _Mapping]] = ..., engines: _Optional[_Iterable[_Union[EngineEndpoint, _Mapping]]] = ..., engine_number: _Optional[int] = ...) -> None: ...

class EngineEndpoint(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_item_bytes", "max_frame_bytes", "max_frame_items", "max_header_bytes", "max_key_bytes", "max_calls_in_flight", "stream_window")
    MAX_ITEM_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_HEADER_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_KEY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_CALLS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    STREAM_WINDOW_FIELD_NUMBER: _ClassVar[int]
    max_item_bytes: int
    max_frame_bytes: int
    max_frame_items: int
    max_header_bytes: int
    max_key_bytes: int
    max_calls_in_flight: int
    stream_window: int
    def __init__(self, max_item_bytes: _Optional[int] = ..., max_frame_bytes: _Optional[int] = ..., max_frame_items: _Optional[int] = ..., max_header_bytes: _Optional[int] = ..., max_key_bytes: _Optional[int] = ..., max_calls_in_flight: _Optional[int] = ..., stream_window: _Optional[int] = ...) -> None: ...

class Rejected(_message.Message):
    __slots__ = ("failure",)
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    failure: _common_pb2.Failure
    def __init__(self, failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ...) -> None: ...

class Invoke(_message.Message):
    __slots__ = ("message", "attempt", "epoch", "timeout_ms", "memory_version", "memory", "streaming")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_VERSION_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    STREAMING_FIELD_NUMBER: _ClassVar[int]
    message: _message_pb2.Message
    attempt: int
    epoch: int
    timeout_ms: int
    memory_version: int
    memory: _memory_pb2.InstanceMemory
    streaming: bool
    def __init__(self, message: _Optional[_Union[_message_pb2.Message, _Mapping]] = ..., attempt: _Optional[int] = ..., epoch: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., memory_version: _Optional[int] = ..., memory: _Optional[_Union[_memory_pb2.InstanceMemory, _Mapping]] = ..., streaming: bool = ...) -> None: ...

class Complete(_message.Message):
    __slots__ = ("attempt", "epoch", "result", "failure", "effects", "duration_us", "memory_dropped")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    MEMORY_DROPPED_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    epoch: int
    result: _common_pb2.Payload
    failure: _common_pb2.Failure
    effects: Effects
    duration_us: int
    memory_dropped: bool
    def __init__(self, attempt: _Optional[int] = ..., epoch: _Optional[int] = ..., result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., effects: _Optional[_Union[Effects, _Mapping]] = ..., duration_us: _Optional[int] = ..., memory_dropped: bool = ...) -> None: ...

class Effects(_message.Message):
    __slots__ = ("memory", "messages", "events", "schedules", "cancelled_schedules", "subscriptions", "cancelled_subscriptions")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    memory: _containers.RepeatedCompositeFieldContainer[_memory_pb2.MemoryChange]
    messages: _containers.RepeatedCompositeFieldContainer[_message_pb2.Message]
    events: _containers.RepeatedCompositeFieldContainer[_message_pb2.Event]
    schedules: _containers.RepeatedCompositeFieldContainer[_agent_pb2.ScheduleDefinition]
    cancelled_schedules: _containers.RepeatedScalarFieldContainer[str]
    subscriptions: _containers.RepeatedCompositeFieldContainer[_message_pb2.Subscription]
    cancelled_subscriptions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, memory: _Optional[_Iterable[_Union[_memory_pb2.MemoryChange, _Mapping]]] = ..., messages: _Optional[_Iterable[_Union[_message_pb2.Message, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[_message_pb2.Event, _Mapping]]] = ..., schedules: _Optional[_Iterable[_Union[_agent_pb2.ScheduleDefinition, _Mapping]]] = ..., cancelled_schedules: _Optional[_Iterable[str]] = ..., subscriptions: _Optional[_Iterable[_Union[_message_pb2.Subscription, _Mapping]]] = ..., cancelled_subscriptions: _Optional[_Iterable[str]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("payload",)
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    payload: _common_pb2.Payload
    def __init__(self, payload: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("invocation_id", "timeout_ms", "send", "request", "stream", "publish", "subscribe", "broadcast", "memory")
    INVOCATION_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    SEND_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    BROADCAST_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    invocation_id: int
    timeout_ms: int
    send: _message_pb2.Message
    request: _message_pb2.Message
    stream: _message_pb2.Message
    publish: _message_pb2.Event
    subscribe: _message_pb2.Subscription
    broadcast: Broadcast
    memory: _memory_pb2.MemoryOperation
    def __init__(self, invocation_id: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., send: _Optional[_Union[_message_pb2.Message, _Mapping]] = ..., request: _Optional[_Union[_message_pb2.Message, _Mapping]] = ..., stream: _Optional[_Union[_message_pb2.Message, _Mapping]] = ..., publish: _Optional[_Union[_message_pb2.Event, _Mapping]] = ..., subscribe: _Optional[_Union[_message_pb2.Subscription, _Mapping]] = ..., broadcast: _Optional[_Union[Broadcast, _Mapping]] = ..., memory: _Optional[_Union[_memory_pb2.MemoryOperation, _Mapping]] = ...) -> None: ...

class Broadcast(_message.Message):
    __slots__ = ("scope", "message")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    scope: _message_pb2.BroadcastScope
    message: _message_pb2.Message
    def __init__(self, scope: _Optional[_Union[_message_pb2.BroadcastScope, _Mapping]] = ..., message: _Optional[_Union[_message_pb2.Message, _Mapping]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("result", "failure", "accepted", "published", "broadcast", "memory", "subscribed")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    BROADCAST_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.Payload
    failure: _common_pb2.Failure
    accepted: Accepted
    published: Published
    broadcast: _message_pb2.BroadcastResult
    memory: _memory_pb2.MemoryOperationResult
    subscribed: Subscribed
    def __init__(self, result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., published: _Optional[_Union[Published, _Mapping]] = ..., broadcast: _Optional[_Union[_message_pb2.BroadcastResult, _Mapping]] = ..., memory: _Optional[_Union[_memory_pb2.MemoryOperationResult, _Mapping]] = ..., subscribed: _Optional[_Union[Subscribed, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("message_id", "duplicate")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    duplicate: bool
    def __init__(self, message_id: _Optional[str] = ..., duplicate: bool = ...) -> None: ...

class Published(_message.Message):
    __slots__ = ("event_id", "subscribers")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    subscribers: int
    def __init__(self, event_id: _Optional[str] = ..., subscribers: _Optional[int] = ...) -> None: ...

class Subscribed(_message.Message):
    __slots__ = ("subscription_id",)
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    subscription_id: int
    def __init__(self, subscription_id: _Optional[int] = ...) -> None: ...

class Deliver(_message.Message):
    __slots__ = ("event", "agent", "handler", "epochs")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    event: _message_pb2.Event
    agent: str
    handler: str
    epochs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, event: _Optional[_Union[_message_pb2.Event, _Mapping]] = ..., agent: _Optional[str] = ..., handler: _Optional[str] = ..., epochs: _Optional[_Iterable[int]] = ...) -> None: ...

class Delivered(_message.Message):
    __slots__ = ("targets",)
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    targets: _containers.RepeatedCompositeFieldContainer[DeliveredTarget]
    def __init__(self, targets: _Optional[_Iterable[_Union[DeliveredTarget, _Mapping]]] = ...) -> None: ...

class DeliveredTarget(_message.Message):
    __slots__ = ("index", "failure", "effects", "memory_dropped")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_DROPPED_FIELD_NUMBER: _ClassVar[int]
    index: int
    failure: _common_pb2.Failure
    effects: Effects
    memory_dropped: bool
    def __init__(self, index: _Optional[int] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., effects: _Optional[_Union[Effects, _Mapping]] = ..., memory_dropped: bool = ...) -> None: ...

class Activate(_message.Message):
    __slots__ = ("instance", "epoch", "memory_version", "memory")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MEMORY_VERSION_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    epoch: int
    memory_version: int
    memory: _memory_pb2.InstanceMemory
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., epoch: _Optional[int] = ..., memory_version: _Optional[int] = ..., memory: _Optional[_Union[_memory_pb2.InstanceMemory, _Mapping]] = ...) -> None: ...

class Deactivate(_message.Message):
    __slots__ = ("epochs",)
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    epochs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, epochs: _Optional[_Iterable[int]] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("invocations", "chunks")
    INVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    invocations: int
    chunks: int
    def __init__(self, invocations: _Optional[int] = ..., chunks: _Optional[int] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("nonce", "slots_in_use", "event_loop_lag_us")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_IN_USE_FIELD_NUMBER: _ClassVar[int]
    EVENT_LOOP_LAG_US_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    slots_in_use: int
    event_loop_lag_us: int
    def __init__(self, nonce: _Optional[int] = ..., slots_in_use: _Optional[int] = ..., event_loop_lag_us: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Drained(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("reason", "deadline_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    deadline_ms: int
    def __init__(self, reason: _Optional[str] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class Register(_message.Message):
    __slots__ = ("agents", "removed")
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[_agent_pb2.AgentDefinition]
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, agents: _Optional[_Iterable[_Union[_agent_pb2.AgentDefinition, _Mapping]]] = ..., removed: _Optional[_Iterable[str]] = ...) -> None: ...
