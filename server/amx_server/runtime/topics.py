"""Which subscriptions a topic reaches: patterns in a trie, and a memo of recent topics. Attribute filters are not here.

Segments are separated by dots. In a pattern `*` stands for one segment, `**` (or a last `>`) for any number, also none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from amx_server.core.errors import AmxError, invalid

T = TypeVar("T", bound=Hashable)

MAX_TOPIC_BYTES = 512
MAX_SEGMENTS = 32
_MEMO_TOPICS = 4096
_MEMO_MATCHES = 1_000_000  # subscriptions in all memoised answers together; 8 bytes each


def parse_topic(topic: str) -> list[str]:
    """Segments of a concrete topic. Raises AmxError INVALID_TOPIC."""
    segments = _split(topic, "INVALID_TOPIC", "topic")
    for segment in segments:
        if segment in ("*", "**", ">"):
            raise invalid(
                "INVALID_TOPIC",
                f"topic '{topic}' has the wildcard '{segment}'; events go to one concrete topic, patterns subscribe",
                topic=topic,
            )
    return segments


def parse_pattern(pattern: str) -> list[str]:
    """Segments of a pattern, with `>` written as `**` and repeated `**` as one. Raises AmxError INVALID_PATTERN."""
    segments = _split(pattern, "INVALID_PATTERN", "pattern")
    parsed: list[str] = []
    for index, segment in enumerate(segments):
        if segment == ">":
            if index != len(segments) - 1:
                raise _bad_pattern(pattern, "'>' may only be the last segment; '**' may be anywhere")
            segment = "**"
        elif "*" in segment and segment not in ("*", "**"):
            raise _bad_pattern(pattern, f"the segment '{segment}' mixes a wildcard with text; a wildcard stands alone")
        if segment != "**" or not parsed or parsed[-1] != "**":
            parsed.append(segment)
    return parsed


def _split(text: str, reason: str, what: str) -> list[str]:
    segments = text.split(".")
    if "" in segments:
        where = "is empty" if not text else "has an empty segment"
        raise invalid(reason, f"{what} '{text}' {where}; write names separated by single dots", **{what: text})
    if len(segments) > MAX_SEGMENTS or len(text.encode()) > MAX_TOPIC_BYTES:
        raise invalid(
            reason,
            f"{what} '{text[:64]}...' is longer than {MAX_SEGMENTS} segments or {MAX_TOPIC_BYTES} bytes; shorten it",
            **{what: text[:64]},
        )
    return segments


def _bad_pattern(pattern: str, why: str) -> AmxError:
    return invalid("INVALID_PATTERN", f"pattern '{pattern}': {why}", pattern=pattern)


class _Node(Generic[T]):
    """What follows one prefix of patterns. Wildcards are children under their own text."""

    __slots__ = ("children", "subscribers")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.subscribers: dict[T, int] = {}  # to the number of its addition


class TopicIndex(Generic[T]):
    """Subscriptions by pattern. A match against a topic seen recently is one dictionary lookup."""

    __slots__ = ("_additions", "_memo", "_memo_matches", "_root")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._additions = 0
        self._memo: OrderedDict[str, tuple[T, ...]] = OrderedDict()
        self._memo_matches = 0

    def add(self, pattern: str, subscription: T) -> None:
        """Adds `subscription` under `pattern`; again is no change. Raises AmxError INVALID_PATTERN."""
        segments = parse_pattern(pattern)
        node = self._root
        for segment in segments:
            child = node.children.get(segment)
            if child is None:
                child = node.children[segment] = _Node()
            node = child
        self._additions += 1
        node.subscribers.setdefault(subscription, self._additions)
        self._forget(segments)

    def remove(self, pattern: str, subscription: T) -> bool:
        """Removes it. Returns whether it was there. Raises AmxError INVALID_PATTERN."""
        segments = parse_pattern(pattern)
        path = [self._root]
        for segment in segments:
            child = path[-1].children.get(segment)
            if child is None:
                return False
            path.append(child)
        if path[-1].subscribers.pop(subscription, None) is None:
            return False
        for parent, segment, node in zip(path[-2::-1], segments[::-1], path[:0:-1], strict=True):
            if node.children or node.subscribers:
                break
            del parent.children[segment]
        self._forget(segments)
        return True

    def match(self, topic: str) -> tuple[T, ...]:
        """Subscriptions that `topic` reaches, each once, in order of addition. Raises AmxError INVALID_TOPIC."""
        found = self._memo.get(topic)
        if found is not None:
            self._memo.move_to_end(topic)
            return found
        found = self._find(parse_topic(topic))
        self._memo[topic] = found
        self._memo_matches += len(found)
        while len(self._memo) > _MEMO_TOPICS or self._memo_matches > _MEMO_MATCHES:
            _, oldest = self._memo.popitem(last=False)
            self._memo_matches -= len(oldest)
        return found

    def __bool__(self) -> bool:
        return bool(self._root.children)

    def _find(self, segments: list[str]) -> tuple[T, ...]:
        found: dict[T, int] = {}
        # Every (node, position) is visited once, so patterns with several `**` cost no more than others.
        seen: set[tuple[int, int]] = set()
        todo = [(self._root, 0)]
        while todo:
            node, position = todo.pop()
            if (id(node), position) in seen:
                continue
            seen.add((id(node), position))
            if position == len(segments):
                for subscription, number in node.subscribers.items():
                    found[subscription] = min(number, found.get(subscription, number))
            else:
                for segment in (segments[position], "*"):
                    child = node.children.get(segment)
                    if child is not None:
                        todo.append((child, position + 1))
            rest = node.children.get("**")
            if rest is not None:
                todo.extend((rest, later) for later in range(position, len(segments) + 1))
        return tuple(sorted(found, key=found.__getitem__))

    def _forget(self, segments: list[str]) -> None:
        """Drops memoised answers that a change under the pattern may have changed."""
        if "*" in segments or "**" in segments:
            self._memo.clear()
            self._memo_matches = 0
        else:
            self._memo_matches -= len(self._memo.pop(".".join(segments), ()))
