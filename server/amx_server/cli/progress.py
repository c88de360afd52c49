"""Work that takes a while, shown as it goes: a bar on terminals, one object a line for programs, nothing in pipes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amx_server.cli.output import Output, plain


def follow(parts: Iterable[Any], what: str, output: Output) -> Any:
    """Shows `parts`, messages with a `progress` from 0 to 1, and returns the last one; None if there was none.

    The bar goes to standard error and disappears: what comes after it, on standard output, is the result.
    """
    last = None
    if output.as_json:
        for last in parts:
            output.json_line(plain(last))
        return last
    with _bar(what, output.terminal) as bar:
        task = bar.add_task(what, total=1.0)
        for last in parts:
            bar.update(task, completed=last.progress)
    return last


def _bar(what: str, visible: bool) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not visible,
    )
