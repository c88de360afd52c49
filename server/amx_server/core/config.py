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
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from amx_server.core.errors import INVALID_ARGUMENT, AmxError
from amx_server.core.units import Duration, Port, Size

DEFAULT_FILE = "amx-config.yaml"
ENVIRONMENT_PREFIX = "AMX__"

# Keys under `engine:` that the SDK reads from the same file; the engine passes over them.
SDK_KEYS = frozenset({"address", "embedded", "token"})

# Sections that readers of other engines' files expect, and where their content belongs here.
_BELONGS_ELSEWHERE = {
    "persistence": "storage",
    "database": "storage",
    "runtime": "limits",
    "monitoring": "logging' and 'http",
    "server": "grpc' and 'http",
    "auth": "security",
    "authentication": "security",
}


class ConfigError(AmxError):
    """The configuration cannot be used. The message lists every problem, one a line, with the cure."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(INVALID_ARGUMENT, "CONFIG_INVALID", "\n".join(problems))
        self.problems = problems


# --- sections --------------------------------------------------------------------------------------------------------


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class TlsConfig(_Section):
    """Certificates of the gRPC listener."""

    cert: str
    """Path of the server's certificate chain, PEM."""
    key: str
    """Path of its private key, PEM."""
    client_ca: str | None = None
    """Path of the authority that signs client certificates, PEM. Set: clients without one of its certificates are
    refused. None: clients need no certificate."""


class GrpcConfig(_Section):
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


class HttpConfig(_Section):
    """Where health checks and metrics are answered."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """TCP port; 0: any free one."""
    enabled: bool = True
    """False: no HTTP listener at all."""


class StorageConfig(_Section):
    """Where what must survive is kept."""

    path: str = ".amx/amx.db"
    """File of the SQLite database: a path, `sqlite:path`, `sqlite:///absolute/path`, or `:memory:` for a store that
    ends with the process. Its folder is created where it does not exist."""
    dedup_window: Duration = Field(default=86_400.0, gt=0)
    """Seconds for which ended messages are kept; a repeated message id within it is recognised as a repeat."""
    max_queued_bytes: Size = Field(default=64 << 20, ge=1 << 20)
    """Bytes that may wait to be written; beyond it what needs storing is refused with STORAGE_BUSY."""
    commit_delay: Duration = Field(default=0.0, ge=0, le=1)
    """Seconds that a commit may wait for others to share its transaction. Saves processor and disk where many agents
    work side by side; what waits for a commit waits longer. Reads, and work of high priority, do not wait."""
    cache_bytes: Size = Field(default=64 << 20, ge=1 << 20)
    """Bytes of the database kept in memory."""

    @model_validator(mode="after")
    def _known_scheme(self) -> StorageConfig:
        scheme, separator, _ = self.path.partition("://")
        if separator and scheme != "sqlite":
            raise ValueError(f"this version cannot store in '{scheme}'; give the path of a SQLite file")
        if not self.path:
            raise ValueError("is empty; give the path of a SQLite file")
        return self

    @property
    def file(self) -> str:
        """Path of the SQLite file, without a URL's decoration."""
        scheme, separator, rest = self.path.partition(":")
        return rest.removeprefix("//") if separator and scheme == "sqlite" else self.path


class MemoryConfig(_Section):
    """What content may take in memory and on disk, and how long earlier versions of memories are kept."""

    budget: Size = Field(default=512 << 20, ge=1 << 20)
    """Bytes of memory for content: 40 % plain, 40 % compressed, 20 % for the index."""
    disk_bytes: Size = 0
    """Bytes of content on disk; 0: without limit."""
    content_threshold: Size = Field(default=1024, ge=128)
    """Values in memories, results and definitions of at least so many bytes are stored by address, each content once;
    smaller ones lie in their rows."""
    namespace_quota: Size = 0
    """Bytes that the agents of one namespace may keep by address, plain and unshared, earlier versions included;
    0: unlimited."""
    agent_quota: Size = 0
    """The same for one agent, over all its instances."""
    quotas: dict[str, Size] = {}
    """For single owners instead: by `namespace`, or by `namespace/agent`."""
    history_versions: int = Field(default=100, ge=1)
    """Versions of one instance's memory that can be read, the present one included."""
    history_age: Duration = 604_800.0
    """Seconds for which a version can be read after it was replaced."""
    upkeep_interval: Duration = Field(default=60.0, ge=1)
    """Seconds between rounds in which versions whose time is over are forgotten, and content that nothing refers to is
    collected."""


class LimitsConfig(_Section):
    """Bounds. What exceeds one is refused by name at the first place that can know."""

    max_item_bytes: Size = Field(default=4_194_304, ge=1024, le=1 << 30)
    """Bytes of one item on a link, and of one unary request."""
    max_frame_bytes: Size = Field(default=262_144, ge=1024, le=1 << 30)
    """Bytes of one frame, unless a single item is larger."""
    max_frame_items: int = Field(default=128, ge=1, le=100_000)
    """Items of one frame."""
    max_header_bytes: Size = Field(default=8192, ge=0)
    """Bytes of all headers of a message: names and values."""
    max_key_bytes: Size = Field(default=512, ge=1)
    """Bytes of an instance key in UTF-8."""
    max_calls_in_flight: int = Field(default=4096, ge=1)
    """Calls one link may have outstanding."""
    stream_window: int = Field(default=64, ge=1)
    """Chunks a stream may be ahead of its reader."""
    max_links: int = Field(default=10_000, ge=1)
    """Links open at a time."""
    mailbox_capacity: int = Field(default=10_000, ge=1)
    """Messages that may wait per instance, unless its agent says otherwise."""
    max_memory_bytes: Size = Field(default=3 << 20, ge=1024)
    """Bytes one instance may remember; its memory travels to a link in one item."""
    max_pending_events: int = Field(default=4096, ge=1)
    """Events that may wait for credit per link."""
    max_instances: int = Field(default=1_000_000, ge=1)
    """Instances that may be active at a time, over all namespaces."""


class LinksConfig(_Section):
    """How links live and end."""

    heartbeat_interval: Duration = Field(default=5.0, gt=0)
    """Seconds between pings; two missed ones close the link."""
    resume_window: Duration = 10.0
    """Seconds for which a lost link may be taken up again; 0: its work is redelivered at once."""
    max_unacked_bytes: Size = Field(default=16 << 20, ge=1 << 20)
    """Bytes of sent frames kept per link for a resume; beyond it the link waits for acknowledgements."""
    drain_deadline: Duration = 30.0
    """Seconds a draining link may take to finish what it runs."""


class DeliveryConfig(_Section):
    """Deadlines and repeats where neither message nor handler says."""

    default_timeout: Duration = Field(default=30.0, gt=0)
    """Seconds a request may take from acceptance to reply."""
    durable_attempts: int = Field(default=4, ge=1)
    """Attempts at a durable message before it becomes a dead letter."""
    redelivery_attempts: int = Field(default=5, ge=0)
    """Times one message may be handed out again because its link was lost or its engine restarted."""
    initial_backoff: Duration = 0.1
    """Seconds before the second attempt."""
    max_backoff: Duration = 60.0
    """Seconds between attempts, at most."""
    multiplier: float = Field(default=2.0, ge=1, le=100)
    """Growth of the wait from attempt to attempt."""
    attempt_timeout: Duration = Field(default=600.0, gt=0)
    """Seconds one attempt may take where neither its caller nor its handler sets a limit."""
    cancel_grace: Duration = Field(default=10.0, gt=0)
    """Seconds a cancelled handler has to stop before its instance goes on without it."""
    idempotency_window: Duration = Field(default=600.0, gt=0)
    """Seconds for which the outcome of a volatile request with an idempotency key is kept."""
    idempotency_keys: int = Field(default=100_000, ge=1)
    """Outcomes of such requests kept per namespace, at most."""


class InstancesConfig(_Section):
    """How long instances stay in memory."""

    idle_timeout: Duration = Field(default=300.0, gt=0)
    """Seconds without messages before an instance hibernates, unless its agent says otherwise."""
    hibernated_kept: int = Field(default=1_000_000, ge=0)
    """Hibernated instances whose place and memory version are remembered; the longest idle are forgotten first."""


class AdmissionConfig(_Section):
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


class AllocationConfig(_Section):
    """How capacity is shared among namespaces and agents when all of it is wanted."""

    policy: Literal["fair-share", "priority", "performance", "adaptive"] = "fair-share"
    """`fair-share`: everybody the same; `priority`: more to agents with urgent work; `performance`: more to agents that
    end more with a slot; `adaptive`: one of these, as the situation asks for. `amx scheduler policy` changes it until
    the engine restarts."""
    weights: dict[str, Annotated[float, Field(gt=0, le=1000)]] = {}
    """By `namespace`, against other namespaces, or by `namespace/agent`, against the others there; 1 where none is
    given."""
    interval: Duration = Field(default=1.0, ge=0.1)
    """Seconds between two looks at what everybody does."""


class BreakerConfig(_Section):
    """When a handler that keeps failing is given a rest, unless it says otherwise."""

    failure_threshold: int = Field(default=20, ge=1)
    """Failures in a row that open the circuit."""
    open_for: Duration = Field(default=10.0, gt=0)
    """Seconds before one message is let through as a probe."""


class ConcurrencyConfig(_Section):
    """How many requests may be under way at one provider; between the bounds the limit is found out."""

    initial: int = Field(default=16, ge=1)
    """At first; doubles with each round trip until the first sign of overload."""
    minimum: int = Field(default=1, ge=1)
    """Always allowed."""
    maximum: int = Field(default=256, ge=1)
    """Never exceeded."""
    latency_tolerance: float = Field(default=0.0, ge=0)
    """Lowers the limit when recent latency is this many times its long average; 0: latency is no signal."""

    @model_validator(mode="after")
    def _ordered(self) -> ConcurrencyConfig:
        if not self.minimum <= self.initial <= self.maximum:
            raise ValueError("needs minimum <= initial <= maximum")
        return self


class RepeatConfig(_Section):
    """How requests to one provider are repeated when they fail for a moment."""

    attempts: int = Field(default=3, ge=1)
    """At one request, the first included."""
    rate_limited_attempts: int = Field(default=8, ge=1)
    """The same while the provider answers that it limits its rate."""
    initial_backoff: Duration = 0.5
    """Seconds before the second attempt, at most."""
    max_backoff: Duration = 30.0
    """Seconds between attempts, at most."""
    budget: float = Field(default=0.2, ge=0)
    """Repeats for each request, on average over all that go to the provider."""
    budget_burst: float = Field(default=10.0, ge=0)
    """Repeats beyond the average."""


class ProviderConfig(_Section):
    """A service on the network that agents in the engine's process may ask; see docs/io.md."""

    base_url: str = Field(pattern=r"^https?://")
    """Address that the paths of requests are appended to."""
    headers: dict[str, SecretStr] = {}
    """Sent with every request; the place for credentials, best from the environment: `Bearer ${MODEL_KEY}`."""
    connections: int = Field(default=1000, ge=1)
    """Connections open at a time."""
    connect_timeout: Duration = Field(default=10.0, gt=0)
    """Seconds until a connection must be made."""
    idle_timeout: Duration = Field(default=60.0, gt=0)
    """Seconds without a byte while one is expected."""
    attempt_timeout: Duration = Field(default=300.0, gt=0)
    """Seconds one attempt may take, whatever its callers allow."""
    requests_per_second: float = Field(default=0.0, ge=0)
    """Averaged; 0: unlimited."""
    request_burst: float = Field(default=0.0, ge=0)
    """Requests at once beyond the average; 0: one second's worth."""
    tokens_per_second: float = Field(default=0.0, ge=0)
    """Averaged; 0: unlimited."""
    token_burst: float = Field(default=0.0, ge=0)
    """Tokens at once beyond the average; 0: one second's worth."""
    max_queued: int = Field(default=10_000, ge=1)
    """Requests that may wait for their turn."""
    concurrency: ConcurrencyConfig = ConcurrencyConfig()
    """Requests under way at a time."""
    retry: RepeatConfig = RepeatConfig()
    """Repeats."""


class IoSettings(_Section):
    """What agents in the engine's process ask of the world outside, through its I/O manager."""

    default_timeout: Duration = Field(default=120.0, gt=0)
    """Seconds an operation may take where its caller does not say."""
    cache_bytes: Size = 64 << 20
    """Bytes of answers remembered; 0: none."""
    cache_entries: int = Field(default=100_000, ge=0)
    """Answers remembered, at most."""
    max_waiters: int = Field(default=100_000, ge=1)
    """Callers that may wait at a time."""
    max_response_bytes: Size = Field(default=32 << 20, ge=1024)
    """Bytes of one answer, all its parts together."""
    max_buffered_bytes: Size = Field(default=256 << 20, ge=1 << 20)
    """Bytes of streams under way that not all readers have read; beyond it no operation begins."""
    providers: dict[str, ProviderConfig] = {}
    """By the name that agents use; the keys of each are in [io.md](io.md#providers-in-the-configuration)."""


class SupervisionConfig(_Section):
    """How fast supervisors restart their children."""

    restarts_per_second: float = Field(default=500.0, gt=0)
    """Restarts begun per second, of all supervisors together; the others wait."""


class QuotaConfig(_Section):
    """What one namespace may use."""

    messages_per_second: float = Field(default=0.0, ge=0)
    """Messages accepted per second, averaged; 0: unlimited."""
    burst: int = Field(default=0, ge=0)
    """Messages accepted at once beyond the average; 0: one second's worth."""
    mailbox_messages: int = Field(default=1_000_000, ge=0)
    """Messages waiting in all mailboxes together; 0: unlimited."""
    stored_bytes: Size = 0
    """Bytes stored: waiting and dead messages, results, memory; 0: unlimited."""


class QuotasConfig(_Section):
    """Quotas per namespace."""

    default: QuotaConfig = QuotaConfig()
    """For namespaces not named below."""
    namespaces: dict[str, QuotaConfig] = {}
    """By namespace. Replaces the default as a whole."""

    def of(self, namespace: str) -> QuotaConfig:
        """The quota in force for `namespace`."""
        return self.namespaces.get(namespace, self.default)


class TokenConfig(_Section):
    """One bearer token and whom it stands for."""

    token: SecretStr | None = None
    """The token itself. Exactly one of `token` and `token_sha256` is set."""
    token_sha256: str | None = None
    """SHA-256 of the token's UTF-8 bytes, 64 hexadecimal digits, so that the file need not hold the token."""
    subject: str = Field(min_length=1, max_length=256)
    """Who it is, for logs and as the sender of messages."""
    namespace: str = Field(default="default", pattern=r"^[A-Za-z0-9._-]{1,128}$")
    """The namespace its holder acts in."""
    roles: tuple[str, ...] = ()
    """Roles whose permissions it has: `admin`, `worker`, `client`, `viewer`, or one of `security.roles`."""

    @model_validator(mode="after")
    def _one_secret(self) -> TokenConfig:
        if (self.token is None) == (self.token_sha256 is None):
            raise ValueError("needs exactly one of 'token' and 'token_sha256'")
        if self.token is not None and not self.token.get_secret_value():
            raise ValueError("has an empty token; set one, for example from the environment: ${MY_TOKEN}")
        if self.token_sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", self.token_sha256):
            raise ValueError("has a token_sha256 that is not 64 hex digits; make it with: printf %s TOKEN | sha256sum")
        return self


class SecurityConfig(_Section):
    """Who may do what."""

    require_token: bool | None = None
    """True: every caller needs a token or client certificate. False: callers without one act as an administrator of
    the namespace `default`. None: required unless the engine listens on loopback and Unix sockets only and no tokens
    are configured."""
    tokens: tuple[TokenConfig, ...] = ()
    """Tokens that are accepted."""
    roles: dict[str, tuple[str, ...]] = {}
    """Permissions by role, in addition to the built-in roles; a built-in role named here is replaced."""


class LoggingConfig(_Section):
    """What the engine says about itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""
    format: Literal["json", "console", "auto"] = "auto"
    """`auto`: console on a terminal, JSON otherwise."""
    kept_lines: int = Field(default=5000, ge=1, le=1_000_000)
    """Lines held in memory for `amx logs`."""


class AgentsConfig(_Section):
    """How agent definitions change."""

    allow_redefinition: bool = False
    """True: a definition may change under the same version, as while developing. False: it is rejected with the
    difference named."""


class SchedulerConfig(_Section):
    """How work is spread over the machine."""

    processes: int | None = Field(default=None, ge=0, le=1024)
    """Helper processes for loaded agents with a handler whose `execution` is `process`; none: one for each core but
    one, at least one. 0: such handlers run on threads of the engine's process."""
    block_warning: Duration = 0.1
    """Seconds for which a handler in the engine's process, or the engine itself, may keep the event loop from turning
    before the log names who does; 0: nobody looks."""


class EngineConfig(_Section):
    """Everything that can be set. `EngineConfig()` is a working engine on loopback."""

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
    tree: dict[str, Any] = {}
    origins: dict[tuple[str, ...], str] = {}

    if path is None and Path(DEFAULT_FILE).is_file():
        path = DEFAULT_FILE
    if path is not None:
        document = _read_yaml(Path(path))
        for section in _engine_sections(document, str(path), strict, problems):
            _merge(tree, _substitute(section, environment, (), str(path), problems), str(path), origins)
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX):
            keys = [key.lower() for key in name.removeprefix(ENVIRONMENT_PREFIX).split("__")]
            _merge(tree, _nest(keys, parse_setting(text)), name, origins)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _merge(tree, _nest(dotted.split("."), value), "the command line", origins)

    if problems:
        raise ConfigError(problems)
    try:
        return EngineConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError([_explain(problem, origins) for problem in error.errors(include_url=False)]) from None


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

    known = EngineConfig.model_fields
    found.append({key: value for key, value in document.items() if key in known})
    if strict:
        strangers = (str(key) for key in document if key not in known and key not in ("amx", "engine"))
        problems.extend(f"{source}: {key}: unknown section{_suggestion(key, known)}" for key in strangers)
    return found


def _engine_mapping(value: object, source: str, where: str, problems: list[str]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(f"{source}: {where}: needs a mapping with sections such as 'grpc:'")
        return {}
    return {str(key): inner for key, inner in value.items() if key not in SDK_KEYS}


_VARIABLE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def _substitute(
    value: Any, environment: Mapping[str, str], where: tuple[str, ...], source: str, problems: list[str]
) -> Any:
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
    origins: dict[tuple[str, ...], str],
    where: tuple[str, ...] = (),
) -> None:
    """Writes `update` over `into`, mapping by mapping, and notes where each value came from."""
    for key, value in update.items():
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


def _explain(problem: Any, origins: dict[tuple[str, ...], str]) -> str:
    """One line for one problem that validation found: origin, place, what is wrong, what to do."""
    place = tuple(str(part) for part in problem["loc"])
    origin = next((origins[place[:n]] for n in range(len(place), 0, -1) if place[:n] in origins), "configuration")
    start = f"{origin}: {'.'.join(place)}"
    if problem["type"] == "extra_forbidden":
        parent = _model_at(place[:-1])
        known = parent.model_fields if parent else {}
        kind = "section" if len(place) == 1 else "key"
        return f"{start}: unknown {kind}{_suggestion(place[-1], known)}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{start}: {message[:1].lower() + message[1:] if message[:5] == 'Input' else message}"


def _suggestion(key: str, known: Mapping[str, object]) -> str:
    if key in _BELONGS_ELSEWHERE and known is EngineConfig.model_fields:
        return f"; its settings are under '{_BELONGS_ELSEWHERE[key]}' here"
    import difflib  # for people who mistyped

    close = difflib.get_close_matches(key.replace("-", "_"), known, n=1, cutoff=0.5)
    listing = ", ".join(sorted(known))
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {listing}"


def _model_at(place: tuple[str, ...]) -> type[BaseModel] | None:
    """The section that a place in the configuration belongs to."""
    annotation: Any = EngineConfig
    for part in place:
        model = _model_in(annotation)
        if isinstance(annotation, type) and model is not None:
            field = model.model_fields.get(part)
            annotation = field.annotation if field else None
        else:
            annotation = model  # A mapping, list or union of sections: `part` only says which one.
            if model is not None and part in model.model_fields:
                annotation = model.model_fields[part].annotation
    return _model_in(annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section class that an annotation such as `dict[str, QuotaConfig]` speaks of."""
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
