"""Runs handlers: takes invocations and deliveries from the link, answers with what became of them.

A few long-lived runner tasks share one queue; there is no task per message. A runner starts a handler's coroutine and
most end right there. Only when one suspends does its runner stay with it, and another carries on with the queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from time import monotonic
from types import coroutine
from typing import TYPE_CHECKING, Any

from amx.v1 import common_pb2, link_pb2
from amx_engine._activation import Activation
from amx_engine._context import Calls, set_current
from amx_engine._deadlines import Deadlines
from amx_engine._errors import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    AmxError,
    failure_from_exception,
)
from amx_engine._message import Message
from amx_engine._runs import Delivery, Invocation, Run, Target
from amx_engine._services import NO_SERVICES, Services
from amx_engine._values import JSON

if TYPE_CHECKING:
    from amx_engine._definition import HostedAgent, HostedHandler
    from amx_engine._protocol import LinkProtocol

logger = logging.getLogger("amx_engine.runner")

SLICE_SECONDS = 0.002  # how long a runner works before it lets the event loop breathe
BLOCKING_SECONDS = 0.5  # a step of an async handler that takes longer is worth a warning
_WARN_EVERY_SECONDS = 60.0
_IDLE_RUNNERS = 64
_DELIVERY_SLICE = 128  # targets between looks at the clock
# The engine enforces deadlines; if its Cancel does not come, the handler is stopped here.
_GRACE_SECONDS = 0.15


class Runner:
    """The agents of this process at work.

    agents: by name; may change. concurrency: invocations and deliveries at a time, as granted to the engine.
    threads: plain (not async) handlers at a time. config: given to pipelines and contexts. clock: of memory's expiry.
    now: of deadlines. services: what the engine lends, if it is in this process.
    Everything runs on the event loop it was made in, except plain handlers.
    """

    protocol: LinkProtocol

    def __init__(
        self,
        agents: MutableMapping[str, HostedAgent],
        *,
        deadlines: Deadlines,
        concurrency: int = 1024,
        threads: int = 16,
        config: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], float] = monotonic,
        services: Services = NO_SERVICES,
    ) -> None:
        self.agents = agents
        self.services = services
        self._clock = clock
        self.now = now
        self.config: Mapping[str, Any] = config or {}
        self.calls: Calls | None = None
        self._deadlines = deadlines
        self._concurrency = concurrency
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="amx-handler") if agents else None
        self._thread_count = threads
        self._loop = asyncio.get_running_loop()
        self._activations: dict[int, Activation] = {}
        self._jobs: dict[int, Invocation | Delivery] = {}
        self._queue: deque[Invocation | Delivery | Target] = deque()
        self._held: deque[Delivery] = deque()  # deliveries that wait for suspended targets to end
        self._delivering = 0  # suspended targets
        self._taking = False  # a runner takes from the queue, or is about to
        self._idle: list[asyncio.Future[None]] = []
        # Of runners, which outlive the handlers that are at work when they are made: those are not to be kept.
        self._variables = copy_context()
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_ended = self._ended  # one for all runners: each would keep one of its own
        self._empty: list[asyncio.Future[None]] = []
        self._now = monotonic()
        self._warned: dict[str, float] = {}
        self._closed = False

    # What the link asks for

    def invoke(self, item_id: int, invoke: link_pb2.Invoke) -> None:
        proto = invoke.message
        activation = self._activation(item_id, invoke.attempt, invoke.epoch, proto.agent, proto.key)
        if activation is None:
            return
        invocation = Invocation(
            self,
            item_id,
            activation,
            Message.from_proto(proto),
            proto.handler,
            invoke.attempt,
            invoke.epoch,
            invoke.timeout_ms,
        )
        invocation.memory_version = invoke.memory_version
        if invoke.HasField("memory"):
            invocation.image = invoke.memory
        if invoke.streaming:
            invocation.streaming = True
        self._take_in(invocation)

    def invoke_plain(self, entry: tuple[Any, ...]) -> None:
        _, item_id, attempt, epoch, timeout_ms, version, agent, key, handler, proto, content_type, data = entry
        activation = self._activations.get(epoch) or self._activation(item_id, attempt, epoch, agent, key)
        if activation is None:
            return
        message = Message.from_bytes(proto, content_type, data)
        invocation = Invocation(self, item_id, activation, message, handler, attempt, epoch, timeout_ms)
        if version:
            invocation.memory_version = version
        self._take_in(invocation)

    def _activation(self, item_id: int, attempt: int, epoch: int, name: str, key: str) -> Activation | None:
        """The activation an invocation is for. None: its agent is not here, and the engine has been told."""
        activation = self._activations.get(epoch)
        if activation is None:
            agent = self.agents.get(name)
            if agent is None:
                item = self.protocol.item(256)
                item.id = item_id
                item.complete.attempt = attempt
                item.complete.epoch = epoch
                item.complete.failure.CopyFrom(error_to_failure(_agent_unknown(name)))
                return None
            activation = self._activations[epoch] = Activation(agent, key or "default", epoch, self._clock)
        return activation

    def _take_in(self, invocation: Invocation) -> None:
        self._jobs[invocation.id] = invocation
        self._queue.append(invocation)
        if not self._taking:
            self._take_up()

    def deliver(self, item_id: int, deliver: link_pb2.Deliver) -> None:
        agent = self.agents.get(deliver.agent)
        handler = agent.handlers.get(deliver.handler) if agent is not None else None
        if handler is None:
            error = _agent_unknown(deliver.agent) if agent is None else _handler_unknown(agent, deliver.handler)
            item = self.protocol.item(64)
            item.id = item_id
            for index in range(len(deliver.epochs)):
                item.delivered.targets.add(index=index, failure=error_to_failure(error))
            return
        delivery = Delivery(self, item_id, handler, Message.from_event(deliver.event), list(deliver.epochs))
        self._jobs[item_id] = delivery
        self._queue.append(delivery)
        if not self._taking:
            self._take_up()

    def activate(self, activate: link_pb2.Activate) -> None:
        instance = activate.instance
        activation = self._activations.get(activate.epoch)
        if activation is None:
            agent = self.agents.get(instance.agent)
            if agent is None:
                logger.warning("the engine activated %s, which is not hosted here", instance.agent)
                return
            activation = Activation(agent, instance.key or "default", activate.epoch, self._clock)
            self._activations[activate.epoch] = activation
        activation.hold(activate.memory, activate.memory_version)

    def deactivate(self, epochs: Iterable[int]) -> None:
        for epoch in epochs:
            self._activations.pop(epoch, None)

    def cancel(self, item_id: int, reason: str) -> None:
        job = self._jobs.get(item_id)
        if job is not None:
            job.stop(AmxError(CANCELLED, "CANCELLED", f"cancelled: {reason or 'no reason given'}"))

    def grant_chunks(self, item_id: int, chunks: int) -> None:
        job = self._jobs.get(item_id)
        if isinstance(job, Invocation):
            job.window += chunks
            if job.reader is not None and not job.reader.done():
                job.reader.set_result(None)

    def abandon(self) -> None:
        jobs, self._jobs = self._jobs, {}
        self._queue.clear()
        self._held.clear()
        self._activations.clear()
        why = AmxError(CANCELLED, "CANCELLED", "the session with the engine was lost")
        for job in jobs.values():
            job.discarded = True
            if isinstance(job, Delivery):
                for target in job.suspended:
                    target.discarded = True
            job.stop(why)
        self._report_empty()

    # What the owner asks for

    @property
    def slots_in_use(self) -> int:
        """Invocations and deliveries that have not ended."""
        return len(self._jobs)

    async def wait_empty(self) -> None:
        """Returns when no invocation or delivery is left."""
        if self._jobs:
            future = self._loop.create_future()
            self._empty.append(future)
            await future

    async def close(self) -> None:
        """Stops every handler that still runs, and every runner. Nothing is reported any more."""
        self._closed = True
        self.abandon()
        for future in self._idle:
            if not future.done():
                future.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=5.0)
            if stuck:
                logger.warning("%d handlers did not stop when they were cancelled", len(stuck))
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    # Runners

    def _take_up(self) -> None:
        """Makes a runner take from the queue."""
        self._taking = True
        while self._idle:
            future = self._idle.pop()
            if not future.done():
                future.set_result(None)
                return
        task = self._loop.create_task(self._work(), name="amx-runner", context=self._variables)
        self._tasks.add(task)
        task.add_done_callback(self._on_ended, context=self._variables)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a runner ended; another takes its place", exc_info=error)
            self._taking = False
            if self._queue and not self._closed:
                self._take_up()

    async def _work(self) -> None:
        queue = self._queue
        idle = self._idle
        task = asyncio.current_task()
        assert task is not None
        job: Invocation | Delivery | Target | None = None
        run: Run | None = None
        while True:
            until = monotonic() + SLICE_SECONDS
            while queue:
                job = queue.popleft()
                kind = type(job)
                if kind is Invocation:
                    run = self._begin_invocation(job)  # type: ignore[arg-type]
                    if run is None and job.activation.waiting and not job.activation.busy:  # type: ignore[union-attr]
                        self._pass_on(job.activation)  # type: ignore[union-attr]
                elif kind is Delivery:
                    run = self._begin_delivery(job)  # type: ignore[arg-type]
                else:
                    run = self._begin_target(job)  # type: ignore[arg-type]
                if run is not None:
                    self._taking = False
                    if queue:
                        self._take_up()
                    await self._stay_with(run, task)
                    if self._taking:
                        break  # another runner has the queue
                    self._taking = True
                    until = monotonic() + SLICE_SECONDS
                elif self._now > until:
                    await asyncio.sleep(0)
                    until = monotonic() + SLICE_SECONDS
            else:
                self._taking = False
            if len(idle) >= _IDLE_RUNNERS or self._closed:
                return
            job = run = None
            future = self._loop.create_future()
            idle.append(future)
            await future

    @coroutine
    def _stay_with(self, run: Run, task: asyncio.Task[None]) -> Generator[Any, Any, None]:
        """Drives a suspended handler to its end: what the runner task awaits in place of the handler's coroutine, which
        runs in its own context variables.
        """
        self._suspended(run, task)
        variables, body = run.variables, run.coroutine
        turns = self.services.turns
        turn: asyncio.Future[None] | None = None
        yielded = run.yielded
        value: Any = None
        error: BaseException | None = None
        try:
            while True:
                try:
                    sent = yield yielded
                    if turns is not None:
                        turn = turns.ready(run)
                        if turn is not None:
                            yield from turn
                except BaseException as exc:
                    started = monotonic()
                    try:
                        yielded = variables.run(body.throw, exc)
                    except StopIteration as stop:
                        value = stop.value
                        break
                else:
                    started = monotonic()
                    try:
                        yielded = variables.run(body.send, sent)
                    except StopIteration as stop:
                        value = stop.value
                        break
                    finally:
                        if turn is not None and turns is not None:
                            turns.ran(run, monotonic() - started)
                            turn = None
                if monotonic() - started > BLOCKING_SECONDS:
                    self._warn_blocking(run, monotonic() - started)
        except BaseException as exc:  # handlers may raise anything; what is not theirs is raised again below
            error = exc
        del variables, body
        self._driven(run, task, value, error)
        if self._closed or isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error or asyncio.CancelledError

    def _suspended(self, run: Run, task: asyncio.Task[None]) -> None:
        """A handler waits for something, and `task` with it."""
        run.task = task
        if not run.handler.concurrent:
            run.activation.busy = True
        if run.deadline:
            run.bucket = self._deadlines.add(run, max(0.0, run.deadline - self.now()) + _GRACE_SECONDS)
        if run.stopped is not None:
            task.cancel()

    def _driven(self, run: Run, task: asyncio.Task[None], value: Any, error: BaseException | None) -> None:
        """A handler that was suspended has ended."""
        activation = run.activation
        run.task = None
        del run.coroutine, run.variables
        if run.stopped is not None:
            task.uncancel()
        if run.bucket is not None:
            run.bucket.pop(run, None)
        if not run.handler.concurrent:
            activation.busy = False
        if isinstance(run, Invocation):
            if error is None:
                self._succeeded(run, value)
            else:
                self._failed(run, error)
        elif isinstance(run, Target):
            self._delivering -= 1
            delivery = run.delivery
            delivery.suspended.discard(run)
            self._target_ended(run, error)
            self._delivered(delivery, 1)
            if self._held:
                self._queue.append(self._held.popleft())
                if not self._taking:
                    self._take_up()
        if activation.waiting:
            self._pass_on(activation)

    def _start(self, run: Run, arguments: tuple[Any, ...]) -> Any:
        """Runs a handler until it ends or suspends. Returns what it yielded, or raises StopIteration with its value."""
        handler = run.handler
        set_current(run)
        variables = copy_context()
        style = handler.style
        if style == "async":
            body = handler.function(run.activation.instance, *arguments)
        elif style == "sync":
            body = self._in_thread(run, arguments)
        else:
            body = self._stream(run, handler.function(run.activation.instance, *arguments))
        yielded = variables.run(body.send, None)
        # Only of those that suspend: the variables hold the run, and a cycle would wait for the garbage collector.
        run.coroutine = body
        run.variables = variables
        return yielded

    # Invocations

    def _begin_invocation(self, run: Invocation) -> Run | None:
        """Runs an invocation until it ends (None) or suspends (itself)."""
        started = run.started = monotonic()
        activation = run.activation
        message = run.message
        try:
            handler = activation.agent.handlers.get(run.handler_name)
            if handler is None:
                handler = _choose(activation.agent, run.handler_name, message.type)
            run.handler = handler
            if run.turn:
                run.turn = activation.busy = False
            elif activation.busy and not handler.concurrent:
                _wait(activation, run)
                return None
            if run.stopped is not None:
                raise run.stopped
            if run.deadline and self.now() > run.deadline:
                raise AmxError(
                    DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", f"{run.source} was not reached in time", retryable=True
                )
            version = run.memory_version
            if run.image is not None and not activation.busy:
                activation.hold(run.image, version)
                activation.prepare(version)
            elif not activation.current or (
                activation.memory is not None and activation.memory.version != version and not handler.concurrent
            ):
                activation.prepare(version)
            arguments = handler.arguments(message, run.context() if handler.wants_context else None)
        except Exception as error:
            self._failed(run, error)
            return None
        try:
            run.yielded = self._start(run, arguments)
        except StopIteration as stop:
            self._succeeded(run, stop.value)
            return None
        except BaseException as error:
            self._failed(run, error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            return None
        if monotonic() - started > BLOCKING_SECONDS:
            self._warn_blocking(run, monotonic() - started)
        return run

    def _succeeded(self, run: Invocation, value: Any) -> None:
        if run.discarded or run.stopped is not None:
            self._failed(run, run.stopped or asyncio.CancelledError())
            return
        handler = run.handler
        activation = run.activation
        memory = activation.memory
        protocol = self.protocol
        try:
            content_type, data = value if handler.style == "stream" else handler.encode_result(value)
            size = len(data)
            if size + 1024 > protocol.max_item_bytes:
                protocol.check_payload(size, f"result of {run.source}")
            changed = memory is not None and memory.changed
            if changed and handler.concurrent and not activation.busy:
                raise AmxError(
                    FAILED_PRECONDITION,
                    "CONCURRENT_MEMORY_CHANGE",
                    f"{run.source} is concurrent and changed the memory of its instance; remove concurrent=True",
                )
        except Exception as error:
            self._failed(run, error)
            return
        context = run._context
        self._now = now = monotonic()
        duration_us = int((now - run.started) * 1_000_000)
        if content_type == JSON and size:
            content_type = ""
        if (changed and not handler.concurrent) or (context is not None and context.has_effects):
            if not self._succeeded_with_effects(
                run, content_type, data, duration_us, changed and not handler.concurrent
            ):
                return
        else:
            protocol.complete(run.id, run.attempt, run.epoch, content_type, data, duration_us)
        if now - run.started > BLOCKING_SECONDS and run.bucket is None and handler.style == "async":
            self._warn_blocking(run, now - run.started)
        del self._jobs[run.id]
        if self._empty and not self._jobs:
            self._report_empty()

    def _succeeded_with_effects(
        self, run: Invocation, content_type: str, data: bytes, duration_us: int, changed: bool
    ) -> bool:
        """Reports a result together with what its handler did. False: it could not; that is reported instead."""
        protocol = self.protocol
        size = len(data)
        item = protocol.item(size)
        item.id = run.id
        complete = item.complete
        complete.attempt = run.attempt
        complete.epoch = run.epoch
        complete.duration_us = duration_us
        result = complete.result
        result.SetInParent()
        if size:
            result.data = data
            if content_type:
                result.content_type = content_type
        context, activation = run._context, run.activation
        collected = False
        try:
            if changed:
                assert activation.memory is not None
                activation.memory.collect(complete.effects)
                collected = True
            if context is not None and context.has_effects:
                context.collect(complete.effects)
            added = complete.effects.ByteSize()
            if size + added + 1024 > protocol.max_item_bytes:
                protocol.check_payload(size + added, f"result of {run.source} with its effects")
        except Exception as error:
            protocol.take_back()
            if collected:
                activation.drop()  # the changes are gone from here, and not at the engine either
            self._failed(run, error)
            return False
        protocol.count(added)
        return True

    def _failed(self, run: Invocation, error: BaseException) -> None:
        activation = run.activation
        dropped = self._undo(run, error)
        self._now = now = monotonic()
        if not run.discarded:
            item = self.protocol.item(512)
            item.id = run.id
            complete = item.complete
            complete.attempt = run.attempt
            complete.epoch = run.epoch
            complete.failure.CopyFrom(self._failure(run, error))
            complete.memory_dropped = dropped or not activation.current
            complete.duration_us = int((now - run.started) * 1_000_000)
            self.protocol.count(complete.failure.ByteSize())
            self._jobs.pop(run.id, None)
        self._report_empty()

    def _undo(self, run: Run, error: BaseException) -> bool:
        """Takes a failed handler's memory changes back. Returns whether the memory is lost with them."""
        activation = run.activation
        memory = activation.memory
        if memory is None or not activation.current or not memory.changed or activation.busy:
            return False
        if memory.rollback():
            return False
        activation.drop()
        return True

    def _failure(self, run: Run, error: BaseException) -> common_pb2.Failure:
        if run.stopped is not None:
            error = run.stopped
        elif isinstance(error, asyncio.CancelledError):
            error = AmxError(CANCELLED, "CANCELLED", f"{run.source} was cancelled by something it waited for")
        elif not isinstance(error, AmxError) and logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s failed", run.source, exc_info=error)
        return failure_from_exception(error, run.source)

    # Deliveries

    def _begin_delivery(self, delivery: Delivery) -> Run | None:
        """Runs targets until all have been looked at (None), one suspends (it), or the time slice is over (None)."""
        if delivery.discarded:
            return None
        epochs, handler, activations = delivery.epochs, delivery.handler, self._activations
        wants_context, concurrent = handler.wants_context, handler.concurrent
        plain = handler.style == "async"
        function = handler.function
        position, count = delivery.next, len(epochs)
        stop = min(count, position + _DELIVERY_SLICE)
        ended = 0
        suspended: Target | None = None
        # Most handlers end at once and never ask for their context: one object serves as the source of it for all.
        target = Target(delivery)
        set_current(target)
        while position < stop:
            index = position
            activation = activations.get(epochs[index])
            position += 1
            if activation is None or delivery.stopped is not None:
                self._target_failed(delivery, index, delivery.stopped or _not_here(), dropped=activation is None)
                ended += 1
                continue
            target.index = index
            target.activation = activation
            if activation.busy and not concurrent:
                _wait(activation, target)
                target = Target(delivery)
                set_current(target)
                continue
            try:
                if not activation.current:
                    activation.prepare(None)
                arguments = delivery.arguments
                if wants_context:
                    arguments = handler.arguments(delivery.message, target.context())
                elif arguments is None:
                    arguments = delivery.arguments = handler.arguments(delivery.message, None)
            except Exception as error:
                self._target_ended(target, error)
                ended += 1
                continue
            try:
                if plain:
                    body = function(activation.instance, *arguments)
                    variables = copy_context()
                    yielded = variables.run(body.send, None)
                    target.coroutine, target.variables, target.yielded = body, variables, yielded
                else:
                    target.yielded = self._start(target, arguments)
            except StopIteration:
                memory = activation.memory
                if target._context is not None or (memory is not None and memory.changed):
                    self._target_ended(target, None)
                ended += 1
            except BaseException as error:
                self._target_ended(target, error)
                ended += 1
                if isinstance(error, (KeyboardInterrupt, SystemExit)):
                    raise
            else:
                delivery.suspended.add(target)
                self._delivering += 1
                suspended = target
                break
        if suspended is None:
            target.over = True
        delivery.next = position
        self._now = monotonic()
        if position < count:
            if self._delivering < self._concurrency:
                self._queue.appendleft(delivery)
            else:
                self._held.append(delivery)
        if ended:
            self._delivered(delivery, ended)
        return suspended

    def _begin_target(self, target: Target) -> Run | None:
        """Runs one target whose turn has come after an earlier delivery to the same instance."""
        delivery, activation, handler = target.delivery, target.activation, target.handler
        target.turn = activation.busy = False
        error: BaseException | None = None
        try:
            if delivery.stopped is not None:
                raise delivery.stopped
            if not activation.current:
                activation.prepare(None)
            arguments = handler.arguments(delivery.message, target.context() if handler.wants_context else None)
        except Exception as exc:
            error = exc
        else:
            try:
                target.yielded = self._start(target, arguments)
            except StopIteration:
                pass
            except BaseException as exc:
                error = exc
            else:
                delivery.suspended.add(target)
                self._delivering += 1
                return target
        self._target_ended(target, error)
        self._delivered(delivery, 1)
        if activation.waiting:
            self._pass_on(activation)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error
        return None

    def _target_ended(self, target: Target, error: BaseException | None) -> None:
        """Writes down what became of one target, if there is anything to say."""
        delivery, activation, index = target.delivery, target.activation, target.index
        memory, context = activation.memory, target._context
        target._context = None
        if error is None and target.stopped is not None:
            error = target.stopped
        changed = memory is not None and activation.current and memory.changed and not activation.busy
        if error is None:
            if not changed and (context is None or not context.has_effects):
                return
            effects = link_pb2.Effects()
            collected = False
            try:
                if changed:
                    assert memory is not None
                    memory.collect(effects)
                    collected = True
                if context is not None:
                    context.collect(effects)
                size = effects.ByteSize()
                if delivery.outcome is not None:
                    size += delivery.outcome.ByteSize()
                self.protocol.check_payload(size, "outcome of a delivery")
            except Exception as exc:
                if collected:
                    activation.drop()
                error = exc
            else:
                if effects.ByteSize():
                    delivery.report(index).effects.CopyFrom(effects)
                return
        dropped = self._undo(target, error) or not activation.current
        report = delivery.report(index)
        report.failure.CopyFrom(self._failure(target, error))
        report.memory_dropped = dropped

    def _target_failed(self, delivery: Delivery, index: int, error: AmxError, *, dropped: bool) -> None:
        report = delivery.report(index)
        report.failure.CopyFrom(error_to_failure(error))
        report.memory_dropped = dropped

    def _delivered(self, delivery: Delivery, ended: int) -> None:
        """That many more targets have ended."""
        delivery.remaining -= ended
        if delivery.remaining or delivery.discarded:
            return
        outcome = delivery.outcome
        if outcome is None:
            self.protocol.delivered(delivery.id)
        else:
            item = self.protocol.item(outcome.ByteSize())
            item.delivered.CopyFrom(outcome)
            item.id = delivery.id
        del self._jobs[delivery.id]
        if self._empty:
            self._report_empty()

    # Plain and streaming handlers

    async def _in_thread(self, run: Run, arguments: tuple[Any, ...]) -> Any:
        threads = self._threads
        if threads is None:
            threads = self._threads = ThreadPoolExecutor(self._thread_count, thread_name_prefix="amx-handler")
        work = threads.submit(copy_context().run, run.handler.function, run.activation.instance, *arguments)
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            if not work.cancel() and not work.done():
                # A thread cannot be stopped: it keeps the object it has, and the instance gets a new one.
                logger.warning("%s was cancelled but is not async: its thread goes on until it returns", run.source)
                run.activation.abandon()
            raise

    async def _stream(self, run: Run, chunks: AsyncGenerator[Any, None]) -> tuple[str, bytes]:
        """Passes chunks on as fast as their reader takes them. Without a reader they become one JSON array."""
        encode = run.handler.encode_chunk
        protocol = self.protocol
        streaming = isinstance(run, Invocation) and run.streaming
        collected: list[bytes] = []
        total = since = 0
        try:
            if streaming:
                assert isinstance(run, Invocation)
                run.window += protocol.stream_window
            async for value in chunks:
                since += 1
                if since >= _DELIVERY_SLICE:
                    since = 0
                    await asyncio.sleep(0)  # a generator that never waits would keep everyone else waiting
                if isinstance(run, Target):
                    continue
                assert isinstance(run, Invocation)
                content_type, data = encode(value)
                if not streaming:
                    if data and content_type != JSON and not content_type.endswith("+json"):
                        raise AmxError(
                            FAILED_PRECONDITION,
                            "INVALID_OUTPUT",
                            f"{run.source} yields chunks that are not JSON; call it with stream(), not request()",
                        )
                    total += len(data) + 1
                    protocol.check_payload(total, f"stream of {run.source}, asked for as one result,")
                    collected.append(data or b"null")
                    continue
                protocol.check_payload(len(data), f"chunk of {run.source}")
                while run.window <= 0:
                    run.reader = self._loop.create_future()
                    await run.reader
                run.window -= 1
                if run.discarded:
                    break
                item = protocol.item(len(data))
                item.id = run.id
                payload = item.chunk.payload
                payload.data = data
                if content_type != JSON:
                    payload.content_type = content_type
                payload.SetInParent()
        finally:
            await chunks.aclose()
        if streaming or isinstance(run, Target):
            return "", b""
        return JSON, b"[" + b",".join(collected) + b"]"

    # Small matters

    def _pass_on(self, activation: Activation) -> None:
        """It is the next one's turn at this instance."""
        waiting = activation.waiting
        assert waiting
        run = waiting.popleft()
        run.turn = activation.busy = True  # so that nobody comes between
        self._queue.appendleft(run)
        if not self._taking:
            self._take_up()

    def _report_empty(self) -> None:
        if not self._jobs and self._empty:
            waiters, self._empty = self._empty, []
            for future in waiters:
                if not future.done():
                    future.set_result(None)

    def _warn_blocking(self, run: Run, seconds: float) -> None:
        """Says, at most once a minute per handler, who keeps the event loop from everyone else."""
        name = f"{run.activation.agent.name}#{run.handler.name}"
        now = monotonic()
        if now - self._warned.get(name, -_WARN_EVERY_SECONDS) >= _WARN_EVERY_SECONDS:
            self._warned[name] = now
            logger.warning(
                "handler %s blocked the event loop for %.2f s: nothing else could run, heartbeats included; make it a"
                " plain 'def' that runs in a thread, or move the slow part to asyncio.to_thread",
                name,
                seconds,
            )


def error_to_failure(error: AmxError) -> common_pb2.Failure:
    """A failure that happened before any handler ran: it has no stack worth sending."""
    return common_pb2.Failure(
        code=error.code, reason=error.reason, message=error.message, retryable=error.retryable, metadata=error.metadata
    )


def _wait(activation: Activation, run: Run) -> None:
    if activation.waiting is None:
        activation.waiting = deque()
    activation.waiting.append(run)


def _choose(agent: HostedAgent, name: str, message_type: str) -> HostedHandler:
    """The handler of a message that does not name one that exists."""
    if name:
        raise _handler_unknown(agent, name)
    definition = agent.definition
    for handler in definition.handlers:
        if message_type and message_type in handler.message_types:
            return agent.handlers[handler.name]
    if definition.default_handler:
        return agent.handlers[definition.default_handler]
    if len(agent.handlers) == 1:
        return next(iter(agent.handlers.values()))
    raise AmxError(
        INVALID_ARGUMENT,
        "HANDLER_AMBIGUOUS",
        f"the message names no handler and agent '{agent.name}' has several: {', '.join(sorted(agent.handlers))}",
    )


def _agent_unknown(name: str) -> AmxError:
    return AmxError(NOT_FOUND, "AGENT_UNKNOWN", f"agent '{name}' is not hosted by this process")


def _handler_unknown(agent: HostedAgent, name: str) -> AmxError:
    return AmxError(
        NOT_FOUND,
        "HANDLER_UNKNOWN",
        f"agent '{agent.name}' has no handler '{name}'; it has: {', '.join(sorted(agent.handlers)) or 'none'}",
    )


def _not_here() -> AmxError:
    return AmxError(
        FAILED_PRECONDITION,
        "MEMORY_NOT_HELD",
        "this process does not hold that activation; send it again",
        retryable=True,
    )
