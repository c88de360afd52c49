from amx.v1 import agent_pb2 as _agent_pb2
from amx.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MemoryEntry(_message.Message):
    __slots__ = ("id", "value", "expires_in_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    value: bytes
    expires_in_ms: int
    def __init__(self, id: _Optional[str] = ..., value: _Optional[bytes] = ..., expires_in_ms: _Optional[int] = ...) -> None: ...

class MemoryImage(_message.Message):
    __slots__ = ("name", "entries")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    name: str
    entries: _containers.RepeatedCompositeFieldContainer[MemoryEntry]
    def __init__(self, name: _Optional[str] = ..., entries: _Optional[_Iterable[_Union[MemoryEntry, _Mapping]]] = ...) -> None: ...

class InstanceMemory(_message.Message):
    __slots__ = ("memories",)
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    memories: _containers.RepeatedCompositeFieldContainer[MemoryImage]
    def __init__(self, memories: _Optional[_Iterable[_Union[MemoryImage, _Mapping]]] = ...) -> None: ...

class MemoryChange(_message.Message):
    __slots__ = ("name", "put", "remove", "clear", "touch")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    TOUCH_FIELD_NUMBER: _ClassVar[int]
    name: str
    put: MemoryEntry
    remove: str
    clear: bool
    touch: str
    def __init__(self, name: _Optional[str] = ..., put: _Optional[_Union[MemoryEntry, _Mapping]] = ..., remove: _Optional[str] = ..., clear: bool = ..., touch: _Optional[str] = ...) -> None: ...

class MemoryOperation(_message.Message):
    __slots__ = ("instance", "name", "get", "put", "remove", "list", "if_version", "limit")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    name: str
    get: str
    put: MemoryEntry
    remove: str
    list: str
    if_version: int
    limit: int
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., name: _Optional[str] = ..., get: _Optional[str] = ..., put: _Optional[_Union[MemoryEntry, _Mapping]] = ..., remove: _Optional[str] = ..., list: _Optional[str] = ..., if_version: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class MemoryOperationResult(_message.Message):
    __slots__ = ("entries", "version", "kind", "truncated", "found")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[MemoryEntry]
    version: int
    kind: _agent_pb2.MemoryKind
    truncated: bool
    found: bool
    def __init__(self, entries: _Optional[_Iterable[_Union[MemoryEntry, _Mapping]]] = ..., version: _Optional[int] = ..., kind: _Optional[_Union[_agent_pb2.MemoryKind, str]] = ..., truncated: bool = ..., found: bool = ...) -> None: ...

class MemoryInfo(_message.Message):
    __slots__ = ("instance", "name", "kind", "entries", "bytes", "persistent")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    PERSISTENT_FIELD_NUMBER: _ClassVar[int]
    instance: _common_pb2.InstanceRef
    name: str
    kind: _agent_pb2.MemoryKind
    entries: int
    bytes: int
    persistent: bool
    def __init__(self, instance: _Optional[_Union[_common_pb2.InstanceRef, _Mapping]] = ..., name: _Optional[str] = ..., kind: _Optional[_Union[_agent_pb2.MemoryKind, str]] = ..., entries: _Optional[int] = ..., bytes: _Optional[int] = ..., persistent: bool = ...) -> None: ...
