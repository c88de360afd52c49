"""What every command that talks to an engine has in common: its options, its session, its errors and exit codes."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from amx_server.cli.exits import UNREACHABLE, USAGE, exit_code_of
from amx_server.cli.output import Output
from amx_server.core.errors import AmxError

if TYPE_CHECKING:
    from amx_server.cli.client import Client


@dataclass(frozen=True)
class Session:
    """What a command works with: an engine to ask, an output to answer on."""

    client: Client
    output: Output


def seconds(text: str) -> float:
    """Parses an option that is a duration. For `typer.Option(parser=seconds)`."""
    from amx_server.core.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Address = Annotated[
    str | None,
    typer.Option(
        "--address", "-a", envvar="AMX_ADDRESS", help="Engine: host:port, https://host:port or unix:/path.",
        show_default="127.0.0.1:9090", rich_help_panel="Engine",
    ),
]  # fmt: skip
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="AMX_TOKEN", help="Bearer token; better kept in AMX_TOKEN.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", parser=seconds, metavar="DURATION", help="Longest wait for an answer, e.g. 5s, 2m."),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=0, help="Most entries; 0: all.")]

_SHARED: tuple[tuple[str, Any, Any], ...] = (
    ("address", Address, None),
    ("token", Token, None),
    ("as_json", Json, False),
    ("timeout", Timeout, None),
)


def engine_command(
    app: typer.Typer, name: str, *, timeout: float | None = 30.0
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds a function to `app` as the command `name`.

    The function gets a Session first and its own arguments after it; --address, --token, --json and --timeout come
    with the decorator. timeout: seconds to wait for the engine where the command line does not say; None: no end.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        def run(*, address: str | None, token: str | None, as_json: bool, timeout: float | None, **own: Any) -> None:
            chosen = default_timeout if timeout is None else timeout
            call_engine(function, address, token, as_json, chosen, own)

        default_timeout = timeout
        own_parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, annotation, default in _SHARED
        ]
        own_parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own_parameters]
        run.__signature__ = inspect.Signature([*own_parameters, *shared])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own_parameters, *shared)}
        run.__doc__ = function.__doc__
        run.__name__ = function.__name__
        app.command(name)(run)
        return function

    return decorate


def call_engine(
    function: Callable[..., None],
    address: str | None,
    token: str | None,
    as_json: bool,
    timeout: float | None,
    arguments: dict[str, Any],
) -> None:
    """Runs a command against an engine; its failures become messages on standard error and exit codes."""
    from amx_server.cli.client import Client, UnreachableError

    try:
        engine = Client(address, token, timeout)
    except AmxError as error:
        fail(error, as_json, USAGE)
    try:
        with engine as client:
            function(Session(client, Output(as_json)), **arguments)
    except AmxError as error:
        fail(error, as_json)
    except UnreachableError as error:
        _complain(str(error), "ENGINE_UNREACHABLE", as_json, {})
        raise typer.Exit(UNREACHABLE) from None


def fail(error: AmxError, as_json: bool = False, code: int | None = None) -> NoReturn:
    """Prints a failure on standard error and ends the command with its exit code, or `code`."""
    facts: dict[str, object] = {"retryable": error.retryable, "metadata": error.metadata}
    if error.retry_delay_ms:
        facts["retry_delay_ms"] = error.retry_delay_ms
    _complain(error.message, error.reason, as_json, facts)
    raise typer.Exit(exit_code_of(error) if code is None else code)


def usage(message: str) -> NoReturn:
    """Ends the command because it was called wrongly; message: what is wrong and what to write instead."""
    typer.echo(f"amx: {message}", err=True)
    raise typer.Exit(USAGE)


def _complain(message: str, reason: str, as_json: bool, facts: dict[str, object]) -> None:
    if as_json:
        text = json.dumps({"error": {"reason": reason, "message": message, **facts}}, ensure_ascii=False)
    else:
        text = f"amx: {message} [{reason}]"
    print(text, file=sys.stderr)


# --- arguments that several commands share ---------------------------------------------------------------------------


def instance_ref(text: str) -> Any:
    """`agent/key` -> InstanceRef; `agent` alone is `agent/default`."""
    from amx.v1 import common_pb2

    agent, _, key = text.partition("/")
    if not agent:
        usage(f"'{text}' is not an instance; write agent/key, or agent alone for agent/default")
    return common_pb2.InstanceRef(agent=agent, key=key or "default")


def choice(descriptor: Any, text: str | None, option: str) -> int:
    """Number of an enum value by its lower-case name without prefix; 0 for None. Ends the command for others."""
    if text is None:
        return 0
    from amx_server.cli.output import enum_name

    names = {enum_name(descriptor, value.number): value.number for value in descriptor.values if value.number}
    number = names.get(text.lower().replace("-", "_"))
    if number is None:
        usage(f"{option} '{text}' is not known; write one of: {', '.join(names)}")
    return int(number)


def json_bytes(text: str | None, what: str) -> bytes:
    """JSON from an argument, or from standard input for `-`, as the bytes to send; empty for None.

    Numbers travel as they were written. Ends the command when it is not JSON, and says why.
    """
    if text is None:
        return b""
    if text == "-":
        text = sys.stdin.read()
    try:
        json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeats)
        return text.strip().encode()
    except ValueError as error:
        hint = "" if text[:1] in '{["' else f"; a text needs its own quotes: '\"{text}\"'"
        usage(f"{what} is not JSON: {error}{hint}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} cannot be said in JSON")


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        repeated = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"the key '{repeated}' appears twice")
    return result
