"""AmxEngine: an application's way to an engine. Hosts agents, sends, requests, streams, publishes, subscribes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
import uuid
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar, overload

from amx.v1 import message_pb2
from amx_engine._broadcast import BroadcastOutcome, Scope, make_broadcast
from amx_engine._collector import rare_collections
from amx_engine._context import make_event
from amx_engine._definition import HostedAgent
from amx_engine._embedded import EmbeddedProcess
from amx_engine._engines import EngineLinks
from amx_engine._errors import FAILED_PRECONDITION, INVALID_ARGUMENT, AmxError
from amx_engine._link import Link
from amx_engine._memory_access import RemoteMemory
from amx_engine._message import AgentReference, Priority, outgoing
from amx_engine._receipts import Publication, Receipt
from amx_engine._result import ProcessingResult, decode_reply
from amx_engine._subscription import Subscription
from amx_engine._transport import TLS, Connector, GrpcConnector

T = TypeVar("T")

logger = logging.getLogger("amx_engine")

DEFAULT_ADDRESS = "localhost:9090"
DEFAULT_TIMEOUT = 30.0
DEFAULT_PATIENCE = 10.0
DEFAULT_DRAIN = 30.0
_WELCOME_SECONDS = 1.0


class AmxEngine:
    """An engine, as an application sees it.

        engine = AmxEngine.builder().with_agent(Greeter).build()
        async with engine:
            print(await engine.request("Greeter", {"name": "Ada"}))

    Calls raise AmxError with the engine's reason. While the link is lost they wait, until their timeouts. Not
    thread-safe: use it on the event loop it was started in.
    """

    def __init__(
        self,
        *,
        agents: Iterable[HostedAgent],
        address: str,
        address_is_default: bool,
        token: str,
        tls: TLS | None,
        embedded: EmbeddedProcess | None,
        connector: Connector | None,
        concurrency: int,
        threads: int,
        config: Mapping[str, Any],
    ) -> None:
        self._agents = list(agents)
        self._address = address
        self._address_is_default = address_is_default
        self._token = token
        self._tls = tls
        self._embedded = embedded
        self._connector = connector
        self._concurrency = concurrency
        self._threads = threads
        self.config = config
        self._link: Link | EngineLinks | None = None
        self._exits: AsyncExitStack | None = None
        self._stopped: asyncio.Event | None = None
        self._ids = count(1)
        self._id_prefix = uuid.uuid4().hex[:20]

    @staticmethod
    def builder() -> AmxEngineBuilder:
        """Where every AmxEngine begins."""
        return AmxEngineBuilder()

    # Life

    @property
    def address(self) -> str:
        """Where the engine is."""
        return "embedded" if self._embedded is not None else self._address

    @property
    def connected(self) -> bool:
        """Whether there is a connection now. Calls may be made either way."""
        return self._link is not None and self._link.connected

    async def start(self, patience: float | None = None) -> None:
        """Connects, and offers the agents to the engine.

        patience: seconds for which an engine that cannot be reached is tried again; by default 10 for an address that
        was given, none for the default one. Raises AmxError ENGINE_UNREACHABLE, UNAUTHENTICATED, DEFINITION_CHANGED,
        or whatever else the engine refuses the link for; nothing is left running then.
        """
        if self._exits is not None:
            raise AmxError(FAILED_PRECONDITION, "ALREADY_STARTED", "this AmxEngine is started; stop() it first")
        exits = AsyncExitStack()
        try:
            connector = self._connector
            if self._embedded is not None:
                connector = await exits.enter_async_context(self._embedded)
                patience = 0.0
            elif connector is None:
                connector = GrpcConnector(self._address, token=self._token, tls=self._tls)
            if patience is None:
                patience = 0.0 if self._address_is_default else DEFAULT_PATIENCE
            for agent in self._agents:
                exits.push_async_callback(agent.close)
            link: Link | EngineLinks
            link = first = Link(
                connector,
                self._agents,
                concurrency=self._concurrency,
                threads=self._threads,
                config=self.config,
                clock=self._embedded.monotonic if self._embedded is not None else time.monotonic,
            )
            exits.push_async_callback(link.close, 0.0)
            await link.open(patience)
            if first.engines:
                await first.close(0.0)
                link = self._links(first.engines, connector, first.protocol.namespace)
                exits.push_async_callback(link.close, 0.0)
                await link.open(max(patience, _WELCOME_SECONDS))
        except BaseException:
            await exits.aclose()
            raise
        self._exits = exits
        self._link = link
        self._stopped = asyncio.Event()

    def _links(self, engines: list[str], connector: Connector, namespace: str) -> EngineLinks:
        """Links to the engines that share the address. Each may run its part of `concurrency`."""
        assert isinstance(connector, GrpcConnector)  # nothing else leads to more than one
        links = [
            Link(
                connector.at(engine),
                self._agents,
                concurrency=max(1, -(-self._concurrency // len(engines))),
                threads=max(1, -(-self._threads // len(engines))),
                config=self.config,
                engines_known=True,
            )
            for engine in engines
        ]
        return EngineLinks(links, namespace)

    async def stop(self, deadline: float | timedelta = DEFAULT_DRAIN) -> None:
        """Takes no new messages, lets handlers finish for up to `deadline` (seconds), then cancels them and
        disconnects. Does nothing if it is not started.
        """
        link, exits = self._link, self._exits
        if link is None or exits is None:
            return
        self._exits = None
        try:
            await link.close(_seconds(deadline))
        finally:
            self._link = None
            await exits.aclose()
            assert self._stopped is not None
            self._stopped.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def wait_closed(self) -> None:
        """Returns after stop(). Raises AmxError if the engine refused to have a lost link back."""
        stopped = self._stopped
        if self._link is not None and stopped is not None:
            await self._link.wait_closed()
            if self._link is not None:
                await stopped.wait()

    async def run_forever(self) -> None:
        """Runs until SIGINT, SIGTERM or stop(), then stops. Starts first if need be; a signal ends that, too.

        For the main of a worker: meanwhile cyclic garbage is collected less often, unless the process chose how often.
        """
        loop = asyncio.get_running_loop()
        interrupted = asyncio.Event()
        signals = []
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, interrupted.set)
                signals.append(number)
            except (NotImplementedError, RuntimeError, ValueError):  # not the main thread, or Windows
                pass
        starting = asyncio.ensure_future(self._start_once())
        closed = asyncio.ensure_future(self._closed_after(starting))
        signalled = asyncio.ensure_future(interrupted.wait())
        try:
            with rare_collections():
                await asyncio.wait((closed, signalled), return_when=asyncio.FIRST_COMPLETED)
            if closed.done():
                closed.result()
            else:  # what is about to be welcomed can still say goodbye
                await asyncio.wait((starting,), timeout=_WELCOME_SECONDS)
        finally:
            tasks = (starting, closed, signalled)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for number in signals:
                loop.remove_signal_handler(number)
            await self.stop()

    async def _start_once(self) -> None:
        if self._exits is None:
            await self.start()

    async def _closed_after(self, starting: asyncio.Future[None]) -> None:
        await asyncio.shield(starting)
        await self.wait_closed()

    async def host(self, *agents: Any, removed: Iterable[str] = ()) -> None:
        """Hosts more agents, or newer versions, from now on; no longer those named in `removed`.

        Raises AmxError if the engine refuses them; nothing has changed then.
        """
        hosted = [HostedAgent.of(agent) for agent in agents]
        await self._connected().register(hosted, removed)
        gone = {*removed, *(agent.name for agent in hosted)}
        replaced = [agent for agent in self._agents if agent.name in gone]
        self._agents = [agent for agent in self._agents if agent.name not in gone] + hosted
        assert self._exits is not None
        for agent in hosted:
            self._exits.push_async_callback(agent.close)
        for agent in replaced:
            logger.debug("no longer hosts %s %s", agent.name, agent.version)

    # Messages

    async def send_message(
        self,
        agent_name: str,
        message: Any,
        key: str = "",
        handler: str = "",
        timeout: float | timedelta | None = None,
    ) -> ProcessingResult:
        """Sends a message and waits for its result; a result of another kind becomes the data of a success.

        message: a Message, or its content. Raises AmxError if the handler raised, or never got the message.
        """
        proto = outgoing(agent_name, message, key, handler)
        payload = await self._connected().request(proto, timeout_ms=_milliseconds(timeout))
        return ProcessingResult.from_payload(payload)

    async def send(
        self,
        agent: str | AgentReference,
        content: Any = None,
        *,
        key: str = "",
        handler: str = "",
        type: str = "",
        message_id: str = "",
        durable: bool | None = None,
        priority: Priority | str = Priority.NORMAL,
        delay: timedelta | None = None,
        ttl: timedelta | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | timedelta | None = None,
    ) -> Receipt:
        """Sends a message one way; returns when the engine has it (stored, unless durable=False).

        content: a value, or a Message. message_id: its identity; two sends with the same are one message. Without one
        the SDK chooses one, so that a send that a restart of the engine interrupts is repeated and still one message.
        """
        proto = outgoing(agent, content, key, handler, type, priority, headers, delay, ttl, message_id, durable=durable)
        if not proto.message_id and durable is not False:
            proto.message_id = f"{self._id_prefix}-{next(self._ids)}"
        accepted = await self._connected().send(proto, timeout_ms=_milliseconds(timeout))
        return Receipt(accepted.message_id, accepted.duplicate)

    @overload
    async def request(
        self,
        agent: str | AgentReference,
        content: Any = None,
        *,
        key: str = ...,
        handler: str = ...,
        type: str = ...,
        timeout: float | timedelta | None = ...,
        idempotency_key: str = ...,
        durable: bool | None = ...,
        priority: Priority | str = ...,
        headers: Mapping[str, str] | None = ...,
        output: type[T],
    ) -> T: ...
    @overload
    async def request(
        self,
        agent: str | AgentReference,
        content: Any = None,
        *,
        key: str = ...,
        handler: str = ...,
        type: str = ...,
        timeout: float | timedelta | None = ...,
        idempotency_key: str = ...,
        durable: bool | None = ...,
        priority: Priority | str = ...,
        headers: Mapping[str, str] | None = ...,
        output: None = ...,
    ) -> Any: ...
    async def request(
        self,
        agent: str | AgentReference,
        content: Any = None,
        *,
        key: str = "",
        handler: str = "",
        type: str = "",
        timeout: float | timedelta | None = None,
        idempotency_key: str = "",
        durable: bool | None = None,
        priority: Priority | str = Priority.NORMAL,
        headers: Mapping[str, str] | None = None,
        output: Any = None,
    ) -> Any:
        """Sends a message and returns what its handler returned.

        content: a value, or a Message. timeout: seconds, 30 unless given; the handler is cancelled after it.
        idempotency_key: a repeat with the same gets the first one's outcome. output: a type to convert the result to;
        without one the result is what JSON gives (a ProcessingResult if that is what was returned).
        """
        proto = outgoing(
            agent,
            content,
            key,
            handler,
            type,
            priority,
            headers,
            idempotency_key=idempotency_key,
            durable=durable,
        )
        payload = await self._connected().request(proto, timeout_ms=_milliseconds(timeout))
        return _converted(decode_reply(payload), output)

    def request_bytes(
        self,
        agent: str,
        data: bytes = b"",
        *,
        key: str = "",
        handler: str = "",
        content_type: str = "",
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Coroutine[Any, Any, bytes]:
        """Sends bytes and returns the bytes of the reply, without looking at either: the fastest way to ask.

        content_type: of `data`; empty: JSON. timeout: seconds, more than 0.
        """
        link = self._link or self._connected()
        return link.request_bytes(agent, data, key, handler, content_type, timeout)  # one coroutine less

    async def stream(
        self,
        agent: str | AgentReference,
        content: Any = None,
        *,
        key: str = "",
        handler: str = "",
        type: str = "",
        timeout: float | timedelta | None = None,
        priority: Priority | str = Priority.NORMAL,
        headers: Mapping[str, str] | None = None,
        output: Any = None,
    ) -> AsyncGenerator[Any, None]:
        """Sends a message and yields what its handler yields. A handler that returns instead is a stream of one.

        The handler waits for slow readers, and is cancelled if the reader leaves.
        """
        proto = outgoing(agent, content, key, handler, type, priority, headers)
        chunks = self._connected().stream(proto, timeout_ms=_milliseconds(timeout))
        try:
            async for payload in chunks:
                yield _converted(decode_reply(payload), output)
        finally:
            await chunks.aclose()

    async def publish(
        self,
        topic: str,
        content: Any = None,
        *,
        attributes: Mapping[str, str] | None = None,
        durable: bool | None = None,
        key: str = "",
        event_id: str = "",
        priority: Priority | str = Priority.NORMAL,
        timeout: float | timedelta | None = None,
    ) -> Publication:
        """Publishes an event to whoever subscribed to its topic; returns when the engine has it.

        key: instance at which agents that subscribed by definition receive it. durable: stored per subscriber first.
        """
        event = make_event(
            topic, content, attributes=attributes, durable=durable, key=key, priority=priority, id=event_id
        )
        published = await self._connected().publish(event, timeout_ms=_milliseconds(timeout))
        return Publication(published.event_id, published.subscribers)

    def subscribe(self, pattern: str, filter: str = "") -> Subscription:
        """Events on topics that match, as Messages, while `async with` or `async for` lasts.

        pattern: `*` is one segment, `**` any number. filter: on attributes, e.g. `severity in (high, critical)`.
        """
        return Subscription(self._connected(), message_pb2.Subscription(pattern=pattern, filter=filter))

    async def broadcast(
        self,
        scope: Scope,
        content: Any = None,
        *,
        handler: str = "",
        type: str = "",
        priority: Priority | str = Priority.NORMAL,
        headers: Mapping[str, str] | None = None,
        timeout: float | timedelta | None = None,
    ) -> BroadcastOutcome:
        """Sends a message to many and returns what became of it at each."""
        broadcast = make_broadcast(scope, content, handler, type, priority, headers)
        result = await self._connected().broadcast(broadcast, timeout_ms=_milliseconds(timeout))
        return BroadcastOutcome.from_proto(result)

    def memory(self, agent: str | AgentReference, key: str = "") -> RemoteMemory:
        """The memory of one instance, from outside."""
        reference = AgentReference.parse(agent) if isinstance(agent, str) else agent
        return RemoteMemory(self._connected(), reference.name, key or reference.key)

    def _connected(self) -> Link | EngineLinks:
        if self._link is None:
            raise AmxError(
                FAILED_PRECONDITION,
                "NOT_STARTED",
                "this AmxEngine is not started; `await engine.start()` first, or use `async with engine:`",
            )
        return self._link


class AmxEngineBuilder:
    """Says what an AmxEngine hosts and where its engine is. Every method returns the builder."""

    def __init__(self) -> None:
        self._config: dict[str, Any] = {}
        self._agents: list[HostedAgent] = []
        self._address = ""
        self._token = ""
        self._tls: TLS | None = None
        self._embedded: EmbeddedProcess | None = None
        self._connector: Connector | None = None
        self._concurrency = 0
        self._threads = 0

    def with_config(self, config: str | os.PathLike[str] | Mapping[str, Any]) -> AmxEngineBuilder:
        """Settings from a YAML file or a mapping; later ones win over earlier ones, section by section.

        The section `engine` holds address, token, embedded (true, or {data_dir: …}), tls (ca, cert, key, server_name:
        paths of PEM files), concurrency, threads. All sections are handed to pipelines and contexts as `config`.
        Raises AmxError INVALID_CONFIG naming the file and what is wrong with it.
        """
        self._config.update(config if isinstance(config, Mapping) else _load_config(Path(config)))
        return self

    def with_agent(self, agent: Any) -> AmxEngineBuilder:
        """Hosts an agent: a decorated class, or an object of one. Raises DefinitionError if it cannot be one."""
        hosted = HostedAgent.of(agent)
        if any(other.name == hosted.name for other in self._agents):
            raise AmxError(
                INVALID_ARGUMENT, "AGENT_TWICE", f"two agents are named '{hosted.name}'; give one of them another name="
            )
        self._agents.append(hosted)
        return self

    def with_router(self, router: Any) -> AmxEngineBuilder:
        """Hosts a message router: a class decorated with @MessageRouter, or an object of one."""
        return self.with_agent(router)

    def with_monitor(self, monitor: Any) -> AmxEngineBuilder:
        """Hosts a performance monitor: a class decorated with @PerformanceMonitor, or an object of one."""
        return self.with_agent(monitor)

    def with_address(self, address: str) -> AmxEngineBuilder:
        """Where the engine is: `host:port` or `unix:/path`. Else the configuration, AMX_ADDRESS, localhost:9090."""
        self._address = address
        return self

    def with_token(self, token: str) -> AmxEngineBuilder:
        """Who this process is, to the engine. Otherwise the configuration, then AMX_TOKEN."""
        self._token = token
        return self

    def with_tls(
        self,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        server_name: str = "",
    ) -> AmxEngineBuilder:
        """Encrypts the link. Paths of PEM files: who vouches for the engine (None: the system's authorities), and the
        certificate and key of this process (None: it shows none). Raises OSError if one cannot be read.
        """
        self._tls = TLS(_read(ca), _read(cert), _read(key), server_name)
        return self

    def with_concurrency(self, invocations: int, threads: int = 0) -> AmxEngineBuilder:
        """How many messages are handled at a time (1,024 unless said), and plain handlers among them (16)."""
        if invocations < 1 or threads < 0:
            raise AmxError(INVALID_ARGUMENT, "INVALID_CONFIG", "with_concurrency() takes numbers of at least 1")
        self._concurrency = invocations
        self._threads = threads or self._threads
        return self

    def embedded(self, data_dir: str | os.PathLike[str] | None = None, clock: Any = None) -> AmxEngineBuilder:
        """Runs the engine inside this process; needs the package amx-engine.

        data_dir: where it stores; None: in memory only. clock: what it takes for the time; for tests.
        """
        self._embedded = EmbeddedProcess(data_dir, clock)
        return self

    def with_connector(self, connector: Connector) -> AmxEngineBuilder:
        """Reaches the engine in a way of one's own. For tests."""
        self._connector = connector
        return self

    def build(self) -> AmxEngine:
        """The AmxEngine, not started. Raises AmxError INVALID_CONFIG."""
        section = self._config.get("engine") or {}
        if not isinstance(section, Mapping):
            raise _invalid(f"the section 'engine' is {section!r}; it must hold settings, e.g. engine: {{address: …}}")
        address = self._address or str(section.get("address") or "") or os.environ.get("AMX_ADDRESS", "")
        embedded = self._embedded
        wanted = section.get("embedded")
        if embedded is None and wanted and not self._address:
            directory = wanted.get("data_dir") if isinstance(wanted, Mapping) else None
            embedded = EmbeddedProcess(directory, None)
        tls = self._tls
        settings = section.get("tls")
        if tls is None and settings:
            names = settings if isinstance(settings, Mapping) else {}
            tls = TLS(
                _read(names.get("ca")),
                _read(names.get("cert")),
                _read(names.get("key")),
                str(names.get("server_name") or ""),
            )
        return AmxEngine(
            agents=self._agents,
            address=address or DEFAULT_ADDRESS,
            address_is_default=not address,
            token=self._token or str(section.get("token") or "") or os.environ.get("AMX_TOKEN", ""),
            tls=tls,
            embedded=embedded,
            connector=self._connector,
            concurrency=self._concurrency or _positive(section, "concurrency", 1024),
            threads=self._threads or _positive(section, "threads", 16),
            config=self._config,
        )


def _converted(value: Any, output: Any) -> Any:
    if output is None or output is Any:
        return value
    if isinstance(value, ProcessingResult):
        if output is ProcessingResult:
            return value
        value = value.data
    from amx_engine._schema import converter_of

    return converter_of(output).decode(value, "")


def _seconds(timeout: float | timedelta | None) -> float:
    if timeout is None:
        return DEFAULT_TIMEOUT
    return timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)


def _milliseconds(timeout: float | timedelta | None) -> int:
    if timeout is None:
        return int(DEFAULT_TIMEOUT * 1000)
    seconds = _seconds(timeout)
    if not 0 < seconds < 2**31:
        raise AmxError(
            INVALID_ARGUMENT, "INVALID_TIMEOUT", f"timeout is {timeout!r}; give a positive number of seconds"
        )
    return max(1, int(seconds * 1000))


def _load_config(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise _invalid(f"the configuration {path} cannot be read: {error.strerror or error}") from error
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _invalid(f"the configuration {path} is not YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise _invalid(f"the configuration {path} must hold sections, not {type(loaded).__name__}")
    return loaded


def _positive(section: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = section.get(name, otherwise)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _invalid(f"engine.{name} is {value!r}; it must be a whole number of at least 1")
    return value


def _read(path: str | os.PathLike[str] | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _invalid(message: str) -> AmxError:
    return AmxError(INVALID_ARGUMENT, "INVALID_CONFIG", message)
