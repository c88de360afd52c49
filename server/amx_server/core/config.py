"""What an operator can set: the configuration's shape, its defaults, and how it is read.

Read from a YAML file, then environment variables `AMX__SECTION__FIELD`, then command-line overrides; later ones win.
Durations are seconds and sizes are bytes once read, however they were written.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from amx_server.core.sections import ConfigError as ConfigError
from amx_server.core.sections import Place, Secret, Section, suggestion
from amx_server.core.units import Duration, Port, Size

DEFAULT_FILE = "amx-config.yaml"
ENVIRONMENT_PREFIX = "AMX__"
LEAST_CACHE_BYTES = 256 << 10
"""Of a database: a quarter of it was measured to save no memory."""

# Keys under `engine:` that the SDK reads from the same file; the engine passes over them.
SDK_KEYS = frozenset({"address", "embedded", "token"})


# --- sections --------------------------------------------------------------------------------------------------------


class TlsConfig(Section, frozen=True, kw_only=True):
    """Certificates of the gRPC listener."""

    cert: str
    """Path of the server's certificate chain, PEM."""
    key: str
    """Path of its private key, PEM."""
    client_ca: str | None = None
    """Path of the authority that signs client certificates, PEM. Set: clients without one of its certificates are
    refused. None: clients need no certificate."""


class GrpcConfig(Section, frozen=True, kw_only=True):
    """Where links and unary calls come in."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but a loopback address needs tokens; see `security.require_token`."""
    port: Port = 9090
    """TCP port; 0: any free one."""
    tls: TlsConfig | None = None
    """Certificates; None: plain text."""
    unix_socket: str | None = None
    """Path of a Unix socket to listen on as well; None: none."""
    engine_ports: Port | None = None
    """With `amx serve --workers`: first of the TCP ports of the single engines, one each; 0: any free ones. None: those
    after `port`."""


class HttpConfig(Section, frozen=True, kw_only=True):
    """Where health checks and metrics are answered."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """TCP port; 0: any free one."""
    enabled: bool = True
    """False: no HTTP listener at all."""


class StorageConfig(Section, frozen=True, kw_only=True):
    """Where what must survive is kept."""

    path: str = ".amx/amx.db"
    """File of the SQLite database: a path, `sqlite:path`, `sqlite:///absolute/path`, or `:memory:` for a store that
    ends with the process. Its folder is created where it does not exist."""
    dedup_window: Annotated[Duration, Meta(gt=0)] = 86_400.0
    """Seconds for which ended messages are kept; a repeated message id within it is recognised as a repeat."""
    max_queued_bytes: Annotated[Size, Meta(ge=1 << 20)] = 64 << 20
    """Bytes that may wait to be written; beyond it what needs storing is refused with STORAGE_BUSY."""
    commit_delay: Annotated[Duration, Meta(ge=0, le=1)] = 0.0
    """Seconds that a commit may wait for others to share its transaction. Saves processor and disk where many agents
    work side by side; what waits for a commit waits longer. Reads, and work of high priority, do not wait."""
    cache_bytes: Annotated[Size, Meta(ge=LEAST_CACHE_BYTES)] = 64 << 20
    """Bytes of the database kept in memory."""

    def __post_init__(self) -> None:
        scheme, separator, _ = self.path.partition("://")
        if separator and scheme != "sqlite":
            raise ValueError(f"this version cannot store in '{scheme}'; give the path of a SQLite file")
        if not self.path:
            raise ValueError("its path is empty; give the path of a SQLite file")

    @property
    def file(self) -> str:
        """Path of the SQLite file, without a URL's decoration."""
        scheme, separator, rest = self.path.partition(":")
        return rest.removeprefix("//") if separator and scheme == "sqlite" else self.path


class MemoryConfig(Section, frozen=True, kw_only=True):
    """What content may take in memory and on disk, and how long earlier versions of memories are kept."""

    budget: Annotated[Size, Meta(ge=1 << 20)] = 512 << 20
    """Bytes of memory for content: 40 % plain, 40 % compressed, 20 % for the index."""
    disk_bytes: Size = 0
    """Bytes of content on disk; 0: without limit."""
    content_threshold: Annotated[Size, Meta(ge=128)] = 1024
    """Values in memories, results and definitions of at least so many bytes are stored by address, each content once;
    smaller ones lie in their rows."""
    namespace_quota: Size = 0
    """Bytes that the agents of one namespace may keep by address, plain and unshared, earlier versions included;
    0: unlimited."""
    agent_quota: Size = 0
    """The same for one agent, over all its instances."""
    quotas: dict[str, Size] = field(default_factory=dict)
    """For single owners instead: by `namespace`, or by `namespace/agent`."""
    history_versions: Annotated[int, Meta(ge=1)] = 100
    """Versions of one instance's memory that can be read, the present one included."""
    history_age: Duration = 604_800.0
    """Seconds for which a version can be read after it was replaced."""
    upkeep_interval: Annotated[Duration, Meta(ge=1)] = 60.0
    """Seconds between rounds in which versions whose time is over are forgotten, and content that nothing refers to is
    collected."""


class LimitsConfig(Section, frozen=True, kw_only=True):
    """Bounds. What exceeds one is refused by name at the first place that can know."""

    max_item_bytes: Annotated[Size, Meta(ge=1024, le=1 << 30)] = 4_194_304
    """Bytes of one item on a link, and of one unary request."""
    max_frame_bytes: Annotated[Size, Meta(ge=1024, le=1 << 30)] = 262_144
    """Bytes of one frame, unless a single item is larger."""
    max_frame_items: Annotated[int, Meta(ge=1, le=100_000)] = 128
    """Items of one frame."""
    max_header_bytes: Annotated[Size, Meta(ge=0)] = 8192
    """Bytes of all headers of a message: names and values."""
    max_key_bytes: Annotated[Size, Meta(ge=1)] = 512
    """Bytes of an instance key in UTF-8."""
    max_calls_in_flight: Annotated[int, Meta(ge=1)] = 4096
    """Calls one link may have outstanding."""
    stream_window: Annotated[int, Meta(ge=1)] = 64
    """Chunks a stream may be ahead of its reader."""
    max_links: Annotated[int, Meta(ge=1)] = 10_000
    """Links open at a time."""
    mailbox_capacity: Annotated[int, Meta(ge=1)] = 10_000
    """Messages that may wait per instance, unless its agent says otherwise."""
    max_memory_bytes: Annotated[Size, Meta(ge=1024)] = 3 << 20
    """Bytes one instance may remember; its memory travels to a link in one item."""
    max_pending_events: Annotated[int, Meta(ge=1)] = 4096
    """Events that may wait for credit per link."""
    max_instances: Annotated[int, Meta(ge=1)] = 1_000_000
    """Instances that may be active at a time, over all namespaces."""


class LinksConfig(Section, frozen=True, kw_only=True):
    """How links live and end."""

    heartbeat_interval: Annotated[Duration, Meta(gt=0)] = 5.0
    """Seconds between pings; two missed ones close the link."""
    resume_window: Duration = 10.0
    """Seconds for which a lost link may be taken up again; 0: its work is redelivered at once."""
    max_unacked_bytes: Annotated[Size, Meta(ge=1 << 20)] = 16 << 20
    """Bytes of sent frames kept per link for a resume; beyond it the link waits for acknowledgements."""
    drain_deadline: Duration = 30.0
    """Seconds a draining link may take to finish what it runs."""


class DeliveryConfig(Section, frozen=True, kw_only=True):
    """Deadlines and repeats where neither message nor handler says."""

    default_timeout: Annotated[Duration, Meta(gt=0)] = 30.0
    """Seconds a request may take from acceptance to reply."""
    durable_attempts: Annotated[int, Meta(ge=1)] = 4
    """Attempts at a durable message before it becomes a dead letter."""
    redelivery_attempts: Annotated[int, Meta(ge=0)] = 5
    """Times one message may be handed out again because its link was lost or its engine restarted."""
    initial_backoff: Duration = 0.1
    """Seconds before the second attempt."""
    max_backoff: Duration = 60.0
    """Seconds between attempts, at most."""
    multiplier: Annotated[float, Meta(ge=1, le=100)] = 2.0
    """Growth of the wait from attempt to attempt."""
    attempt_timeout: Annotated[Duration, Meta(gt=0)] = 600.0
    """Seconds one attempt may take where neither its caller nor its handler sets a limit."""
    cancel_grace: Annotated[Duration, Meta(gt=0)] = 10.0
    """Seconds a cancelled handler has to stop before its instance goes on without it."""
    idempotency_window: Annotated[Duration, Meta(gt=0)] = 600.0
    """Seconds for which the outcome of a volatile request with an idempotency key is kept."""
    idempotency_keys: Annotated[int, Meta(ge=1)] = 100_000
    """Outcomes of such requests kept per namespace, at most."""


class InstancesConfig(Section, frozen=True, kw_only=True):
    """How long instances stay in memory."""

    idle_timeout: Annotated[Duration, Meta(gt=0)] = 300.0
    """Seconds without messages before an instance hibernates, unless its agent says otherwise."""
    hibernated_kept: Annotated[int, Meta(ge=0)] = 1_000_000
    """Hibernated instances whose place and memory version are remembered; the longest idle are forgotten first."""


class AdmissionConfig(Section, frozen=True, kw_only=True):
    """When the engine counts as busy, and refuses what can wait."""

    enabled: bool = True
    """False: nothing is refused because the engine is busy; bounds and quotas hold all the same."""
    memory: Size | None = None
    """Bytes that this process may take: pressure is elevated from 75 % of it, high from 85 %, critical from 95 %. None:
    what its control group allows, else 80 % of the machine's memory. 0: memory makes no pressure."""
    loop_delay: Duration = 0.1
    """Seconds by which every turn of the event loop is late when pressure is elevated; at four times as much it is
    high, at sixteen times critical. 0: lateness makes no pressure."""
    queue_delay: Duration = 2.0
    """Seconds for which work of normal priority waits for a slot, on every link, when pressure is elevated; at four
    times as much it is high. 0: waiting makes no pressure."""


class AllocationConfig(Section, frozen=True, kw_only=True):
    """How capacity is shared among namespaces and agents when all of it is wanted."""

    policy: Literal["fair-share", "priority", "performance", "adaptive"] = "fair-share"
    """`fair-share`: everybody the same; `priority`: more to agents with urgent work; `performance`: more to agents that
    end more with a slot; `adaptive`: one of these, as the situation asks for. `amx scheduler policy` changes it until
    the engine restarts."""
    weights: dict[str, Annotated[float, Meta(gt=0, le=1000)]] = field(default_factory=dict)
    """By `namespace`, against other namespaces, or by `namespace/agent`, against the others there; 1 where none is
    given."""
    interval: Annotated[Duration, Meta(ge=0.1)] = 1.0
    """Seconds between two looks at what everybody does."""


class BreakerConfig(Section, frozen=True, kw_only=True):
    """When a handler that keeps failing is given a rest, unless it says otherwise."""

    failure_threshold: Annotated[int, Meta(ge=1)] = 20
    """Failures in a row that open the circuit."""
    open_for: Annotated[Duration, Meta(gt=0)] = 10.0
    """Seconds before one message is let through as a probe."""


class ConcurrencyConfig(Section, frozen=True, kw_only=True):
    """How many requests may be under way at one provider; between the bounds the limit is found out."""

    initial: Annotated[int, Meta(ge=1)] = 16
    """At first; doubles with each round trip until the first sign of overload."""
    minimum: Annotated[int, Meta(ge=1)] = 1
    """Always allowed."""
    maximum: Annotated[int, Meta(ge=1)] = 256
    """Never exceeded."""
    latency_tolerance: Annotated[float, Meta(ge=0)] = 0.0
    """Lowers the limit when recent latency is this many times its long average; 0: latency is no signal."""

    def __post_init__(self) -> None:
        if not self.minimum <= self.initial <= self.maximum:
            raise ValueError("needs minimum <= initial <= maximum")


class RepeatConfig(Section, frozen=True, kw_only=True):
    """How requests to one provider are repeated when they fail for a moment."""

    attempts: Annotated[int, Meta(ge=1)] = 3
    """At one request, the first included."""
    rate_limited_attempts: Annotated[int, Meta(ge=1)] = 8
    """The same while the provider answers that it limits its rate."""
    initial_backoff: Duration = 0.5
    """Seconds before the second attempt, at most."""
    max_backoff: Duration = 30.0
    """Seconds between attempts, at most."""
    budget: Annotated[float, Meta(ge=0)] = 0.2
    """Repeats for each request, on average over all that go to the provider."""
    budget_burst: Annotated[float, Meta(ge=0)] = 10.0
    """Repeats beyond the average."""


class ProviderConfig(Section, frozen=True, kw_only=True):
    """A service on the network that agents in the engine's process may ask; see docs/io.md."""

    base_url: Annotated[str, Meta(pattern=r"^https?://", description="an address that begins with http:// or https://")]
    """Address that the paths of requests are appended to."""
    headers: dict[str, Secret] = field(default_factory=dict)
    """Sent with every request; the place for credentials, best from the environment: `Bearer ${MODEL_KEY}`."""
    connections: Annotated[int, Meta(ge=1)] = 1000
    """Connections open at a time."""
    connect_timeout: Annotated[Duration, Meta(gt=0)] = 10.0
    """Seconds until a connection must be made."""
    idle_timeout: Annotated[Duration, Meta(gt=0)] = 60.0
    """Seconds without a byte while one is expected."""
    attempt_timeout: Annotated[Duration, Meta(gt=0)] = 300.0
    """Seconds one attempt may take, whatever its callers allow."""
    requests_per_second: Annotated[float, Meta(ge=0)] = 0.0
    """Averaged; 0: unlimited."""
    request_burst: Annotated[float, Meta(ge=0)] = 0.0
    """Requests at once beyond the average; 0: one second's worth."""
    tokens_per_second: Annotated[float, Meta(ge=0)] = 0.0
    """Averaged; 0: unlimited."""
    token_burst: Annotated[float, Meta(ge=0)] = 0.0
    """Tokens at once beyond the average; 0: one second's worth."""
    max_queued: Annotated[int, Meta(ge=1)] = 10_000
    """Requests that may wait for their turn."""
    concurrency: ConcurrencyConfig = ConcurrencyConfig()
    """Requests under way at a time."""
    retry: RepeatConfig = RepeatConfig()
    """Repeats."""


class IoSettings(Section, frozen=True, kw_only=True):
    """What agents in the engine's process ask of the world outside, through its I/O manager."""

    default_timeout: Annotated[Duration, Meta(gt=0)] = 120.0
    """Seconds an operation may take where its caller does not say."""
    cache_bytes: Size = 64 << 20
    """Bytes of answers remembered; 0: none."""
    cache_entries: Annotated[int, Meta(ge=0)] = 100_000
    """Answers remembered, at most."""
    max_waiters: Annotated[int, Meta(ge=1)] = 100_000
    """Callers that may wait at a time."""
    max_response_bytes: Annotated[Size, Meta(ge=1024)] = 32 << 20
    """Bytes of one answer, all its parts together."""
    max_buffered_bytes: Annotated[Size, Meta(ge=1 << 20)] = 256 << 20
    """Bytes of streams under way that not all readers have read; beyond it no operation begins."""
    providers: dict[str, ProviderConfig] = field(default_factory=dict)
    """By the name that agents use; the keys of each are in [io.md](io.md#providers-in-the-configuration)."""


class SupervisionConfig(Section, frozen=True, kw_only=True):
    """How fast supervisors restart their children."""

    restarts_per_second: Annotated[float, Meta(gt=0)] = 500.0
    """Restarts begun per second, of all supervisors together; the others wait."""


class QuotaConfig(Section, frozen=True, kw_only=True):
    """What one namespace may use."""

    messages_per_second: Annotated[float, Meta(ge=0)] = 0.0
    """Messages accepted per second, averaged; 0: unlimited."""
    burst: Annotated[int, Meta(ge=0)] = 0
    """Messages accepted at once beyond the average; 0: one second's worth."""
    mailbox_messages: Annotated[int, Meta(ge=0)] = 1_000_000
    """Messages waiting in all mailboxes together; 0: unlimited."""
    stored_bytes: Size = 0
    """Bytes stored: waiting and dead messages, results, memory; 0: unlimited."""


class QuotasConfig(Section, frozen=True, kw_only=True):
    """Quotas per namespace."""

    default: QuotaConfig = QuotaConfig()
    """For namespaces not named below."""
    namespaces: dict[str, QuotaConfig] = field(default_factory=dict)
    """By namespace. Replaces the default as a whole."""

    def of(self, namespace: str) -> QuotaConfig:
        """The quota in force for `namespace`."""
        return self.namespaces.get(namespace, self.default)


class TokenConfig(Section, frozen=True, kw_only=True):
    """One bearer token and whom it stands for."""

    token: Secret | None = None
    """The token itself. Exactly one of `token` and `token_sha256` is set."""
    token_sha256: str | None = None
    """SHA-256 of the token's UTF-8 bytes, 64 hexadecimal digits, so that the file need not hold the token."""
    subject: Annotated[str, Meta(min_length=1, max_length=256, description="text of 1 to 256 characters")]
    """Who it is, for logs and as the sender of messages."""
    namespace: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9._-]{1,128}\Z", description="1 to 128 letters, digits, '.', '_' or '-'")
    ] = "default"
    """The namespace its holder acts in."""
    roles: tuple[str, ...] = ()
    """Roles whose permissions it has: `admin`, `worker`, `client`, `viewer`, or one of `security.roles`."""

    def __post_init__(self) -> None:
        if (self.token is None) == (self.token_sha256 is None):
            raise ValueError("needs exactly one of 'token' and 'token_sha256'")
        if self.token is not None and not self.token.get_secret_value():
            raise ValueError("has an empty token; set one, for example from the environment: ${MY_TOKEN}")
        if self.token_sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", self.token_sha256):
            raise ValueError("has a token_sha256 that is not 64 hex digits; make it with: printf %s TOKEN | sha256sum")


class SecurityConfig(Section, frozen=True, kw_only=True):
    """Who may do what."""

    require_token: bool | None = None
    """True: every caller needs a token or client certificate. False: callers without one act as an administrator of
    the namespace `default`. None: required unless the engine listens on loopback and Unix sockets only and no tokens
    are configured."""
    tokens: tuple[TokenConfig, ...] = ()
    """Tokens that are accepted."""
    roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Permissions by role, in addition to the built-in roles; a built-in role named here is replaced."""


class LoggingConfig(Section, frozen=True, kw_only=True):
    """What the engine says about itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""
    format: Literal["json", "console", "auto"] = "auto"
    """`auto`: console on a terminal, JSON otherwise."""
    kept_lines: Annotated[int, Meta(ge=1, le=1_000_000)] = 5000
    """Lines held in memory for `amx logs`."""


class AgentsConfig(Section, frozen=True, kw_only=True):
    """How agent definitions change."""

    allow_redefinition: bool = False
    """True: a definition may change under the same version, as while developing. False: it is rejected with the
    difference named."""


class SchedulerConfig(Section, frozen=True, kw_only=True):
    """How work is spread over the machine."""

    processes: Annotated[int, Meta(ge=0, le=1024)] | None = None
    """Helper processes for loaded agents with a handler whose `execution` is `process`; none: one for each core but
    one, at least one. 0: such handlers run on threads of the engine's process."""
    block_warning: Duration = 0.1
    """Seconds for which a handler in the engine's process, or the engine itself, may keep the event loop from turning
    before the log names who does; 0: nobody looks."""


class EngineConfig(Section, frozen=True, kw_only=True):
    """Everything that can be set. `EngineConfig()` is a working engine on loopback."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "persistence": "storage",
        "database": "storage",
        "runtime": "limits",
        "monitoring": "logging' and 'http",
        "server": "grpc' and 'http",
        "auth": "security",
        "authentication": "security",
    }
    """Sections that readers of other engines' files expect."""

    grpc: GrpcConfig = GrpcConfig()
    """Where links and unary calls come in."""
    http: HttpConfig = HttpConfig()
    """Where health checks and metrics are answered."""
    storage: StorageConfig = StorageConfig()
    """Where what must survive is kept."""
    memory: MemoryConfig = MemoryConfig()
    """What content and earlier versions may take."""
    limits: LimitsConfig = LimitsConfig()
    """Bounds."""
    links: LinksConfig = LinksConfig()
    """How links live and end."""
    delivery: DeliveryConfig = DeliveryConfig()
    """Deadlines and repeats."""
    instances: InstancesConfig = InstancesConfig()
    """How long instances stay in memory."""
    breaker: BreakerConfig = BreakerConfig()
    """When a failing handler is given a rest."""
    io: IoSettings = IoSettings()
    """What agents ask of the world outside."""
    supervision: SupervisionConfig = SupervisionConfig()
    """How fast failing instances are restarted."""
    quotas: QuotasConfig = QuotasConfig()
    """What namespaces may use."""
    admission: AdmissionConfig = AdmissionConfig()
    """When the engine counts as busy."""
    allocation: AllocationConfig = AllocationConfig()
    """How capacity is shared."""
    security: SecurityConfig = SecurityConfig()
    """Who may do what."""
    logging: LoggingConfig = LoggingConfig()
    """What the engine says about itself."""
    agents: AgentsConfig = AgentsConfig()
    """How agent definitions change."""
    scheduler: SchedulerConfig = SchedulerConfig()
    """How work is spread over the machine."""
    shutdown_deadline: Duration = 30.0
    """Seconds from the wish to stop until the engine stops, finished or not."""

    @property
    def local_only(self) -> bool:
        """Whether gRPC can be reached from this machine only."""
        return is_loopback(self.grpc.host)


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine only. Names other than `localhost` are not looked up and count as remote."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# --- reading ---------------------------------------------------------------------------------------------------------


def load_config(
    path: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    strict: bool = False,
) -> EngineConfig:
    """Reads the configuration.

    path: a YAML file, or None for `amx-config.yaml` in the working directory if there is one. The engine's sections
        are found at the top, under `engine:` and under `amx: {engine: …}`; `${NAME}` and `${NAME:-default}` in them
        are replaced from the environment, `$${` is a literal `${`.
    overrides: values by section and field, nested or with dots (`{"grpc.port": 9191}`); None values are passed over.
    environment: instead of the process's own.
    strict: top-level keys that are not the engine's are errors rather than somebody else's.

    Raises ConfigError with every problem found: unreadable file, unknown keys (with the nearest known one), values
    that cannot be used, variables that are not set. Values of secrets never appear in it.
    """
    environment = os.environ if environment is None else environment
    problems: list[str] = []
    unset: list[str] = []  # values that a variable leaves open cannot be judged
    tree: dict[str, Any] = {}
    origins: dict[Place, str] = {}

    if path is None and Path(DEFAULT_FILE).is_file():
        path = DEFAULT_FILE
    if path is not None:
        document = _read_yaml(Path(path))
        for section in _engine_sections(document, str(path), strict, problems):
            _merge(tree, _substitute(section, environment, (), str(path), unset), str(path), origins)
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX):
            keys = [key.lower() for key in name.removeprefix(ENVIRONMENT_PREFIX).split("__")]
            _merge(tree, _nest(keys, parse_setting(text)), name, origins)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _merge(tree, _nest(dotted.split("."), value), "the command line", origins)

    problems.extend(unset)
    try:
        config = EngineConfig.read(tree, origins)
    except ConfigError as error:
        problems.extend(error.problems if not unset else ())
    if problems:
        raise ConfigError(problems)
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    from amx_server.core import yaml_reading  # many engines have no file

    try:
        with path.open(encoding="utf-8") as file:
            document = yaml_reading.read(file)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}; give the file with --config"]) from None
    except (yaml_reading.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: is not YAML: {error}"]) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError([f"{path}: holds a {type(document).__name__}, not a mapping with sections such as 'grpc:'"])
    return document


def _engine_sections(document: dict[str, Any], source: str, strict: bool, problems: list[str]) -> list[dict[str, Any]]:
    """The places of `document` that configure the engine: `amx.engine`, `engine`, and known sections at the top."""
    found: list[dict[str, Any]] = []
    amx = document.get("amx")
    if isinstance(amx, dict):
        found.append(_engine_mapping(amx.get("engine"), source, "amx.engine", problems))
        if strict:
            strangers = (key for key in amx if key != "engine")
            problems.extend(
                f"{source}: amx.{key}: unknown key; the engine reads 'amx.engine' only" for key in strangers
            )
    elif amx is not None:
        problems.append(f"{source}: amx: needs a mapping with the key 'engine'")
    found.append(_engine_mapping(document.get("engine"), source, "engine", problems))

    known = EngineConfig.__struct_fields__
    found.append({key: value for key, value in document.items() if key in known})
    if strict:
        strangers = (str(key) for key in document if key not in known and key not in ("amx", "engine"))
        problems.extend(f"{source}: {key}: unknown section{suggestion(EngineConfig, key)}" for key in strangers)
    return found


def _engine_mapping(value: object, source: str, where: str, problems: list[str]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(f"{source}: {where}: needs a mapping with sections such as 'grpc:'")
        return {}
    return {str(key): inner for key, inner in value.items() if key not in SDK_KEYS}


_VARIABLE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def _substitute(value: Any, environment: Mapping[str, str], where: Place, source: str, problems: list[str]) -> Any:
    """`value` with `${NAME}` replaced in every text below it."""
    if isinstance(value, dict):
        return {
            str(key): _substitute(inner, environment, (*where, str(key)), source, problems)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [
            _substitute(inner, environment, (*where, str(index)), source, problems) for index, inner in enumerate(value)
        ]
    if not isinstance(value, str) or "$" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return "${"
        text = environment.get(match[2], match[3])
        if text is None:
            problems.append(
                f"{source}: {'.'.join(where)}: the environment variable {match[2]} is not set;"
                f" set it, or give a default: ${{{match[2]}:-default}}"
            )
            return ""
        return text

    return _VARIABLE.sub(replace, value)


def parse_setting(text: str) -> Any:
    """The value of an environment variable or command-line option: lists and mappings are YAML, `null` is None.

    Everything else stays text; the field it is for decides what it means.
    """
    if text.strip() == "null":
        return None
    if text.lstrip()[:1] in ("[", "{"):
        from amx_server.core import yaml_reading

        try:
            return yaml_reading.read(text)
        except yaml_reading.YAMLError:
            return text
    return text


def _nest(keys: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(keys):
        value = {key: value}
    return value if isinstance(value, dict) else {}


def _merge(
    into: dict[str, Any],
    update: Mapping[str, Any],
    source: str,
    origins: dict[Place, str],
    where: Place = (),
) -> None:
    """Writes `update` over `into`, mapping by mapping, and notes where each value came from."""
    for key, value in ((str(key), value) for key, value in update.items()):
        here = (*where, key)
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value, source, origins, here)
        elif isinstance(value, Mapping):
            into[key] = {}
            origins[here] = source
            _merge(into[key], value, source, origins, here)
        else:
            into[key] = value
            origins[here] = source
