"""Headers of an answer: a mapping that does not mind case, read only when somebody looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


class Headers(Mapping[str, str]):
    """Names are given in lower case and found in any. A name that came several times has its values in one, with
    commas, as RFC 9110 (5.3) has it.
    """

    __slots__ = ("_raw", "_read")

    def __init__(self, raw: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """raw: as they came."""
        self._raw = raw
        self._read: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({self._values!r})"

    @property
    def _values(self) -> dict[str, str]:
        values = self._read
        if values is None:
            values = {}
            for raw_name, raw_value in self._raw:
                name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
                values[name] = f"{values[name]}, {value}" if name in values else value
            self._read, self._raw = values, ()
        return values
