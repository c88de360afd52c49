"""The engine as cases of subject sdk play it: handshake and resumes, invocations of an `exchange` with their epochs and
memory, and what every SDK must keep to. Needs the standard library and protobuf only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from amx.v1 import agent_pb2, link_pb2, memory_pb2, message_pb2
from conformance.runner.cases import EXCHANGE_KEYS, Case
from conformance.runner.matchers import Bindings, Mismatch, match, text
from conformance.runner.memory_model import Memory
from conformance.runner.messages import Obj, decode
from conformance.runner.peer import CaseFailure, Peer, Trace, kind_of
from conformance.runner.testee_link import TesteeLink
from conformance.runner.values import build, fill

FEATURES = ("resume", "deliver", "stream-credit")
STREAM_WINDOW = 64

_HEARTBEAT_MS = 5_000
_RESUME_WINDOW_MS = 10_000
_DEFAULT_TIMEOUT_MS = 30_000
_FIRST_ID = 1 << 20  # of invocations of exchanges: cases number their own from 1
_FIRST_EPOCH = 1 << 20
_MOST_STEPS = 600  # of one advance
_BACKOFF_STEP_MS = 500
_MOST_BACKOFF_MS = 60_000
_ANSWERED_BY_OTHERS = frozenset({"reply", "chunk", "event", "cancel", "credit"})


class _Instance:
    def __init__(self, agent: str, key: str) -> None:
        self.agent = agent
        self.key = key
        self.epoch = 0  # 0: not placed
        self.held = False  # the SDK has this version of its memory
        self.memory = Memory()


class _Invocation:
    def __init__(self, instance: _Instance, invoke: link_pb2.Invoke) -> None:
        self.instance = instance
        self.settled = False  # what it changed has been taken in
        self.attempt = invoke.attempt
        self.epoch = invoke.epoch


class ScriptedEngine(Peer):
    """Plays the engine for one case. again: the SDK has been connected before."""

    def __init__(
        self, testee: TesteeLink, case: Case, trace: Trace, bindings: Bindings, *, again: bool = False
    ) -> None:
        super().__init__("sdk", trace, bindings, answer_pings=case.answer_pings)
        self.testee = testee
        self.case = case
        self.hello = link_pb2.Hello()
        self.running: dict[int, _Invocation] = {}
        self.drained = False
        self.stop_said = False
        self._ended: dict[int, _Invocation] = {}
        self._answerable: set[int] = set()
        self._deliveries: dict[int, list[int]] = {}
        self._instances: dict[tuple[str, str], _Instance] = {}
        self._by_epoch: dict[int, _Instance] = {}
        self._agents: dict[str, agent_pb2.AgentDefinition] = {}
        self._sent: list[link_pb2.LinkFrame] = []  # of this session, for resumes
        self._taken: list[link_pb2.LinkFrame] = []  # numbered ones that came in this session
        self._next_id = _FIRST_ID
        self._next_epoch = _FIRST_EPOCH
        self._last_call = 0
        self._sessions = 0
        self._connections = int(again)
        self._token = ""
        self._clock_ms = 0
        self._heartbeat_ms = _HEARTBEAT_MS
        self._closing: asyncio.Task[None] | None = None

    # --- handshake ---------------------------------------------------------------------------------------------------

    async def accept(self, within: float) -> None:
        """Takes the next connection and says nothing. Where time is in the runner's hands, it passes until one is
        asked for.
        """
        if self.testee.manual_time and self._connections:
            waited = 0
            while not await self.testee.wants_connection(0) and waited < _MOST_BACKOFF_MS:
                await self.testee.advance(_BACKOFF_STEP_MS)
                self._clock_ms += _BACKOFF_STEP_MS
                waited += _BACKOFF_STEP_MS
        self._connections += 1
        self.attach(await self.testee.accept(within))

    async def connect(self, resume: bool, within: float, lost: int = 0) -> None:
        """Takes the next connection, with Hello and Welcome.

        resume: whether the last session goes on. lost: so many of the last frames that came are forgotten.
        """
        hello = await self._greeted(within)
        if lost:
            self._lose(lost)
        if resume:
            if not self._token or hello.resume_token != self._token:
                raise CaseFailure(f"expected a Hello with the resume token '{self._token}', got '{hello.resume_token}'")
            if hello.received_seq > self.sent_seq:
                raise CaseFailure(
                    f"the Hello says that frame {hello.received_seq} was received, {self.sent_seq} is the last"
                )
        await self.send_items([link_pb2.LinkItem(welcome=self._welcome(hello, resume))])
        if resume:
            for frame in [frame for frame in self._sent if frame.seq > hello.received_seq]:
                await self._send(frame)

    def _lose(self, count: int) -> None:
        """The last frames of the SDK never came: what they said is unsaid."""
        if count > len(self._taken):
            raise CaseFailure(f"{count} frames cannot be lost, {len(self._taken)} came")
        for frame in reversed(self._taken[-count:]):
            self.received_seq = frame.seq - 1
            for item in frame.items:
                kind = kind_of(item)
                if kind == "complete" and item.id in self._ended:
                    self.running[item.id] = self._ended.pop(item.id)
                elif kind in ("call", "register"):
                    self._last_call = min(self._last_call, item.id - 1)
        del self._taken[-count:]

    async def refuse(self, failure: Any, within: float) -> None:
        """Takes the next connection and answers its Hello with Rejected."""
        await self._greeted(within)
        item = link_pb2.LinkItem()
        item.rejected.SetInParent()
        fill(item.rejected.failure, failure, self.bindings, "refuse")
        await self.send_items([item])
        await self.disconnect("rejected")

    async def _greeted(self, within: float) -> link_pb2.Hello:
        until = asyncio.get_running_loop().time() + within
        await self.accept(within)
        item = await self.next_item(until, "a Hello")
        if kind_of(item) != "hello":
            raise CaseFailure(f"expected a Hello, got {text(decode(item))}")
        return item.hello

    def _welcome(self, hello: link_pb2.Hello, resume: bool) -> link_pb2.Welcome:
        welcome = link_pb2.Welcome(
            session_id=f"session-{self._sessions + (not resume)}",
            protocol=1,
            features=[feature for feature in hello.features if feature in FEATURES],
            heartbeat_interval_ms=_HEARTBEAT_MS,
            resume_token=f"token-{self._sessions + (not resume)}",
            resume_window_ms=_RESUME_WINDOW_MS,
            resumed=resume,
            received_seq=self.received_seq if resume else 0,
            namespace="default",
            engine=link_pb2.SoftwareInfo(name="scripted-engine", version="1.0.0", language="python"),
            limits=link_pb2.Limits(
                max_item_bytes=4_194_304,
                max_frame_bytes=262_144,
                max_frame_items=128,
                max_header_bytes=8192,
                max_key_bytes=512,
                max_calls_in_flight=4096,
                stream_window=STREAM_WINDOW,
            ),
        )
        for name in self.case.welcome:
            if name != "limits":
                welcome.ClearField(name)
        fill(welcome, self.case.welcome, self.bindings, "welcome")
        return welcome

    # --- what passes -------------------------------------------------------------------------------------------------

    def numbered(self, frame: link_pb2.LinkFrame) -> None:
        self._sent.append(frame)

    def said(self, kind: str, item: link_pb2.LinkItem) -> None:
        if kind == "welcome":
            self._token = item.welcome.resume_token
            self._heartbeat_ms = item.welcome.heartbeat_interval_ms or _HEARTBEAT_MS
            if not item.welcome.resumed:
                self._start_over()
        elif kind == "invoke":
            self._invoked(item.id, item.invoke)
        elif kind == "deliver":
            self._deliveries[item.id] = list(item.deliver.epochs)
        elif kind == "activate":
            activate = item.activate
            instance = self._instance(activate.instance.agent, activate.instance.key)
            instance.memory.load(activate.memory, activate.memory_version, self._clock_ms)
            self._placed(instance, activate.epoch)
        elif kind == "deactivate":
            for epoch in item.deactivate.epochs:
                gone = self._by_epoch.pop(epoch, None)
                if gone is not None and gone.epoch == epoch:
                    gone.epoch, gone.held = 0, False
        elif item.id and kind not in _ANSWERED_BY_OTHERS:
            self._answerable.add(item.id)

    def _start_over(self) -> None:
        self._sessions += 1
        self.sent_seq = self.received_seq = self._acked = self._last_call = 0
        self._sent.clear()
        self._taken.clear()
        self.running.clear()
        self._ended.clear()
        self._answerable.clear()
        self._deliveries.clear()
        self._by_epoch.clear()
        for instance in self._instances.values():
            instance.epoch, instance.held = 0, False

    def _instance(self, agent: str, key: str) -> _Instance:
        address = (agent, key or "default")
        instance = self._instances.get(address)
        if instance is None:
            instance = self._instances[address] = _Instance(*address)
        return instance

    def _placed(self, instance: _Instance, epoch: int) -> None:
        instance.epoch, instance.held = epoch, True
        self._by_epoch[epoch] = instance

    def _invoked(self, id: int, invoke: link_pb2.Invoke) -> None:
        instance = self._instance(invoke.message.agent, invoke.message.key)
        if invoke.HasField("memory"):
            instance.memory.load(invoke.memory, invoke.memory_version, self._clock_ms)
        instance.memory.version = invoke.memory_version
        self._placed(instance, invoke.epoch)
        self.running[id] = _Invocation(instance, invoke)
        self._ended.pop(id, None)

    def came(self, frame: link_pb2.LinkFrame) -> None:
        self._taken.append(frame)

    def took(self, kind: str, item: link_pb2.LinkItem) -> None:
        if kind == "hello":
            self.hello = item.hello
            self._agents = {agent.name: agent for agent in item.hello.agents}
        elif kind == "register":
            self._agents.update((agent.name, agent) for agent in item.register.agents)
            self._called(item.id)
        elif kind == "call":
            self._called(item.id)
        elif kind == "complete":
            self._completed(item.id, item.complete)
        elif kind == "delivered":
            self._delivered(item.id, item.delivered)
        elif kind == "chunk":
            if item.id in self._ended:
                self._violated(f"the SDK sent a chunk of invocation {item.id} after its Complete")
            elif item.id not in self.running:
                self._violated(f"the SDK sent a chunk of invocation {item.id}, which it was never asked for")
        elif kind == "drained":
            self.drained = True
            if self.stop_said:
                self._closing = asyncio.create_task(self.disconnect("drained"))

    def _called(self, id: int) -> None:
        if id <= self._last_call:
            self._violated(f"the SDK numbered a call {id} after call {self._last_call}: ids of calls rise from 1")
        self._last_call = max(id, self._last_call)

    def _completed(self, id: int, complete: link_pb2.Complete) -> None:
        invocation = self.running.pop(id, None)
        if invocation is None:
            if id in self._ended:
                self._violated(f"the SDK sent a second Complete for invocation {id}")
            elif id not in self._answerable:
                self._violated(f"the SDK sent a Complete for invocation {id}, which it was never asked for")
            return
        self._ended[id] = invocation
        if (complete.attempt, complete.epoch) != (invocation.attempt, invocation.epoch):
            self._violated(
                f"the Complete of invocation {id} has attempt {complete.attempt} and epoch {complete.epoch}, its"
                f" Invoke had attempt {invocation.attempt} and epoch {invocation.epoch}"
            )
        if complete.WhichOneof("outcome") is None:
            self._violated(f"the Complete of invocation {id} has neither result nor failure")
        instance = invocation.instance
        settled, invocation.settled = invocation.settled, True
        if complete.HasField("result") and not settled:
            self._changed(instance, complete.effects)
        if complete.memory_dropped and instance.epoch == invocation.epoch:
            instance.held = False

    def _delivered(self, id: int, delivered: link_pb2.Delivered) -> None:
        epochs = self._deliveries.pop(id, None)
        if epochs is None:
            if id not in self._answerable:
                self._violated(f"the SDK sent a Delivered for delivery {id}, which it was not asked for, or twice")
            return
        for target in delivered.targets:
            if target.index >= len(epochs):
                self._violated(f"the Delivered of {id} speaks of target {target.index}, there are {len(epochs)}")
                continue
            instance = self._by_epoch.get(epochs[target.index])
            if instance is not None:
                if not target.HasField("failure"):
                    self._changed(instance, target.effects)
                if target.memory_dropped:
                    instance.held = False

    def _changed(self, instance: _Instance, effects: link_pb2.Effects) -> None:
        agent = self._agents.get(instance.agent)
        memories = {memory.name: memory for memory in agent.memories} if agent is not None else {}
        problem = instance.memory.apply(effects.memory, memories, self._clock_ms)
        if problem:
            self._violated(f"{instance.agent}/{instance.key} reported {problem}")

    # --- steps -------------------------------------------------------------------------------------------------------

    async def exchange(self, said: Mapping[str, Any], expected: Mapping[str, Any], within: float) -> None:
        """One invocation, and its outcome."""
        until = asyncio.get_running_loop().time() + within
        plain = {key: value for key, value in said.items() if key not in EXCHANGE_KEYS}
        message = build(message_pb2.Message.DESCRIPTOR, plain, self.bindings, "exchange")
        assert isinstance(message, message_pb2.Message)
        self._as_engine_would(message)
        streaming = bool(said.get("stream", "chunks" in expected))
        for _ in range(2):
            invoke = self._invoke(message, said, streaming)
            id, self._next_id = self._next_id, self._next_id + 1
            await self.send_items([link_pb2.LinkItem(id=id, invoke=invoke)])
            complete, chunks = await self._outcome(id, until)
            if complete.failure.reason != "MEMORY_NOT_HELD":
                break
        found = decode(complete)
        if chunks:
            found["chunks"] = chunks
        if "chunks" in expected and not chunks:
            found["chunks"] = []
        try:
            match(expected, found, "", self.bindings)
        except Mismatch as mismatch:
            raise CaseFailure(f"{mismatch}\n  in {text(found)}") from None

    def _as_engine_would(self, message: message_pb2.Message) -> None:
        """Fills in what the engine does before it hands a message on."""
        message.key = message.key or "default"
        message.sender = message.sender or "anonymous"
        agent = self._agents.get(message.agent)
        if not message.handler and agent is not None:
            typed = [one.name for one in agent.handlers if message.type and message.type in one.message_types]
            only = agent.handlers[0].name if len(agent.handlers) == 1 else ""
            message.handler = (typed or [agent.default_handler or only])[0]

    def _invoke(self, message: message_pb2.Message, said: Mapping[str, Any], streaming: bool) -> link_pb2.Invoke:
        instance = self._instance(message.agent, message.key)
        if not instance.epoch:
            self._next_epoch += 1
            instance.epoch = self._next_epoch
        invoke = link_pb2.Invoke(
            message=message,
            attempt=int(said.get("attempt", 1)),
            epoch=instance.epoch,
            timeout_ms=int(said.get("timeout_ms", _DEFAULT_TIMEOUT_MS)),
            memory_version=instance.memory.version,
            streaming=streaming,
        )
        if not instance.held:
            image = memory_pb2.InstanceMemory()
            instance.memory.image(image, self._clock_ms)
            invoke.memory.CopyFrom(image)
        return invoke

    async def _outcome(self, id: int, until: float) -> tuple[link_pb2.Complete, list[Obj]]:
        chunks: list[Obj] = []
        ungranted = 0
        while True:
            for item in self.unexpected():
                kind = kind_of(item)
                if kind == "call" and item.call.invocation_id == id:
                    operation = item.call.WhichOneof("operation")
                    raise CaseFailure(
                        f"the handler makes a call ({operation}), which an exchange with a scripted engine does not"
                        " answer: say `transports: [engine]`, or answer it in steps of its own"
                    )
                if item.id != id or kind not in ("chunk", "complete"):
                    continue
                self.take(item)
                if kind == "complete":
                    return item.complete, chunks
                chunks.append(decode(item.chunk.payload))
                ungranted += 1
            if ungranted * 2 >= STREAM_WINDOW:
                await self.send_items([link_pb2.LinkItem(id=id, credit=link_pb2.Credit(chunks=ungranted))])
                ungranted = 0
            await self.wait(until - asyncio.get_running_loop().time(), f"the Complete of invocation {id}")

    async def hibernate(self) -> None:
        """Deactivates every instance that has been placed."""
        epochs = [instance.epoch for instance in self._instances.values() if instance.epoch]
        if epochs:
            await self.send_items([link_pb2.LinkItem(deactivate=link_pb2.Deactivate(epochs=epochs))])

    async def advance(self, ms: int) -> None:
        """Moves the SDK's clock in steps short enough that heartbeats are answered in between."""
        step = max(1, min(1000, self._heartbeat_ms // 4), -(-ms // _MOST_STEPS))
        self.trace.add(f"-- the clock moves by {ms} ms")
        moved = 0
        while moved < ms:
            this = min(step, ms - moved)
            await self.testee.advance(this)
            moved += this
            self._clock_ms += this

    async def stop(self) -> None:
        """Tells the SDK to stop. Its connection ends when it has said Drained."""
        self.stop_said = True
        self.trace.add("-- the SDK is told to stop")
        await self.testee.stop()

    async def stopped(self, within: float) -> None:
        """The SDK ends, with success."""
        code = await self.testee.stopped(within)
        if self.violation:
            raise CaseFailure(self.violation)
        if code:
            raise CaseFailure(f"the testee stopped with exit code {code}, 0 is what a polite stop ends with")

    async def leave(self) -> None:
        """The end of a case after which the SDK goes on: its session is lost. Raises CaseFailure."""
        self._check()
        await self.disconnect("lost")

    async def finish(self, within: float) -> None:
        """The end of a case that went well: a polite stop, if there is one to be had. Raises CaseFailure."""
        self._check()
        if self.case.stop and not self.stop_said and not self.running:
            await self.stop()
            await self.stopped(within)
        self._check()
