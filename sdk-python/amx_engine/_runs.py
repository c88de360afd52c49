"""Records of what runs: one handler at one message, one event at many targets. `_runner` moves them along."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from amx.v1 import link_pb2, memory_pb2
from amx_engine._activation import Activation
from amx_engine._context import Context
from amx_engine._deadlines import Bucket
from amx_engine._errors import DEADLINE_EXCEEDED, FAILED_PRECONDITION, AmxError
from amx_engine._message import Message

if TYPE_CHECKING:
    from amx_engine._definition import HostedHandler
    from amx_engine._runner import Runner


class Run:
    """One handler at work on one message."""

    # Defaults on the class: most runs end at once and never need their own.
    handler: HostedHandler
    message: Message
    attempt = 1
    deadline = 0.0  # second of `runner.now`; 0: none
    bucket: Bucket | None = None
    task: asyncio.Task[None] | None = None  # the runner task that stays with it while it is suspended
    stopped: AmxError | None = None  # why it was cancelled
    discarded = False  # nobody wants its outcome
    turn = False  # it waited for its instance, which is now held for it
    coroutine: Coroutine[Any, Any, Any]
    variables: contextvars.Context
    yielded: Any
    _context: Context | None = None

    def __init__(self, runner: Runner, item_id: int, activation: Activation) -> None:
        self.runner = runner
        self.id = item_id
        self.activation = activation

    def context(self) -> Context:
        """The context of this run, made when it is first asked for."""
        context = self._context
        if context is None:
            runner, activation = self.runner, self.activation
            context = self._context = Context(
                self.message,
                self.id,
                self.attempt,
                activation.agent.name,
                activation.key,
                self.deadline or None,
                runner.calls,
                runner.config,
                runner.now,
                runner.services,
            )
            context.cancelled = self.stopped is not None
        return context

    @property
    def source(self) -> str:
        """Where it happens: `agent/key#handler`."""
        activation = self.activation
        address = f"{activation.agent.name}/{activation.key}"
        handler = getattr(self, "handler", None)  # not chosen yet
        return f"{address}#{handler.name}" if handler is not None else address

    def expire(self) -> None:
        """Its deadline has passed, and the engine did not cancel it."""
        self.stop(
            AmxError(DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", f"{self.source} did not end in time", retryable=True)
        )

    def stop(self, why: AmxError) -> None:
        """Cancels it, for this reason."""
        if self.stopped is None:
            self.stopped = why
            if self._context is not None:
                self._context.cancelled = True
            if self.task is not None:
                self.task.cancel()


class Invocation(Run):
    """An Invoke at work."""

    started: float  # monotonic second at which its turn came
    memory_version = 0
    image: memory_pb2.InstanceMemory | None = None  # the memory that came with it
    streaming = False  # its reader takes chunks
    window = 0  # chunks its reader takes
    reader: asyncio.Future[None] | None = None

    def __init__(
        self,
        runner: Runner,
        item_id: int,
        activation: Activation,
        message: Message,
        handler_name: str,
        attempt: int,
        epoch: int,
        timeout_ms: int,
    ) -> None:
        self.runner = runner
        self.id = item_id
        self.activation = activation
        self.message = message
        self.handler_name = handler_name
        self.attempt = attempt
        self.epoch = epoch
        if timeout_ms:
            self.deadline = runner.now() + timeout_ms / 1000


class Target(Run):
    """A delivered event at work at one of its targets."""

    index: int
    over = False  # tasks that outlive their handler may still see it

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.handler = delivery.handler

    def context(self) -> Context:
        if self.over:
            raise AmxError(FAILED_PRECONDITION, "NO_CONTEXT", "the handler that started this has ended")
        delivery = self.delivery
        self.runner, self.id, self.message = delivery.runner, delivery.id, delivery.message
        return super().context()


class Delivery:
    """A Deliver at work: a position in its list of targets, and what became of those before it."""

    __slots__ = (
        "arguments",
        "discarded",
        "epochs",
        "handler",
        "id",
        "message",
        "next",
        "outcome",
        "remaining",
        "runner",
        "stopped",
        "suspended",
    )

    def __init__(
        self, runner: Runner, item_id: int, handler: HostedHandler, message: Message, epochs: list[int]
    ) -> None:
        self.runner = runner
        self.id = item_id
        self.handler = handler
        self.message = message
        self.epochs = epochs
        self.next = 0
        self.remaining = len(epochs)
        self.outcome: link_pb2.Delivered | None = None  # most targets have nothing to report
        self.arguments: tuple[Any, ...] | None = None
        self.suspended: set[Target] = set()
        self.stopped: AmxError | None = None
        self.discarded = False

    def report(self, index: int) -> link_pb2.DeliveredTarget:
        """A new report of what became of one target, to be filled."""
        if self.outcome is None:
            self.outcome = link_pb2.Delivered()
        report = self.outcome.targets.add()
        report.index = index
        return report

    def stop(self, why: AmxError) -> None:
        self.stopped = why
        for target in list(self.suspended):
            target.stop(why)
