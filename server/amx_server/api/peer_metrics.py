"""The metrics of several engines as one page: every sample says of which engine it is.

Engines ask each other for theirs by a call that is no part of the public service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import grpc
import grpc.aio

from amx_server.cluster.trust import PeerTrust

METHOD = "/amx.internal.Peers/Metrics"
_END = "# EOF"


def handler(trust: PeerTrust, render: Callable[[str], tuple[str, bytes]]) -> grpc.GenericRpcHandler:
    """Answers peers, and nobody else, with this engine's metrics. The request is an Accept header."""

    async def metrics(accept: bytes, context: Any) -> bytes:
        if trust.identity(context.invocation_metadata()) is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "for engines of this address only")
        return render(accept.decode())[1]

    service, _, name = METHOD[1:].partition("/")
    method: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(metrics)
    return grpc.method_handlers_generic_handler(service, {name: method})


def together(pages: Iterable[tuple[int, str]]) -> str:
    """One page of the pages of several engines, by number: families once, samples with the label `engine`."""
    families: dict[str, tuple[list[str], list[str]]] = {}  # name -> lines that describe it, samples
    ended = False
    for number, page in pages:
        about: list[str] = []
        samples: list[str] = []
        for line in page.splitlines():
            if line == _END:
                ended = True
            elif line.startswith("# "):
                family = line.split(" ", 3)[2]
                about, samples = families.setdefault(family, ([], []))
                if line not in about:
                    about.append(line)
            elif line:
                samples.append(_labelled(line, number))
    lines = [line for about, samples in families.values() for line in (*about, *samples)]
    return "\n".join([*lines, *([_END] if ended else []), ""])


def _labelled(sample: str, number: int) -> str:
    at = next(index for index, letter in enumerate(sample) if letter in "{ ")
    name, rest = sample[:at], sample[at:]
    if rest.startswith("{"):
        between = "" if rest.startswith("{}") else ","
        return f'{name}{{engine="{number}"{between}{rest[1:]}'
    return f'{name}{{engine="{number}"}}{rest}'
