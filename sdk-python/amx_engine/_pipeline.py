"""Pipelines: ordered stages inside one invocation, each seeing what the one before it returned."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from amx_engine._context import Context
from amx_engine._errors import DEADLINE_EXCEEDED, UNKNOWN, AmxError, reason_of
from amx_engine._message import AgentReference, Message, Priority


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a pipeline class: `function(self, context)`, or `function(self)`."""

    name: str
    order: float
    function: Callable[..., Any]
    takes_context: bool
    timeout: timedelta | None


class NotificationService:
    """Tells people: an alert is an event on `alerts.<channel>`, and a log record."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    async def send_alert(
        self,
        channel: str,
        message: str,
        severity: str = "info",
        *,
        data: Any = None,
        attributes: Mapping[str, str] | None = None,
    ) -> int:
        """Publishes the alert at once, whether or not the invocation succeeds; returns the number of subscribers.

        The event's content is {"channel", "message", "severity", "source", "data"}, its attributes hold severity and
        source. Raises AmxError if it cannot be published; it is logged all the same.
        """
        context = self._context
        level = logging.ERROR if severity in ("high", "critical", "error") else logging.WARNING
        context.logger.log(level, "alert on %s (%s): %s", channel, severity, message)
        source = str(context.address) if context.agent else ""
        return await context.publish_now(
            f"alerts.{channel}",
            {"channel": channel, "message": message, "severity": severity, "source": source, "data": data},
            attributes={**(attributes or {}), "severity": severity, "source": source},
        )


class PipelineContext:
    """What a stage sees of its run.

    input: content of the message that started it. previous_result: what the stage before returned (the input, for the
    first). results: stage name to what it returned, in order. partial_results: the same, present only once there are
    some. current_stage: name of the running stage, or of the one that failed. config: the engine configuration.
    invocation: the Context of the invocation.
    """

    def __init__(self, pipeline: str, invocation: Context, value: Any) -> None:
        self.pipeline = pipeline
        self.invocation = invocation
        self.input = value
        self.previous_result = value
        self.results: dict[str, Any] = {}
        self.current_stage = ""
        self.notification_service = NotificationService(invocation)

    @property
    def partial_results(self) -> dict[str, Any]:
        """Results of the stages that finished. Raises AttributeError while there are none, so `hasattr` is false."""
        if not self.results:
            raise AttributeError("no stage of this run has finished yet, so there are no partial_results")
        return self.results

    @property
    def message(self) -> Message:
        """The message that started the run."""
        return self.invocation.message

    @property
    def config(self) -> Mapping[str, Any]:
        """The engine configuration."""
        return self.invocation.config

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named after the pipeline."""
        return self.invocation.logger

    def emit(self, agent: str | AgentReference, content: Any = None, **options: Any) -> None:
        """Stages a message; see Context.emit."""
        self.invocation.emit(agent, content, **options)

    def publish(
        self,
        topic: str,
        content: Any = None,
        *,
        attributes: Mapping[str, str] | None = None,
        durable: bool | None = None,
        key: str = "",
        priority: Priority | str = Priority.NORMAL,
    ) -> None:
        """Stages an event; see Context.publish."""
        self.invocation.publish(topic, content, attributes=attributes, durable=durable, key=key, priority=priority)

    async def request(self, agent: str | AgentReference, content: Any = None, **options: Any) -> Any:
        """Asks another agent now; see Context.request."""
        return await self.invocation.request(agent, content, **options)


async def run_pipeline(
    name: str,
    stages: tuple[Stage, ...],
    error_handler: Callable[..., Any] | None,
    instance: object,
    message: Message,
    invocation: Context,
) -> Any:
    """Runs the stages in order and returns what the last one returned.

    A failing stage ends the run: the error handler's return value is then the result. Without one, AmxError with the
    stage's reason (PIPELINE_STAGE_FAILED if it has none) and the stage's error as cause.
    """
    context = PipelineContext(name, invocation, message.content)
    for stage in stages:
        context.current_stage = stage.name
        try:
            value = await _run_stage(stage, instance, context)
        except Exception as error:
            if error_handler is None:
                raise _stage_error(name, stage, error) from error
            return await _call(error_handler, instance, context, error)
        context.results[stage.name] = value
        context.previous_result = value
    return context.previous_result


async def _run_stage(stage: Stage, instance: object, context: PipelineContext) -> Any:
    arguments = (context,) if stage.takes_context else ()
    if stage.timeout is None:
        return await _call(stage.function, instance, *arguments)
    try:
        async with asyncio.timeout(stage.timeout.total_seconds()) as limit:
            return await _call(stage.function, instance, *arguments)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise AmxError(
            DEADLINE_EXCEEDED,
            "DEADLINE_EXCEEDED",
            f"stage '{stage.name}' did not end within its timeout of {stage.timeout}",
            retryable=True,
        ) from error


async def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Coroutine functions run here, plain ones in a thread, so that they block nobody."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    result = await asyncio.to_thread(function, *arguments)
    return await result if inspect.isawaitable(result) else result


def _stage_error(pipeline: str, stage: Stage, error: Exception) -> AmxError:
    reason = reason_of(error)
    known = reason != "HANDLER_FAILED"
    return AmxError(
        getattr(error, "code", UNKNOWN) if known and isinstance(getattr(error, "code", None), int) else UNKNOWN,
        reason if known else "PIPELINE_STAGE_FAILED",
        f"pipeline '{pipeline}' failed at stage '{stage.name}': {error}",
        retryable=bool(getattr(error, "retryable", not known)),
        metadata={"pipeline": pipeline, "stage": stage.name},
    )
