"""Answers of several engines to one question, made into one: numbers add up, what is the same thing is told once."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

# What tells two entries of a list apart; lists of other messages are put one behind the other.
_KEYS: dict[str, tuple[str, ...]] = {
    "AgentInfo": ("definition.name",),
    "AgentVersionInfo": ("version",),
    "MemoryTier": ("name",),
    "MemoryOwner": ("namespace", "agent"),
    "SupervisorInfo": ("agent",),
    "AllocationShare": ("namespace", "agent"),
    "WaitCount": ("reason",),
    "PressureReading": ("signal",),
}
# Numbers of which each engine knows the whole, or of which the largest says most.
_LARGEST = frozenset(
    {
        "GetEngineResponse.uptime_ms",
        "GetEngineResponse.links",
        "GetEngineResponse.agents",
        "AgentVersionInfo.links",
        "AllocationShare.weight",
        "GetSchedulerResponse.pressure",
        "PressureReading.value",
        "PressureReading.elevated",
        "PressureReading.high",
        "PressureReading.critical",
        "CollectMemoryResponse.progress",
        "VerifyMemoryResponse.progress",
    }
)
# Parts of a whole that has as many wholes as engines.
_AVERAGE = frozenset({"AllocationShare.used", "GetMemoryStatsResponse.hit_rate"})
# Definitions and settings are the same everywhere.
_SAME = frozenset({"AgentInfo.definition", "SupervisorInfo.policy"})
# Texts that differ from engine to engine and are all told.
_JOINED = frozenset({"GetEngineResponse.storage"})
# Texts that explain a number, of which the largest says most.
_EXPLAINS = {"GetSchedulerResponse": ("pressure", "pressure_because")}
# Lists that begin with what happened last.
_NEWEST_FIRST = frozenset({"GetSchedulerResponse.decisions", "GetSchedulerResponse.blocks"})
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def merge(answers: list[Any]) -> Any:
    """One answer out of several of one kind; they are changed, and the first is returned."""
    for answer in answers:
        _divide(answer, len(answers))
    whole = answers[0]
    for answer in answers[1:]:
        _add(whole, answer)
    return whole


def _divide(answer: Message, count: int) -> None:
    """Makes parts of one engine's whole parts of the whole of all."""
    for field, value in answer.ListFields():
        if f"{answer.DESCRIPTOR.name}.{field.name}" in _AVERAGE:
            setattr(answer, field.name, value / count)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for inner in value if _is_repeated(field) else [value]:
                _divide(inner, count)


def _add(whole: Message, part: Message) -> None:
    kind = whole.DESCRIPTOR.name
    number, text = _EXPLAINS.get(kind, ("", ""))
    if number and getattr(part, number) > getattr(whole, number):
        setattr(whole, text, getattr(part, text))
    for field, value in part.ListFields():
        name = f"{kind}.{field.name}"
        if name in _SAME and whole.HasField(field.name):
            continue
        if _is_repeated(field):
            _extend(getattr(whole, field.name), value, field)
            if name in _NEWEST_FIRST:
                getattr(whole, field.name).sort(key=lambda entry: -entry.at_ms)
        elif field.message_type is not None:
            _add(getattr(whole, field.name), value)
        elif field.type in _TEXTS:
            own = getattr(whole, field.name)
            if not own or (name in _JOINED and value not in own):
                setattr(whole, field.name, f"{own}; {value}" if own else value)
        elif field.type == FieldDescriptor.TYPE_BOOL or name in _LARGEST or field.enum_type is not None:
            setattr(whole, field.name, max(getattr(whole, field.name), value))
        else:
            setattr(whole, field.name, getattr(whole, field.name) + value)


def _is_repeated(field: Any) -> bool:
    # `is_repeated` came, and `label` went, between the versions of protobuf that we allow.
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED)


def _extend(whole: Any, parts: Any, field: FieldDescriptor) -> None:
    keys = _KEYS.get(field.message_type.name) if field.message_type is not None else None
    if keys is None:
        whole.extend(parts)
        return
    known = {_key(entry, keys): entry for entry in whole}
    for entry in parts:
        same = known.get(_key(entry, keys))
        if same is None:
            whole.append(entry)
        else:
            _add(same, entry)


def _key(entry: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    values = []
    for key in keys:
        value = entry
        for name in key.split("."):
            value = getattr(value, name)
        values.append(value)
    return tuple(values)
