"""What the commands print: tables and texts for people, JSON with the contracts' field names for programs."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from amx_server.cli.exits import OK

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console


class Output:
    """Standard output in one of two languages."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.terminal = sys.stdout.isatty()

    def json(self, value: object) -> None:
        """Prints one JSON value: indented on a terminal, on one line otherwise."""
        indent = 2 if self.terminal else None
        self.text(json.dumps(value, ensure_ascii=False, indent=indent))

    def json_line(self, value: object) -> None:
        """Prints one JSON value on one line, at once: for values that come one after another."""
        self.text(json.dumps(value, ensure_ascii=False))

    def text(self, line: str) -> None:
        """Prints one line."""
        # Text from the wire may hold what the terminal's encoding lacks.
        encoding = sys.stdout.encoding or "utf-8"
        try:
            sys.stdout.write(line.encode(encoding, "replace").decode(encoding) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever reads has seen enough, as `head` has. Python must not try to write the rest when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(OK) from None

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
        """Prints a table, or the sentence `empty` if there are no rows."""
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
        if table.row_count:
            console = self._console()
            with console.capture() as captured:
                console.print(table)
            self.text(captured.get().rstrip("\n"))
        else:
            self.text(empty)

    def facts(self, facts: Mapping[str, object]) -> None:
        """Prints names and values, one a line; values that are None or empty are left out."""
        shown = {name: str(value) for name, value in facts.items() if value not in (None, "", [])}
        width = max((len(name) for name in shown), default=0) + 2
        for name, value in shown.items():
            self.text(f"{name + ':':<{width}}{value}")

    def _console(self) -> Console:
        from rich.console import Console

        # In a pipe nobody sees a margin; cut cells would only lose what somebody wants to grep.
        return Console(width=None if self.terminal else 10_000, highlight=False)


class Page(Output):
    """Collects what is printed; `show` then puts it on the terminal in the place of all that was there."""

    def __init__(self) -> None:
        super().__init__(as_json=False)
        self._lines: list[str] = []

    def text(self, line: str) -> None:
        """Adds one line."""
        self._lines.append(line)

    def show(self) -> None:
        """Replaces what the terminal shows, in one write, so that nothing flickers."""
        super().text("\x1b[H\x1b[2J\x1b[3J" + "\n".join(self._lines))


def plain(message: Message) -> dict[str, Any]:
    """A contract's message as JSON values.

    Fields keep their names; absent messages and unset choices are null; enums are their lower-case names without
    prefix; instances are `agent/key`; payloads and memory values are the values they hold, or
    `{"content_type", "base64"}` where that is not JSON or text.
    """
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(sorted(value.items()))
    # `is_repeated` came, and `label` went, between the versions of protobuf that we allow.
    if field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED:
        return [_value(item, field) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    if field.type == field.TYPE_BYTES and message.DESCRIPTOR.name == "MemoryEntry":
        return json.loads(value) if value else None
    return _value(value, field)


def _value(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        name = field.message_type.name
        if name == "Payload":
            return payload_value(value)
        if name == "InstanceRef":
            return f"{value.agent}/{value.key or 'default'}"
        return plain(value)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    if field.type == field.TYPE_BYTES:
        return base64.b64encode(value).decode()
    return value


def enum_name(descriptor: Any, number: int) -> str:
    """`running` for INSTANCE_STATE_RUNNING; `unspecified` for 0."""
    found = descriptor.values_by_number.get(number)
    if found is None:
        return str(number)
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(found.name.removeprefix(prefix).lower())


def payload_value(payload: Any) -> Any:
    """The value that a payload holds."""
    kind = payload.content_type.partition(";")[0].strip()
    if not payload.data:
        return "" if kind.startswith("text/") else None
    try:
        if kind in ("", "application/json") or kind.endswith("+json"):
            return json.loads(payload.data)
        if kind.startswith("text/"):
            return payload.data.decode()
    except ValueError:
        pass
    return {"content_type": kind, "base64": base64.b64encode(payload.data).decode()}


def compact(value: object, width: int = 60) -> str:
    """A value as short JSON for a table cell."""
    text = json.dumps(value, ensure_ascii=False) if value is not None else ""
    return text if len(text) <= width else text[: width - 1] + "…"


def moment(at_ms: int) -> str:
    """A moment for people, in their time zone; empty for 0."""
    if not at_ms:
        return ""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(sep=" ", timespec="seconds")


def duration(ms: int) -> str:
    """A duration for people: `350ms`, `12s`, `3m20s`, `5h10m`, `2d3h`."""
    if ms < 1000:
        return f"{ms}ms"
    seconds = ms // 1000
    for size, unit, below, below_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            rest = seconds % size // below
            return f"{seconds // size}{unit}{rest}{below_unit}" if rest else f"{seconds // size}{unit}"
    return f"{seconds}s"


def size(count: int) -> str:
    """A number of bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
