"""Carries out the steps of a case of subject sdk with the scripted engine.

Needs the standard library and protobuf only.
"""

from __future__ import annotations

import base64
from typing import Any

from amx.v1 import link_pb2
from conformance.runner.cases import DEFAULT_WITHIN, Case, Step, seconds
from conformance.runner.matchers import Bindings
from conformance.runner.peer import CaseFailure, Peer, Trace
from conformance.runner.scripted_engine import ScriptedEngine
from conformance.runner.testee_link import TesteeLink
from conformance.runner.values import ValueProblem, build, repeat

START_SECONDS = 30.0
"""How long a testee may take to ask for its first connection, on a busy machine."""

_QUIET_SECONDS = 0.3


async def carry_out(case: Case, testee: TesteeLink, trace: Trace, *, again: bool = False, leave: bool = False) -> None:
    """Runs the case to its end. Raises CaseFailure if the SDK fails it, Broken if the testee broke down.

    again: the SDK has lost an earlier session, and waits before it connects anew.
    leave: the connection is lost at the end and the SDK is not stopped, so that another session may follow.
    """
    bindings: Bindings = {}
    engine = ScriptedEngine(testee, case, trace, bindings, again=again)
    first = True

    def patience(step: Step) -> float:
        return max(step.within, START_SECONDS) if first else step.within

    try:
        if not case.connects_itself:
            if case.manual_handshake:
                await engine.accept(START_SECONDS)
            else:
                await engine.connect(False, START_SECONDS)
            first = False
        for step in case.steps:
            trace.add(f"[{step}]")
            try:
                for _ in range(step.times):
                    await _do(engine, case, step, patience(step), bindings)
            except CaseFailure as failure:
                raise CaseFailure(f"{step}: {failure}") from None
            except ValueProblem as problem:
                raise CaseFailure(f"{step}: {problem}") from None
            if step.kind in ("connect", "refuse"):
                first = False
        trace.add("[the end]")
        try:
            if leave:
                await engine.leave()
            else:
                await engine.finish(2 * DEFAULT_WITHIN)
        except CaseFailure as failure:
            raise CaseFailure(f"at the end: {failure}") from None
    finally:
        await engine.abandon()


async def _do(engine: ScriptedEngine, case: Case, step: Step, within: float, bindings: Bindings) -> None:
    kind, args = step.kind, step.args
    if await frames(engine, step, bindings):
        return
    if kind == "exchange":
        await engine.exchange(args, step.more["expect"], within)
    elif kind == "connect":
        if case.manual_handshake:
            await engine.accept(within)
        else:
            await engine.connect(bool(args.get("resume", False)), within, args.get("lost", 0))
    elif kind == "disconnect":
        await engine.disconnect("lost")
    elif kind == "refuse":
        await engine.refuse(args, within)
    elif kind == "hibernate":
        await engine.hibernate()
    elif kind == "advance":
        await engine.advance(round(seconds(args) * 1000))
    elif kind == "expect_no_connection":
        if await engine.testee.wants_connection(_QUIET_SECONDS):
            raise CaseFailure("the SDK asks for a connection, and should not")
    elif kind == "stop":
        await engine.stop()
    elif kind == "expect_stopped":
        await engine.stopped(within)
    elif kind != "note":
        raise CaseFailure(f"'{kind}' is not for subject sdk")


async def frames(peer: Peer, step: Step, bindings: Bindings) -> bool:
    """Does a step that is about frames, with either end of a link. Returns whether it was one."""
    kind, args = step.kind, step.args
    if kind == "send":
        items = [
            build(link_pb2.LinkItem.DESCRIPTOR, item, bindings, f"send[{index}]")
            for index, item in enumerate(args if isinstance(args, list) else [args])
        ]
        await peer.send_items([item for item in items if isinstance(item, link_pb2.LinkItem)])
    elif kind == "send_frame":
        frame = build(link_pb2.LinkFrame.DESCRIPTOR, args, bindings, "send_frame")
        assert isinstance(frame, link_pb2.LinkFrame)
        await peer.send_frame(frame)
    elif kind == "send_raw":
        await peer.send_raw(raw_bytes(args))
    elif kind == "expect":
        if set(args) == {"$unordered"}:
            await peer.expect_unordered(args["$unordered"], step.within)
        else:
            await peer.expect(args, step.within, step.more.get("past"))
    elif kind == "expect_frame":
        await peer.expect_frame(args, step.within)
    elif kind == "expect_nothing":
        await peer.expect_nothing(step.within)
    elif kind == "expect_closed":
        await peer.expect_closed(args.get("reason") if isinstance(args, dict) else None, step.within)
    else:
        return False
    return True


def raw_bytes(args: dict[str, Any]) -> bytes:
    """What a `send_raw` sends."""
    if "base64" in args:
        return base64.b64decode(args["base64"])
    if "text" in args:
        return str(args["text"]).encode()
    return repeat(args["$repeat"], "send_raw").encode()
