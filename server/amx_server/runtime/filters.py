"""Filter expressions over text attributes: which events a subscription wants, which agents a broadcast reaches.

    severity in (high, critical), region != eu, tier = gold, exists(trace), !exists(test), size >= 5

Terms are joined by commas; all must hold. A missing attribute satisfies only `!=`, `not in` and `!exists`.
`=` and `in` compare text; `<`, `<=`, `>`, `>=` compare numbers and are false for an attribute that is not a number.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

from amx_server.core.errors import AmxError, invalid

Predicate: TypeAlias = Callable[[Mapping[str, str]], bool]

MAX_FILTER_CHARACTERS = 4096

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>'[^']*'|"[^"]*")
      | (?P<operator>!=|<=|>=|==|=|<|>|!|\(|\)|,)
      | (?P<word>[^\s'"!=<>(),]+)
      | (?P<end>$)
    )""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def match_all(attributes: Mapping[str, str]) -> bool:
    """The predicate of the empty filter."""
    return True


@lru_cache(maxsize=1024)
def compile_filter(text: str) -> Predicate:
    """A predicate for `text`; empty text matches everything.

    Raises AmxError INVALID_FILTER; its message and its metadata `column` (from 1) say where.
    """
    if not text.strip():
        return match_all
    if len(text) > MAX_FILTER_CHARACTERS:
        raise _error(text[:64] + "...", MAX_FILTER_CHARACTERS, f"longer than {MAX_FILTER_CHARACTERS} characters")
    terms = _Parser(text).terms()
    if len(terms) == 1:
        return terms[0]
    return lambda attributes: all(term(attributes) for term in terms)


def _error(text: str, position: int, why: str) -> AmxError:
    column = position + 1
    return invalid("INVALID_FILTER", f"filter '{text}', column {column}: {why}", filter=text, column=str(column))


class _Parser:
    """Reads one expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        self._advance()

    def terms(self) -> list[Predicate]:
        terms = [self._term()]
        while self._kind != "end":
            self._expect(",", "',' or the end")
            terms.append(self._term())
        return terms

    def _term(self) -> Predicate:
        negated = self._is_operator("!")
        if negated:
            self._advance()
        at, name = self._at, self._name()
        if name == "exists" and self._is_operator("("):
            self._advance()
            attribute = self._name()
            self._expect(")", "')'")
            return _exists(attribute, not negated)
        if negated:
            raise _error(self._text, at, f"expected exists(...) after '!', found '{name}'")
        if self._kind == "word" and self._token in ("in", "not"):
            wanted = self._token == "in"
            self._advance()
            if not wanted:
                if self._kind != "word" or self._token != "in":
                    raise self._unexpected("'in' after 'not'")
                self._advance()
            return _one_of(name, self._values(), wanted)
        sign = self._token if self._kind == "operator" else ""
        if sign in ("=", "==", "!="):
            self._advance()
            return _equals(name, self._value(), sign != "!=")
        if sign in _COMPARISONS:
            self._advance()
            at, value = self._at, self._value()
            number = _number(value)
            if number is None:
                raise _error(self._text, at, f"'{sign}' compares numbers, and '{value}' is none; use '=' or 'in'")
            return _compares(name, _COMPARISONS[sign], number)
        raise self._unexpected("one of = != < <= > >= in, not in")

    def _values(self) -> frozenset[str]:
        self._expect("(", "'('")
        values = {self._value()}
        while not self._is_operator(")"):
            self._expect(",", "',' or ')'")
            values.add(self._value())
        self._advance()
        return frozenset(values)

    def _name(self) -> str:
        if self._kind != "word":
            raise self._unexpected("the name of an attribute")
        name = self._token
        self._advance()
        return name

    def _value(self) -> str:
        if self._kind not in ("word", "quoted"):
            raise self._unexpected("a value")
        value = self._token[1:-1] if self._kind == "quoted" else self._token
        self._advance()
        return value

    def _is_operator(self, sign: str) -> bool:
        return self._kind == "operator" and self._token == sign

    def _expect(self, sign: str, wanted: str) -> None:
        if not self._is_operator(sign):
            raise self._unexpected(wanted)
        self._advance()

    def _unexpected(self, wanted: str) -> AmxError:
        found = f"'{self._token}'" if self._token else "the end"
        return _error(self._text, self._at, f"expected {wanted}, found {found}")

    def _advance(self) -> None:
        match = _TOKEN.match(self._text, self._end)
        if match is None:
            at = self._end + len(self._text[self._end :]) - len(self._text[self._end :].lstrip())
            raise _error(self._text, at, f"the quote {self._text[at]} is not closed")
        self._kind = match.lastgroup or "end"
        self._token = match[self._kind]
        self._at = match.start(self._kind)
        self._end = match.end()


def _number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return int(text)  # exact beyond 2**53
    except ValueError:
        return float(text)


def _exists(name: str, wanted: bool) -> Predicate:
    return lambda attributes: (name in attributes) is wanted


def _one_of(name: str, values: frozenset[str], wanted: bool) -> Predicate:
    return lambda attributes: (attributes.get(name) in values) is wanted


def _equals(name: str, value: str, wanted: bool) -> Predicate:
    return lambda attributes: (attributes.get(name) == value) is wanted


def _compares(name: str, comparison: Callable[[float, float], bool], bound: float) -> Predicate:
    def compares(attributes: Mapping[str, str]) -> bool:
        text = attributes.get(name)
        number = _number(text) if text is not None else None
        return number is not None and comparison(number, bound)

    return compares
