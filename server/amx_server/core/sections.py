"""Sections of a configuration: frozen values within bounds, read from what people write, with every problem told."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, Union, get_args, get_origin

import msgspec

from amx_server.core.errors import INVALID_ARGUMENT, AmxError
from amx_server.core.units import Written
from amx_server.core.wording import kind_of, shown

Place: TypeAlias = tuple[str, ...]
"""The keys that lead to a value, from the top."""

_TRUTH = {
    **dict.fromkeys(("true", "yes", "on", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "off", "0", "f", "n"), False),
}
_NUMBERS = {int: "a whole number", float: "a number"}


class ConfigError(AmxError):
    """The configuration cannot be used. The message lists every problem, one a line, with the cure."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(INVALID_ARGUMENT, "CONFIG_INVALID", "\n".join(problems))
        self.problems = problems


class Secret:
    """Text that shows in no representation, and in no message about the configuration."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """The text itself."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('**********')"


class Section(msgspec.Struct, frozen=True):
    """A group of settings. Subclasses are `frozen` and `kw_only`; the whole configuration is one of them.

    A field is text, a number, true or false, a `Literal` of texts, a `Secret`, a section, a `dict` by text or a `tuple`
    of these, any of them also None. `msgspec.Meta` in its annotation bounds it (for text with a `description` of what
    is wanted), `Written` says how people write it. Rules about several fields stand in `__post_init__`, which raises
    ValueError with a text that says what to do.

    Only `read` holds values to their types and bounds; the constructor and `replace` hold them to the rules of
    `__post_init__` alone.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Keys that people look for in this section, and the keys that hold what they mean."""

    @classmethod
    def read(cls, values: Mapping[str, Any], origins: Mapping[Place, str] | None = None) -> Self:
        """The section that `values` describe, in the form of a YAML document: mappings, lists, texts, numbers.

        Text stands for what its field wants: `5` for a number, `yes` for true. origins: what messages name as the
        source of the value at a place, or of everything below it.

        Raises ConfigError with every problem: keys that are unknown or missing, values of the wrong type or out of
        bounds, rules that do not hold. Values of secrets never appear in it.
        """
        reader = _Reader()
        section: Self = reader.section(cls, values, ())
        if reader.problems:
            raise ConfigError([_line(place, text, origins or {}) for place, text in reader.problems])
        return section

    def replace(self, **changes: Any) -> Self:
        """This section with other values in some of its fields."""
        return msgspec.structs.replace(self, **changes)


def suggestion(section: type[Section], key: str) -> str:
    """What to write instead of a key that `section` does not have; to be appended to what says so."""
    if key in section.elsewhere:
        return f"; its settings are under '{section.elsewhere[key]}' here"
    import difflib  # for people who mistyped

    known = sorted(section.__struct_fields__)
    close = difflib.get_close_matches(key.replace("-", "_"), known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(known)}"


def _line(place: Place, text: str, origins: Mapping[Place, str]) -> str:
    """One problem as people read it: origin, place, what is wrong and what to do."""
    origin = next((origins[place[:n]] for n in range(len(place), 0, -1) if place[:n] in origins), "configuration")
    return f"{origin}: {'.'.join(place)}: {text}" if place else f"{origin}: {text}"


class _Reader:
    """Walks down values and the types they should have, side by side; where it finds a problem, it notes it and goes
    on. What it returns for a value with problems is of no use."""

    def __init__(self) -> None:
        self.problems: list[tuple[Place, str]] = []

    def section(self, kind: type[Section], value: object, place: Place) -> Any:
        """`value` as a section."""
        if not isinstance(value, Mapping):
            first = kind.__struct_fields__[0]
            return self._refuse(place, f"needs a mapping with keys such as '{first}', not {kind_of(value)}")
        before = len(self.problems)
        given = {str(key): inner for key, inner in value.items()}
        fields = {}
        for field in msgspec.structs.fields(kind):
            if field.name in given:
                fields[field.name] = self._value(field.type, given.pop(field.name), (*place, field.name))
            elif field.required:
                self._refuse((*place, field.name), "is missing, and has no default")
        for key in given:
            self._refuse((*place, key), f"unknown key{suggestion(kind, key)}")
        if len(self.problems) > before:
            return None
        try:
            return kind(**fields)
        except ValueError as error:  # a rule about several fields
            return self._refuse(place, str(error))

    def _value(self, kind: Any, value: object, place: Place) -> Any:
        """`value` as an annotation says."""
        shape, arguments = get_origin(kind), get_args(kind)
        if shape is Union or shape is UnionType:
            if value is None:
                return None
            (inner,) = (argument for argument in arguments if argument is not NoneType)
            return self._value(inner, value, place)
        if shape is dict:
            if not isinstance(value, Mapping):
                return self._refuse(place, f"needs a mapping, not {kind_of(value)}")
            return {str(key): self._value(arguments[1], inner, (*place, str(key))) for key, inner in value.items()}
        if shape is tuple:
            if not isinstance(value, list | tuple):
                return self._refuse(place, f"needs a list, not {kind_of(value)}")
            return tuple(self._value(arguments[0], inner, (*place, str(at))) for at, inner in enumerate(value))
        if isinstance(kind, type) and issubclass(kind, Section):
            return self.section(kind, value, place)
        return self._leaf(kind, value, place)

    def _leaf(self, kind: Any, value: object, place: Place) -> Any:
        """`value` where nothing lies below it: text, a number, true or false."""
        base, notes = (kind.__origin__, kind.__metadata__) if get_origin(kind) is Annotated else (kind, ())
        written = next((note for note in notes if isinstance(note, Written)), None)
        bounds = next((note for note in notes if isinstance(note, msgspec.Meta)), None)
        try:
            if base is Secret:
                return Secret(msgspec.convert(value, str))
            return msgspec.convert(written.parse(value) if written else _meant(base, value), kind)
        except msgspec.ValidationError:
            return self._refuse(place, _wanted(base, written, bounds, value))
        except ValueError as error:  # what parses it says what can be written
            return self._refuse(place, str(error))

    def _refuse(self, place: Place, text: str) -> Any:
        self.problems.append((place, text))
        return None


def _meant(base: Any, value: object) -> object:
    """What is written as text where a number, true or false is wanted; anything else as it is."""
    if base is bool:
        if isinstance(value, str):
            return _TRUTH.get(value.strip().lower(), value)
        return bool(value) if isinstance(value, int) and value in (0, 1) else value
    if base not in (int, float):
        return value
    if isinstance(value, str):
        for parse in (int, float):
            try:
                value = parse(value)
                break
            except ValueError:
                pass
    return int(value) if base is int and isinstance(value, float) and value.is_integer() else value


def _wanted(base: Any, written: Written | None, bounds: msgspec.Meta | None, value: object) -> str:
    """What is wrong with the value of a leaf. Shows it only where it cannot be a secret in the wrong place."""
    if base is str or base is Secret:
        if not isinstance(value, str):
            return f"needs text, not {kind_of(value)}; put it between quotes"
        return f"needs {bounds.description if bounds else 'other text'}"
    if get_origin(base) is Literal:
        return f"needs one of {', '.join(get_args(base))}, not {shown(value)}"
    if base is bool:
        return f"needs true or false, not {shown(value)}"
    noun, unit = (written.noun, f" {written.unit}") if written else (_NUMBERS[base], "")
    limits = _limits(bounds)
    return f"needs {noun}{' ' if limits else ''}{limits}{unit if limits else ''}, not {shown(value)}"


def _limits(bounds: msgspec.Meta | None) -> str:
    """Bounds of a number in words."""
    if bounds is None:
        return ""
    if bounds.ge is not None and bounds.le is not None:
        return f"from {bounds.ge} to {bounds.le}"
    parts = [
        f"{words} {limit}"
        for words, limit in (
            ("greater than", bounds.gt), ("of at least", bounds.ge), ("less than", bounds.lt), ("at most", bounds.le)
        )
        if limit is not None
    ]  # fmt: skip
    return " and ".join(parts)
