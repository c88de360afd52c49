from amx.v1 import common_pb2 as _common_pb2
from amx.v1 import message_pb2 as _message_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AGENT_KIND_UNSPECIFIED: _ClassVar[AgentKind]
    AGENT_KIND_AGENT: _ClassVar[AgentKind]
    AGENT_KIND_ROUTER: _ClassVar[AgentKind]
    AGENT_KIND_MONITOR: _ClassVar[AgentKind]
    AGENT_KIND_PIPELINE: _ClassVar[AgentKind]

class RestartStrategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESTART_STRATEGY_UNSPECIFIED: _ClassVar[RestartStrategy]
    RESTART_STRATEGY_ONE_FOR_ONE: _ClassVar[RestartStrategy]
    RESTART_STRATEGY_ONE_FOR_ALL: _ClassVar[RestartStrategy]
    RESTART_STRATEGY_REST_FOR_ONE: _ClassVar[RestartStrategy]

class RestartType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESTART_TYPE_UNSPECIFIED: _ClassVar[RestartType]
    RESTART_TYPE_PERMANENT: _ClassVar[RestartType]
    RESTART_TYPE_TRANSIENT: _ClassVar[RestartType]
    RESTART_TYPE_TEMPORARY: _ClassVar[RestartType]

class HandlerExecution(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HANDLER_EXECUTION_UNSPECIFIED: _ClassVar[HandlerExecution]
    HANDLER_EXECUTION_LOOP: _ClassVar[HandlerExecution]
    HANDLER_EXECUTION_THREAD: _ClassVar[HandlerExecution]
    HANDLER_EXECUTION_PROCESS: _ClassVar[HandlerExecution]

class MemoryKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMORY_KIND_UNSPECIFIED: _ClassVar[MemoryKind]
    MEMORY_KIND_VALUE: _ClassVar[MemoryKind]
    MEMORY_KIND_MAP: _ClassVar[MemoryKind]
    MEMORY_KIND_SET: _ClassVar[MemoryKind]
    MEMORY_KIND_LIST: _ClassVar[MemoryKind]

class MissedRuns(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MISSED_RUNS_UNSPECIFIED: _ClassVar[MissedRuns]
    MISSED_RUNS_SKIP: _ClassVar[MissedRuns]
    MISSED_RUNS_RUN_ONCE: _ClassVar[MissedRuns]
    MISSED_RUNS_RUN_ALL: _ClassVar[MissedRuns]
AGENT_KIND_UNSPECIFIED: AgentKind
AGENT_KIND_AGENT: AgentKind
AGENT_KIND_ROUTER: AgentKind
AGENT_KIND_MONITOR: AgentKind
AGENT_KIND_PIPELINE: AgentKind
RESTART_STRATEGY_UNSPECIFIED: RestartStrategy
RESTART_STRATEGY_ONE_FOR_ONE: RestartStrategy
RESTART_STRATEGY_ONE_FOR_ALL: RestartStrategy
RESTART_STRATEGY_REST_FOR_ONE: RestartStrategy
RESTART_TYPE_UNSPECIFIED: RestartType
RESTART_TYPE_PERMANENT: RestartType
RESTART_TYPE_TRANSIENT: RestartType
RESTART_TYPE_TEMPORARY: RestartType
HANDLER_EXECUTION_UNSPECIFIED: HandlerExecution
HANDLER_EXECUTION_LOOP: HandlerExecution
HANDLER_EXECUTION_THREAD: HandlerExecution
HANDLER_EXECUTION_PROCESS: HandlerExecution
MEMORY_KIND_UNSPECIFIED: MemoryKind
MEMORY_KIND_VALUE: MemoryKind
MEMORY_KIND_MAP: MemoryKind
MEMORY_KIND_SET: MemoryKind
MEMORY_KIND_LIST: MemoryKind
MISSED_RUNS_UNSPECIFIED: MissedRuns
MISSED_RUNS_SKIP: MissedRuns
MISSED_RUNS_RUN_ONCE: MissedRuns
MISSED_RUNS_RUN_ALL: MissedRuns

class AgentDefinition(_message.Message):
    __slots__ = ("name", "version", "kind", "description", "handlers", "memories", "schedules", "groups", "labels", "idle_timeout_ms", "mailbox_capacity", "capabilities", "default_handler", "order", "supervisor")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    HANDLERS_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    MAILBOX_CAPACITY_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_HANDLER_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    SUPERVISOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    kind: AgentKind
    description: str
    handlers: _containers.RepeatedCompositeFieldContainer[HandlerDefinition]
    memories: _containers.RepeatedCompositeFieldContainer[MemoryDefinition]
    schedules: _containers.RepeatedCompositeFieldContainer[ScheduleDefinition]
    groups: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    idle_timeout_ms: int
    mailbox_capacity: int
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    default_handler: str
    order: int
    supervisor: SupervisorPolicy
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., kind: _Optional[_Union[AgentKind, str]] = ..., description: _Optional[str] = ..., handlers: _Optional[_Iterable[_Union[HandlerDefinition, _Mapping]]] = ..., memories: _Optional[_Iterable[_Union[MemoryDefinition, _Mapping]]] = ..., schedules: _Optional[_Iterable[_Union[ScheduleDefinition, _Mapping]]] = ..., groups: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., idle_timeout_ms: _Optional[int] = ..., mailbox_capacity: _Optional[int] = ..., capabilities: _Optional[_Iterable[str]] = ..., default_handler: _Optional[str] = ..., order: _Optional[int] = ..., supervisor: _Optional[_Union[SupervisorPolicy, _Mapping]] = ...) -> None: ...

class SupervisorPolicy(_message.Message):
    __slots__ = ("strategy", "children", "max_restarts", "within_ms", "max_backoff_ms")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    MAX_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    WITHIN_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_BACKOFF_MS_FIELD_NUMBER: _ClassVar[int]
    strategy: RestartStrategy
    children: _containers.RepeatedCompositeFieldContainer[SupervisedChild]
    max_restarts: int
    within_ms: int
    max_backoff_ms: int
    def __init__(self, strategy: _Optional[_Union[RestartStrategy, str]] = ..., children: _Optional[_Iterable[_Union[SupervisedChild, _Mapping]]] = ..., max_restarts: _Optional[int] = ..., within_ms: _Optional[int] = ..., max_backoff_ms: _Optional[int] = ...) -> None: ...

class SupervisedChild(_message.Message):
    __slots__ = ("agent", "key", "restart", "on_restart")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    ON_RESTART_FIELD_NUMBER: _ClassVar[int]
    agent: str
    key: str
    restart: RestartType
    on_restart: str
    def __init__(self, agent: _Optional[str] = ..., key: _Optional[str] = ..., restart: _Optional[_Union[RestartType, str]] = ..., on_restart: _Optional[str] = ...) -> None: ...

class HandlerDefinition(_message.Message):
    __slots__ = ("name", "description", "input_schema", "output_schema", "streaming", "concurrent", "durability", "retry", "timeout_ms", "permissions", "subscriptions", "message_types", "circuit_breaker", "execution")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    STREAMING_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_TYPES_FIELD_NUMBER: _ClassVar[int]
    CIRCUIT_BREAKER_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    input_schema: str
    output_schema: str
    streaming: bool
    concurrent: bool
    durability: _common_pb2.Durability
    retry: RetryPolicy
    timeout_ms: int
    permissions: _containers.RepeatedScalarFieldContainer[str]
    subscriptions: _containers.RepeatedCompositeFieldContainer[_message_pb2.Subscription]
    message_types: _containers.RepeatedScalarFieldContainer[str]
    circuit_breaker: CircuitBreakerPolicy
    execution: HandlerExecution
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., input_schema: _Optional[str] = ..., output_schema: _Optional[str] = ..., streaming: bool = ..., concurrent: bool = ..., durability: _Optional[_Union[_common_pb2.Durability, str]] = ..., retry: _Optional[_Union[RetryPolicy, _Mapping]] = ..., timeout_ms: _Optional[int] = ..., permissions: _Optional[_Iterable[str]] = ..., subscriptions: _Optional[_Iterable[_Union[_message_pb2.Subscription, _Mapping]]] = ..., message_types: _Optional[_Iterable[str]] = ..., circuit_breaker: _Optional[_Union[CircuitBreakerPolicy, _Mapping]] = ..., execution: _Optional[_Union[HandlerExecution, str]] = ...) -> None: ...

class RetryPolicy(_message.Message):
    __slots__ = ("max_attempts", "initial_backoff_ms", "multiplier", "max_backoff_ms", "retryable_reasons", "non_retryable_reasons")
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    INITIAL_BACKOFF_MS_FIELD_NUMBER: _ClassVar[int]
    MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    MAX_BACKOFF_MS_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_REASONS_FIELD_NUMBER: _ClassVar[int]
    NON_RETRYABLE_REASONS_FIELD_NUMBER: _ClassVar[int]
    max_attempts: int
    initial_backoff_ms: int
    multiplier: float
    max_backoff_ms: int
    retryable_reasons: _containers.RepeatedScalarFieldContainer[str]
    non_retryable_reasons: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, max_attempts: _Optional[int] = ..., initial_backoff_ms: _Optional[int] = ..., multiplier: _Optional[float] = ..., max_backoff_ms: _Optional[int] = ..., retryable_reasons: _Optional[_Iterable[str]] = ..., non_retryable_reasons: _Optional[_Iterable[str]] = ...) -> None: ...

class CircuitBreakerPolicy(_message.Message):
    __slots__ = ("failure_threshold", "open_ms", "disabled")
    FAILURE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    OPEN_MS_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    failure_threshold: int
    open_ms: int
    disabled: bool
    def __init__(self, failure_threshold: _Optional[int] = ..., open_ms: _Optional[int] = ..., disabled: bool = ...) -> None: ...

class MemoryDefinition(_message.Message):
    __slots__ = ("name", "kind", "persistent", "ttl_ms", "max_entries", "description")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PERSISTENT_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: MemoryKind
    persistent: bool
    ttl_ms: int
    max_entries: int
    description: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[MemoryKind, str]] = ..., persistent: bool = ..., ttl_ms: _Optional[int] = ..., max_entries: _Optional[int] = ..., description: _Optional[str] = ...) -> None: ...

class ScheduleDefinition(_message.Message):
    __slots__ = ("name", "handler", "fixed_delay_ms", "fixed_rate_ms", "cron", "once_after_ms", "time_zone", "missed", "initial_delay_ms", "key", "payload")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    FIXED_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    FIXED_RATE_MS_FIELD_NUMBER: _ClassVar[int]
    CRON_FIELD_NUMBER: _ClassVar[int]
    ONCE_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    INITIAL_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    name: str
    handler: str
    fixed_delay_ms: int
    fixed_rate_ms: int
    cron: str
    once_after_ms: int
    time_zone: str
    missed: MissedRuns
    initial_delay_ms: int
    key: str
    payload: _common_pb2.Payload
    def __init__(self, name: _Optional[str] = ..., handler: _Optional[str] = ..., fixed_delay_ms: _Optional[int] = ..., fixed_rate_ms: _Optional[int] = ..., cron: _Optional[str] = ..., once_after_ms: _Optional[int] = ..., time_zone: _Optional[str] = ..., missed: _Optional[_Union[MissedRuns, str]] = ..., initial_delay_ms: _Optional[int] = ..., key: _Optional[str] = ..., payload: _Optional[_Union[_common_pb2.Payload, _Mapping]] = ...) -> None: ...
