"""The permissions the engine knows and the roles that come with it. Who holds them is in identity.py."""

from __future__ import annotations

import re
from collections.abc import Iterable

AGENTS_REGISTER = "agents:register"
AGENTS_READ = "agents:read"
AGENTS_WRITE = "agents:write"
INSTANCES_WRITE = "instances:write"
MESSAGES_SEND = "messages:send"
EVENTS_PUBLISH = "events:publish"
EVENTS_SUBSCRIBE = "events:subscribe"
BROADCAST_SEND = "broadcast:send"
MEMORY_READ = "memory:read"
MEMORY_WRITE = "memory:write"
MEMORY_MANAGE = "memory:manage"
SCHEDULES_READ = "schedules:read"
SCHEDULES_WRITE = "schedules:write"
DEAD_LETTERS_READ = "dead-letters:read"
DEAD_LETTERS_WRITE = "dead-letters:write"
INVOCATIONS_READ = "invocations:read"
INVOCATIONS_WRITE = "invocations:write"
ENGINE_READ = "engine:read"
ENGINE_WRITE = "engine:write"
LOGS_READ = "logs:read"

# What each permission allows, for people. Applications add their own names in `requires_permission`.
PERMISSIONS: dict[str, str] = {
    AGENTS_REGISTER: "host agents on a link",
    AGENTS_READ: "list and describe agents, instances and supervisors",
    AGENTS_WRITE: "choose the version of an agent that takes new messages",
    INSTANCES_WRITE: "spawn, suspend, resume, migrate and kill instances",
    MESSAGES_SEND: "send messages to agents, one-way or for a reply",
    EVENTS_PUBLISH: "publish events",
    EVENTS_SUBSCRIBE: "receive events",
    BROADCAST_SEND: "send one message to many instances",
    MEMORY_READ: "read the memory of instances",
    MEMORY_WRITE: "change the memory of instances: write, restore and fork it, name its versions",
    MEMORY_MANAGE: "collect and verify what is stored, and see who holds how much in every namespace",
    SCHEDULES_READ: "list schedules",
    SCHEDULES_WRITE: "pause, resume and trigger schedules",
    DEAD_LETTERS_READ: "list dead letters",
    DEAD_LETTERS_WRITE: "retry and drop dead letters",
    INVOCATIONS_READ: "list, describe and wait for invocations",
    INVOCATIONS_WRITE: "cancel invocations",
    ENGINE_READ: "describe the engine and its scheduler",
    ENGINE_WRITE: "choose how the engine shares its capacity",
    LOGS_READ: "read the engine's log",
}

_READ = frozenset({AGENTS_READ, MEMORY_READ, SCHEDULES_READ, DEAD_LETTERS_READ, INVOCATIONS_READ, ENGINE_READ})
_TALK = frozenset({MESSAGES_SEND, EVENTS_PUBLISH, EVENTS_SUBSCRIBE, BROADCAST_SEND})

# Roles that every configuration has, unless it defines one of the same name.
ROLES: dict[str, frozenset[str]] = {
    # Everything, permissions of applications included.
    "admin": frozenset({"*"}),
    # A process that hosts agents.
    "worker": _TALK | {AGENTS_REGISTER, AGENTS_READ, MEMORY_READ, MEMORY_WRITE, INVOCATIONS_READ, ENGINE_READ},
    # A program that talks to agents.
    "client": _TALK | {AGENTS_READ, INVOCATIONS_READ, INVOCATIONS_WRITE, ENGINE_READ},
    # A person or dashboard that looks and touches nothing.
    "viewer": _READ | {LOGS_READ},
}

_FORM = re.compile(r"\*|[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.-]+)*(?::\*)?")


def is_permission(text: str) -> bool:
    """Whether `text` may be granted: `area:action` with any number of parts, `area:*`, or `*`."""
    return _FORM.fullmatch(text) is not None


def grants(granted: Iterable[str], permission: str) -> bool:
    """Whether one of `granted` is `permission`, a wildcard above it (`agents:*`), or `*`."""
    for grant in granted:
        if grant == "*" or grant == permission:
            return True
        if grant.endswith(":*") and permission.startswith(grant[:-1]):
            return True
    return False
