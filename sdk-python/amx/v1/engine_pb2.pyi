from amx.v1 import agent_pb2 as _agent_pb2
from amx.v1 import common_pb2 as _common_pb2
from amx.v1 import memory_pb2 as _memory_pb2
from amx.v1 import message_pb2 as _message_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InstanceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INSTANCE_STATE_UNSPECIFIED: _ClassVar[InstanceState]
    INSTANCE_STATE_IDLE: _ClassVar[InstanceState]
    INSTANCE_STATE_RUNNING: _ClassVar[InstanceState]
    INSTANCE_STATE_QUEUED: _ClassVar[InstanceState]
    INSTANCE_STATE_HIBERNATED: _ClassVar[InstanceState]
    INSTANCE_STATE_SUSPENDED: _ClassVar[InstanceState]

class WaitReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WAIT_REASON_UNSPECIFIED: _ClassVar[WaitReason]
    WAIT_REASON_MODEL: _ClassVar[WaitReason]
    WAIT_REASON_TOOL: _ClassVar[WaitReason]
    WAIT_REASON_FILE: _ClassVar[WaitReason]
    WAIT_REASON_MESSAGE: _ClassVar[WaitReason]
    WAIT_REASON_TIMER: _ClassVar[WaitReason]
    WAIT_REASON_USER: _ClassVar[WaitReason]
    WAIT_REASON_MEMORY: _ClassVar[WaitReason]
    WAIT_REASON_LINK: _ClassVar[WaitReason]

class InvocationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INVOCATION_STATE_UNSPECIFIED: _ClassVar[InvocationState]
    INVOCATION_STATE_QUEUED: _ClassVar[InvocationState]
    INVOCATION_STATE_RUNNING: _ClassVar[InvocationState]
    INVOCATION_STATE_BACKING_OFF: _ClassVar[InvocationState]
    INVOCATION_STATE_SUCCEEDED: _ClassVar[InvocationState]
    INVOCATION_STATE_FAILED: _ClassVar[InvocationState]
    INVOCATION_STATE_CANCELLED: _ClassVar[InvocationState]
    INVOCATION_STATE_DEAD: _ClassVar[InvocationState]

class PressureLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRESSURE_LEVEL_UNSPECIFIED: _ClassVar[PressureLevel]
    PRESSURE_LEVEL_NORMAL: _ClassVar[PressureLevel]
    PRESSURE_LEVEL_ELEVATED: _ClassVar[PressureLevel]
    PRESSURE_LEVEL_HIGH: _ClassVar[PressureLevel]
    PRESSURE_LEVEL_CRITICAL: _ClassVar[PressureLevel]
INSTANCE_STATE_UNSPECIFIED: InstanceState
INSTANCE_STATE_IDLE: InstanceState
INSTANCE_STATE_RUNNING: InstanceState
INSTANCE_STATE_QUEUED: InstanceState
INSTANCE_STATE_HIBERNATED: InstanceState
INSTANCE_STATE_SUSPENDED: InstanceState
WAIT_REASON_UNSPECIFIED: WaitReason
WAIT_REASON_MODEL: WaitReason
WAIT_REASON_TOOL: WaitReason
WAIT_REASON_FILE: WaitReason
WAIT_REASON_MESSAGE: WaitReason
WAIT_REASON_TIMER: WaitReason
WAIT_REASON_USER: WaitReason
WAIT_REASON_MEMORY: WaitReason
WAIT_REASON_LINK: WaitReason
INVOCATION_STATE_UNSPECIFIED: InvocationState
INVOCATION_STATE_QUEUED: InvocationState
INVOCATION_STATE_RUNNING: InvocationState
INVOCATION_STATE_BACKING_OFF: InvocationState
INVOCATION_STATE_SUCCEEDED: InvocationState
INVOCATION_STATE_FAILED: InvocationState
INVOCATION_STATE_CANCELLED: InvocationState
INVOCATION_STATE_DEAD: InvocationState
PRESSURE_LEVEL_UNSPECIFIED: PressureLevel
PRESSURE_LEVEL_NORMAL: PressureLevel
PRESSURE_LEVEL_ELEVATED: PressureLevel
PRESSURE_LEVEL_HIGH: PressureLevel
PRESSURE_LEVEL_CRITICAL: PressureLevel

class SendRequest(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: _message_pb2.Message
    def __init__(self, message: _Optional[_Union[_message_pb2.Message, _Mapping]] = ...) -> None: ...

class SendResponse(_message.Message):
    __slots__ = ("message_id", "duplicate")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    duplicate: bool
    def __init__(self, message_id: _Optional[str] = ..., duplicate: bool = ...) -> None: ...

class RequestRequest(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: _message_pb2.Message
    def __init__(self, message: _Optional[_Union[_message_pb2.Message, _Mapping]] = ...) -> None: ...

class RequestResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _common_pb2.Payload
    def __init__(self, result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ...) -> None: ...

class StreamRequestRequest(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: _message_pb2.Message
    def __init__(self, message: _Optional[_Union[_message_pb2.Message, _Mapping]] = ...) -> None: ...

class StreamRequestResponse(_message.Message):
    __slots__ = ("chunk", "result")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    chunk: _common_pb2.Payload
    result: _common_pb2.Payload
    def __init__(self, chunk: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _message_pb2.Event
    def __init__(self, event: _Optional[_Union[_message_pb2.Event, _Mapping]] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("event_id", "subscribers")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    subscribers: int
    def __init__(self, event_id: _Optional[str] = ..., subscribers: _Optional[int] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("subscription",)
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    subscription: _message_pb2.Subscription
    def __init__(self, subscription: _Optional[_Union[_message_pb2.Subscription, _Mapping]] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _message_pb2.Event
    def __init__(self, event: _Optional[_Union[_message_pb2.Event, _Mapping]] = ...) -> None: ...

class BroadcastRequest(_message.Message):
    __slots__ = ("scope", "message")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    scope: _message_pb2.BroadcastScope
    message: _message_pb2.Message
    def __init__(self, scope: _Optional[_Union[_message_pb2.BroadcastScope, _Mapping]] = ..., message: _Optional[_Union[_message_pb2.Message, _Mapping]] = ...) -> None: ...

class BroadcastResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _message_pb2.BroadcastResult
    def __init__(self, result: _Optional[_Union[_message_pb2.BroadcastResult, _Mapping]] = ...) -> None: ...

class ListAgentsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAgentsResponse(_message.Message):
    __slots__ = ("agents", "next_page_token")
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[AgentInfo]
    next_page_token: str
    def __init__(self, agents: _Optional[_Iterable[_Union[AgentInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AgentInfo(_message.Message):
    __slots__ = ("definition", "versions", "active_instances", "queued_messages", "pinned_version", "processed", "failed")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    QUEUED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    PINNED_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROCESSED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    definition: _agent_pb2.AgentDefinition
    versions: _containers.RepeatedCompositeFieldContainer[AgentVersionInfo]
    active_instances: int
    queued_messages: int
    pinned_version: str
    processed: int
    failed: int
    def __init__(self, definition: _Optional[_Union[_agent_pb2.AgentDefinition, _Mapping]] = ..., versions: _Optional[_Iterable[_Union[AgentVersionInfo, _Mapping]]] = ..., active_instances: _Optional[int] = ..., queued_messages: _Optional[int] = ..., pinned_version: _Optional[str] = ..., processed: _Optional[int] = ..., failed: _Optional[int] = ...) -> None: ...

class AgentVersionInfo(_message.Message):
    __slots__ = ("version", "links", "active")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    version: str
    links: int
    active: bool
    def __init__(self, version: _Optional[str] = ..., links: _Optional[int] = ..., active: bool = ...) -> None: ...

class GetAgentRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetAgentResponse(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: AgentInfo
    def __init__(self, agent: _Optional[_Union[AgentInfo, _Mapping]] = ...) -> None: ...

class ActivateAgentVersionRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ActivateAgentVersionResponse(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: AgentInfo
    def __init__(self, agent: _Optional[_Union[AgentInfo, _Mapping]] = ...) -> None: ...

class Wait(_message.Message):
    __slots__ = ("reason", "detail", "for_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    FOR_MS_FIELD_NUMBER: _ClassVar[int]
    reason: WaitReason
    detail: str
    for_ms: int
    def __init__(self, reason: _Optional[_Union[WaitReason, str]] = ..., detail: _Optional[str] = ..., for_ms: _Optional[int] = ...) -> None: ...

class InstanceInfo(_message.Message):
    __slots__ = ("instance", "state", "queued_messages", "link_id", "epoch", "memory_version", "memory_bytes", "idle_ms", "waits", "suspended_because", "supervisor")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    QUEUED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    LINK_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MEMORY_VERSION_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    IDLE_MS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    SUSPENDED_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    SUPERVISOR_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    state: InstanceState
    queued_messages: int
    link_id: str
    epoch: int
    memory_version: int
    memory_bytes: int
    idle_ms: int
    waits: _containers.RepeatedCompositeFieldContainer[Wait]
    suspended_because: str
    supervisor: str
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., state: _Optional[_Union[InstanceState, str]] = ..., queued_messages: _Optional[int] = ..., link_id: _Optional[str] = ..., epoch: _Optional[int] = ..., memory_version: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., idle_ms: _Optional[int] = ..., waits: _Optional[_Iterable[_Union[Wait, _Mapping]]] = ..., suspended_because: _Optional[str] = ..., supervisor: _Optional[str] = ...) -> None: ...

class ListInstancesRequest(_message.Message):
    __slots__ = ("agent", "state", "page_size", "page_token")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    agent: str
    state: InstanceState
    page_size: int
    page_token: str
    def __init__(self, agent: _Optional[str] = ..., state: _Optional[_Union[InstanceState, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListInstancesResponse(_message.Message):
    __slots__ = ("instances", "next_page_token")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[InstanceInfo]
    next_page_token: str
    def __init__(self, instances: _Optional[_Iterable[_Union[InstanceInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetInstanceRequest(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ...) -> None: ...

class GetInstanceResponse(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: InstanceInfo
    def __init__(self, instance: _Optional[_Union[InstanceInfo, _Mapping]] = ...) -> None: ...

class InvocationInfo(_message.Message):
    __slots__ = ("message_id", "instance", "handler", "state", "attempts", "durable", "priority", "accepted_at_ms", "result", "failure", "sender")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    instance: _common_pb2.InstanceRef
    handler: str
    state: InvocationState
    attempts: int
    durable: bool
    priority: _common_pb2.Priority
    accepted_at_ms: int
    result: _common_pb2.Payload
    failure: _common_pb2.Failure
    sender: str
    def __init__(self, message_id: _Optional[str] = ..., instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., handler: _Optional[str] = ..., state: _Optional[_Union[InvocationState, str]] = ..., attempts: _Optional[int] = ..., durable: bool = ..., priority: _Optional[_Union[_common_pb2.Priority, str]] = ..., accepted_at_ms: _Optional[int] = ..., result: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., sender: _Optional[str] = ...) -> None: ...

class ListInvocationsRequest(_message.Message):
    __slots__ = ("agent", "state", "page_size", "page_token")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    agent: str
    state: InvocationState
    page_size: int
    page_token: str
    def __init__(self, agent: _Optional[str] = ..., state: _Optional[_Union[InvocationState, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListInvocationsResponse(_message.Message):
    __slots__ = ("invocations", "next_page_token")
    INVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    invocations: _containers.RepeatedCompositeFieldContainer[InvocationInfo]
    next_page_token: str
    def __init__(self, invocations: _Optional[_Iterable[_Union[InvocationInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetInvocationRequest(_message.Message):
    __slots__ = ("message_id",)
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    def __init__(self, message_id: _Optional[str] = ...) -> None: ...

class GetInvocationResponse(_message.Message):
    __slots__ = ("invocation",)
    INVOCATION_FIELD_NUMBER: _ClassVar[int]
    invocation: InvocationInfo
    def __init__(self, invocation: _Optional[_Union[InvocationInfo, _Mapping]] = ...) -> None: ...

class CancelInvocationRequest(_message.Message):
    __slots__ = ("message_id", "reason")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    reason: str
    def __init__(self, message_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelInvocationResponse(_message.Message):
    __slots__ = ("cancelled",)
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    cancelled: bool
    def __init__(self, cancelled: bool = ...) -> None: ...

class WaitInvocationRequest(_message.Message):
    __slots__ = ("message_id",)
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    def __init__(self, message_id: _Optional[str] = ...) -> None: ...

class WaitInvocationResponse(_message.Message):
    __slots__ = ("invocation",)
    INVOCATION_FIELD_NUMBER: _ClassVar[int]
    invocation: InvocationInfo
    def __init__(self, invocation: _Optional[_Union[InvocationInfo, _Mapping]] = ...) -> None: ...

class ScheduleInfo(_message.Message):
    __slots__ = ("schedule_id", "instance", "definition", "next_run_at_ms", "last_run_at_ms", "paused")
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    NEXT_RUN_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_RUN_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    schedule_id: str
    instance: _common_pb2.InstanceRef
    definition: _agent_pb2.ScheduleDefinition
    next_run_at_ms: int
    last_run_at_ms: int
    paused: bool
    def __init__(self, schedule_id: _Optional[str] = ..., instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., definition: _Optional[_Union[_agent_pb2.ScheduleDefinition, _Mapping]] = ..., next_run_at_ms: _Optional[int] = ..., last_run_at_ms: _Optional[int] = ..., paused: bool = ...) -> None: ...

class ListSchedulesRequest(_message.Message):
    __slots__ = ("agent", "page_size", "page_token")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    agent: str
    page_size: int
    page_token: str
    def __init__(self, agent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSchedulesResponse(_message.Message):
    __slots__ = ("schedules", "next_page_token")
    SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    schedules: _containers.RepeatedCompositeFieldContainer[ScheduleInfo]
    next_page_token: str
    def __init__(self, schedules: _Optional[_Iterable[_Union[ScheduleInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PauseScheduleRequest(_message.Message):
    __slots__ = ("schedule_id", "paused")
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    schedule_id: str
    paused: bool
    def __init__(self, schedule_id: _Optional[str] = ..., paused: bool = ...) -> None: ...

class PauseScheduleResponse(_message.Message):
    __slots__ = ("schedule",)
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    schedule: ScheduleInfo
    def __init__(self, schedule: _Optional[_Union[ScheduleInfo, _Mapping]] = ...) -> None: ...

class TriggerScheduleRequest(_message.Message):
    __slots__ = ("schedule_id",)
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    schedule_id: str
    def __init__(self, schedule_id: _Optional[str] = ...) -> None: ...

class TriggerScheduleResponse(_message.Message):
    __slots__ = ("message_id",)
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    def __init__(self, message_id: _Optional[str] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("message", "failure", "attempts", "died_at_ms")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    DIED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    message: _message_pb2.Message
    failure: _common_pb2.Failure
    attempts: int
    died_at_ms: int
    def __init__(self, message: _Optional[_Union[_message_pb2.Message, _Mapping]] = ..., failure: _Optional[_Union[_common_pb2.Failure, _Mapping]] = ..., attempts: _Optional[int] = ..., died_at_ms: _Optional[int] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("agent", "page_size", "page_token")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    agent: str
    page_size: int
    page_token: str
    def __init__(self, agent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("dead_letters", "next_page_token")
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dead_letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    next_page_token: str
    def __init__(self, dead_letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RetryDeadLettersRequest(_message.Message):
    __slots__ = ("message_ids", "agent")
    MESSAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    message_ids: _containers.RepeatedScalarFieldContainer[str]
    agent: str
    def __init__(self, message_ids: _Optional[_Iterable[str]] = ..., agent: _Optional[str] = ...) -> None: ...

class RetryDeadLettersResponse(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class DropDeadLettersRequest(_message.Message):
    __slots__ = ("message_ids", "agent")
    MESSAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    message_ids: _containers.RepeatedScalarFieldContainer[str]
    agent: str
    def __init__(self, message_ids: _Optional[_Iterable[str]] = ..., agent: _Optional[str] = ...) -> None: ...

class DropDeadLettersResponse(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class GetMemoryRequest(_message.Message):
    __slots__ = ("instance", "name", "entry_id", "at_version")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    AT_VERSION_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    name: str
    entry_id: str
    at_version: int
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., name: _Optional[str] = ..., entry_id: _Optional[str] = ..., at_version: _Optional[int] = ...) -> None: ...

class GetMemoryResponse(_message.Message):
    __slots__ = ("entry", "version")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    entry: _memory_pb2.MemoryEntry
    version: int
    def __init__(self, entry: _Optional[_Union[_memory_pb2.MemoryEntry, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class PutMemoryRequest(_message.Message):
    __slots__ = ("instance", "name", "entry", "if_version")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    name: str
    entry: _memory_pb2.MemoryEntry
    if_version: int
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., name: _Optional[str] = ..., entry: _Optional[_Union[_memory_pb2.MemoryEntry, _Mapping]] = ..., if_version: _Optional[int] = ...) -> None: ...

class PutMemoryResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class DeleteMemoryRequest(_message.Message):
    __slots__ = ("instance", "name", "entry_id", "if_version")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    name: str
    entry_id: str
    if_version: int
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., name: _Optional[str] = ..., entry_id: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class DeleteMemoryResponse(_message.Message):
    __slots__ = ("found", "version")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    found: bool
    version: int
    def __init__(self, found: bool = ..., version: _Optional[int] = ...) -> None: ...

class ListMemoryRequest(_message.Message):
    __slots__ = ("instance", "at_version")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    AT_VERSION_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    at_version: int
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., at_version: _Optional[int] = ...) -> None: ...

class ListMemoryResponse(_message.Message):
    __slots__ = ("memories", "version")
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    memories: _containers.RepeatedCompositeFieldContainer[_memory_pb2.MemoryInfo]
    version: int
    def __init__(self, memories: _Optional[_Iterable[_Union[_memory_pb2.MemoryInfo, _Mapping]]] = ..., version: _Optional[int] = ...) -> None: ...

class SearchMemoryRequest(_message.Message):
    __slots__ = ("instance", "name", "prefix", "page_size", "page_token", "at_version")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AT_VERSION_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    name: str
    prefix: str
    page_size: int
    page_token: str
    at_version: int
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., name: _Optional[str] = ..., prefix: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., at_version: _Optional[int] = ...) -> None: ...

class SearchMemoryResponse(_message.Message):
    __slots__ = ("entries", "next_page_token", "kind")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[_memory_pb2.MemoryEntry]
    next_page_token: str
    kind: _agent_pb2.MemoryKind
    def __init__(self, entries: _Optional[_Iterable[_Union[_memory_pb2.MemoryEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., kind: _Optional[_Union[_agent_pb2.MemoryKind, str]] = ...) -> None: ...

class MemoryVersion(_message.Message):
    __slots__ = ("version", "at_ms", "message_id", "changes", "snapshots")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    version: int
    at_ms: int
    message_id: str
    changes: int
    snapshots: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[int] = ..., at_ms: _Optional[int] = ..., message_id: _Optional[str] = ..., changes: _Optional[int] = ..., snapshots: _Optional[_Iterable[str]] = ...) -> None: ...

class ListMemoryVersionsRequest(_message.Message):
    __slots__ = ("instance", "page_size", "page_token")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    page_size: int
    page_token: str
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListMemoryVersionsResponse(_message.Message):
    __slots__ = ("versions", "next_page_token", "forked_from", "forked_version")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FORKED_FROM_FIELD_NUMBER: _ClassVar[int]
    FORKED_VERSION_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[MemoryVersion]
    next_page_token: str
    forked_from: _common_pb2.InstanceRef
    forked_version: int
    def __init__(self, versions: _Optional[_Iterable[_Union[MemoryVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., forked_from: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., forked_version: _Optional[int] = ...) -> None: ...

class CreateSnapshotRequest(_message.Message):
    __slots__ = ("instance", "name", "version")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    name: str
    version: int
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class CreateSnapshotResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: MemoryVersion
    def __init__(self, version: _Optional[_Union[MemoryVersion, _Mapping]] = ...) -> None: ...

class DeleteSnapshotRequest(_message.Message):
    __slots__ = ("instance", "name")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    name: str
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteSnapshotResponse(_message.Message):
    __slots__ = ("found",)
    FOUND_FIELD_NUMBER: _ClassVar[int]
    found: bool
    def __init__(self, found: bool = ...) -> None: ...

class ForkInstanceRequest(_message.Message):
    __slots__ = ("source", "target", "version", "snapshot")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    source: _common_pb2.InstanceRef
    target: _common_pb2.InstanceRef
    version: int
    snapshot: str
    def __init__(self, source: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., target: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., version: _Optional[int] = ..., snapshot: _Optional[str] = ...) -> None: ...

class ForkInstanceResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class RestoreMemoryRequest(_message.Message):
    __slots__ = ("instance", "version", "snapshot")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    version: int
    snapshot: str
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., version: _Optional[int] = ..., snapshot: _Optional[str] = ...) -> None: ...

class RestoreMemoryResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class GetMemoryStatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MemoryTier(_message.Message):
    __slots__ = ("name", "objects", "bytes", "plain_bytes", "budget_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    PLAIN_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    objects: int
    bytes: int
    plain_bytes: int
    budget_bytes: int
    def __init__(self, name: _Optional[str] = ..., objects: _Optional[int] = ..., bytes: _Optional[int] = ..., plain_bytes: _Optional[int] = ..., budget_bytes: _Optional[int] = ...) -> None: ...

class MemoryOwner(_message.Message):
    __slots__ = ("namespace", "agent", "bytes")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    agent: str
    bytes: int
    def __init__(self, namespace: _Optional[str] = ..., agent: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class GetMemoryStatsResponse(_message.Message):
    __slots__ = ("tiers", "objects", "referenced_bytes", "unique_bytes", "stored_bytes", "instances_awake", "instance_bytes", "versions", "snapshots", "owners", "damages", "hit_rate")
    TIERS_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    REFERENCED_BYTES_FIELD_NUMBER: _ClassVar[int]
    UNIQUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_AWAKE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_BYTES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    DAMAGES_FIELD_NUMBER: _ClassVar[int]
    HIT_RATE_FIELD_NUMBER: _ClassVar[int]
    tiers: _containers.RepeatedCompositeFieldContainer[MemoryTier]
    objects: int
    referenced_bytes: int
    unique_bytes: int
    stored_bytes: int
    instances_awake: int
    instance_bytes: int
    versions: int
    snapshots: int
    owners: _containers.RepeatedCompositeFieldContainer[MemoryOwner]
    damages: _containers.RepeatedScalarFieldContainer[str]
    hit_rate: float
    def __init__(self, tiers: _Optional[_Iterable[_Union[MemoryTier, _Mapping]]] = ..., objects: _Optional[int] = ..., referenced_bytes: _Optional[int] = ..., unique_bytes: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., instances_awake: _Optional[int] = ..., instance_bytes: _Optional[int] = ..., versions: _Optional[int] = ..., snapshots: _Optional[int] = ..., owners: _Optional[_Iterable[_Union[MemoryOwner, _Mapping]]] = ..., damages: _Optional[_Iterable[str]] = ..., hit_rate: _Optional[float] = ...) -> None: ...

class CollectMemoryRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CollectMemoryResponse(_message.Message):
    __slots__ = ("progress", "versions", "objects", "bytes", "disk_bytes", "done")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    progress: float
    versions: int
    objects: int
    bytes: int
    disk_bytes: int
    done: bool
    def __init__(self, progress: _Optional[float] = ..., versions: _Optional[int] = ..., objects: _Optional[int] = ..., bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., done: bool = ...) -> None: ...

class VerifyMemoryRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VerifyMemoryResponse(_message.Message):
    __slots__ = ("progress", "objects", "bytes", "damages", "healed", "done")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DAMAGES_FIELD_NUMBER: _ClassVar[int]
    HEALED_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    progress: float
    objects: int
    bytes: int
    damages: _containers.RepeatedScalarFieldContainer[str]
    healed: int
    done: bool
    def __init__(self, progress: _Optional[float] = ..., objects: _Optional[int] = ..., bytes: _Optional[int] = ..., damages: _Optional[_Iterable[str]] = ..., healed: _Optional[int] = ..., done: bool = ...) -> None: ...

class SpawnInstanceRequest(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ...) -> None: ...

class SpawnInstanceResponse(_message.Message):
    __slots__ = ("instance", "created")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    instance: InstanceInfo
    created: bool
    def __init__(self, instance: _Optional[_Union[InstanceInfo, _Mapping]] = ..., created: bool = ...) -> None: ...

class SuspendInstanceRequest(_message.Message):
    __slots__ = ("instance", "reason", "cancel_running")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CANCEL_RUNNING_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    reason: str
    cancel_running: bool
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., reason: _Optional[str] = ..., cancel_running: bool = ...) -> None: ...

class SuspendInstanceResponse(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: InstanceInfo
    def __init__(self, instance: _Optional[_Union[InstanceInfo, _Mapping]] = ...) -> None: ...

class ResumeInstanceRequest(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ...) -> None: ...

class ResumeInstanceResponse(_message.Message):
    __slots__ = ("instance", "resumed")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    instance: InstanceInfo
    resumed: bool
    def __init__(self, instance: _Optional[_Union[InstanceInfo, _Mapping]] = ..., resumed: bool = ...) -> None: ...

class MigrateInstanceRequest(_message.Message):
    __slots__ = ("instance", "link_id")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    LINK_ID_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    link_id: str
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., link_id: _Optional[str] = ...) -> None: ...

class MigrateInstanceResponse(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: InstanceInfo
    def __init__(self, instance: _Optional[_Union[InstanceInfo, _Mapping]] = ...) -> None: ...

class KillInstanceRequest(_message.Message):
    __slots__ = ("instance", "reason", "purge")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PURGE_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    reason: str
    purge: bool
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., reason: _Optional[str] = ..., purge: bool = ...) -> None: ...

class KillInstanceResponse(_message.Message):
    __slots__ = ("cancelled", "dropped")
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    cancelled: int
    dropped: int
    def __init__(self, cancelled: _Optional[int] = ..., dropped: _Optional[int] = ...) -> None: ...

class ListSupervisorsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSupervisorsResponse(_message.Message):
    __slots__ = ("supervisors",)
    SUPERVISORS_FIELD_NUMBER: _ClassVar[int]
    supervisors: _containers.RepeatedCompositeFieldContainer[SupervisorInfo]
    def __init__(self, supervisors: _Optional[_Iterable[_Union[SupervisorInfo, _Mapping]]] = ...) -> None: ...

class SupervisorInfo(_message.Message):
    __slots__ = ("agent", "policy", "children", "restarts", "escalations")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    ESCALATIONS_FIELD_NUMBER: _ClassVar[int]
    agent: str
    policy: _agent_pb2.SupervisorPolicy
    children: _containers.RepeatedCompositeFieldContainer[SupervisedInstance]
    restarts: int
    escalations: int
    def __init__(self, agent: _Optional[str] = ..., policy: _Optional[_Union[_agent_pb2.SupervisorPolicy, _Mapping]] = ..., children: _Optional[_Iterable[_Union[SupervisedInstance, _Mapping]]] = ..., restarts: _Optional[int] = ..., escalations: _Optional[int] = ...) -> None: ...

class SupervisedInstance(_message.Message):
    __slots__ = ("instance", "restarts", "last_reason", "given_up")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    LAST_REASON_FIELD_NUMBER: _ClassVar[int]
    GIVEN_UP_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    restarts: int
    last_reason: str
    given_up: bool
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., restarts: _Optional[int] = ..., last_reason: _Optional[str] = ..., given_up: bool = ...) -> None: ...

class GetSchedulerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AllocationShare(_message.Message):
    __slots__ = ("namespace", "agent", "weight", "used", "ready", "running")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    agent: str
    weight: float
    used: float
    ready: int
    running: int
    def __init__(self, namespace: _Optional[str] = ..., agent: _Optional[str] = ..., weight: _Optional[float] = ..., used: _Optional[float] = ..., ready: _Optional[int] = ..., running: _Optional[int] = ...) -> None: ...

class WaitCount(_message.Message):
    __slots__ = ("reason", "instances")
    REASON_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    reason: WaitReason
    instances: int
    def __init__(self, reason: _Optional[_Union[WaitReason, str]] = ..., instances: _Optional[int] = ...) -> None: ...

class AllocationDecision(_message.Message):
    __slots__ = ("at_ms", "kind", "namespace", "agent", "amount", "because", "applied")
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    kind: str
    namespace: str
    agent: str
    amount: float
    because: str
    applied: bool
    def __init__(self, at_ms: _Optional[int] = ..., kind: _Optional[str] = ..., namespace: _Optional[str] = ..., agent: _Optional[str] = ..., amount: _Optional[float] = ..., because: _Optional[str] = ..., applied: bool = ...) -> None: ...

class LoopBlock(_message.Message):
    __slots__ = ("at_ms", "for_ms", "instance", "handler", "place")
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    FOR_MS_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    for_ms: int
    instance: str
    handler: str
    place: str
    def __init__(self, at_ms: _Optional[int] = ..., for_ms: _Optional[int] = ..., instance: _Optional[str] = ..., handler: _Optional[str] = ..., place: _Optional[str] = ...) -> None: ...

class PressureReading(_message.Message):
    __slots__ = ("signal", "value", "elevated", "high", "critical")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ELEVATED_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    CRITICAL_FIELD_NUMBER: _ClassVar[int]
    signal: str
    value: float
    elevated: float
    high: float
    critical: float
    def __init__(self, signal: _Optional[str] = ..., value: _Optional[float] = ..., elevated: _Optional[float] = ..., high: _Optional[float] = ..., critical: _Optional[float] = ...) -> None: ...

class GetSchedulerResponse(_message.Message):
    __slots__ = ("policy", "pressure", "pressure_because", "shares", "waits", "decisions", "blocks", "mode", "readings", "refused")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PRESSURE_FIELD_NUMBER: _ClassVar[int]
    PRESSURE_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    policy: str
    pressure: PressureLevel
    pressure_because: str
    shares: _containers.RepeatedCompositeFieldContainer[AllocationShare]
    waits: _containers.RepeatedCompositeFieldContainer[WaitCount]
    decisions: _containers.RepeatedCompositeFieldContainer[AllocationDecision]
    blocks: _containers.RepeatedCompositeFieldContainer[LoopBlock]
    mode: str
    readings: _containers.RepeatedCompositeFieldContainer[PressureReading]
    refused: int
    def __init__(self, policy: _Optional[str] = ..., pressure: _Optional[_Union[PressureLevel, str]] = ..., pressure_because: _Optional[str] = ..., shares: _Optional[_Iterable[_Union[AllocationShare, _Mapping]]] = ..., waits: _Optional[_Iterable[_Union[WaitCount, _Mapping]]] = ..., decisions: _Optional[_Iterable[_Union[AllocationDecision, _Mapping]]] = ..., blocks: _Optional[_Iterable[_Union[LoopBlock, _Mapping]]] = ..., mode: _Optional[str] = ..., readings: _Optional[_Iterable[_Union[PressureReading, _Mapping]]] = ..., refused: _Optional[int] = ...) -> None: ...

class SetAllocationPolicyRequest(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: str
    def __init__(self, policy: _Optional[str] = ...) -> None: ...

class SetAllocationPolicyResponse(_message.Message):
    __slots__ = ("previous",)
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    previous: str
    def __init__(self, previous: _Optional[str] = ...) -> None: ...

class ReadLogRequest(_message.Message):
    __slots__ = ("lines", "follow", "level", "agent")
    LINES_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    lines: int
    follow: bool
    level: str
    agent: str
    def __init__(self, lines: _Optional[int] = ..., follow: bool = ..., level: _Optional[str] = ..., agent: _Optional[str] = ...) -> None: ...

class ReadLogResponse(_message.Message):
    __slots__ = ("at_ms", "level", "event", "fields")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    level: str
    event: str
    fields: _containers.ScalarMap[str, str]
    def __init__(self, at_ms: _Optional[int] = ..., level: _Optional[str] = ..., event: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetEngineRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetEngineResponse(_message.Message):
    __slots__ = ("version", "uptime_ms", "links", "agents", "instances", "queued_messages", "processed", "storage", "dead_letters")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    QUEUED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    PROCESSED_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    version: str
    uptime_ms: int
    links: int
    agents: int
    instances: int
    queued_messages: int
    processed: int
    storage: str
    dead_letters: int
    def __init__(self, version: _Optional[str] = ..., uptime_ms: _Optional[int] = ..., links: _Optional[int] = ..., agents: _Optional[int] = ..., instances: _Optional[int] = ..., queued_messages: _Optional[int] = ..., processed: _Optional[int] = ..., storage: _Optional[str] = ..., dead_letters: _Optional[int] = ...) -> None: ...
