"""Reading the configuration: places, precedence, substitution, and errors that say what to do."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import pytest

from amx_server.core import config as config_module
from amx_server.core.config import ConfigError, EngineConfig, is_loopback, load_config
from amx_server.core.sections import Section


def write(folder: Path, text: str) -> Path:
    path = folder / "amx-config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path | None = None, environment: dict[str, str] | None = None, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environment=environment or {}, **options)  # type: ignore[arg-type]
    assert caught.value.reason == "CONFIG_INVALID"
    return caught.value.problems


def test_defaults_are_a_working_engine_on_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(environment={})
    assert config == EngineConfig()
    assert (config.grpc.host, config.grpc.port, config.http.port) == ("127.0.0.1", 9090, 8080)
    assert config.local_only
    assert config.storage.file == ".amx/amx.db"


def test_file_in_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "grpc: {port: 7000}")
    monkeypatch.chdir(tmp_path)
    assert load_config(environment={}).grpc.port == 7000


@pytest.mark.parametrize(
    "text",
    ["grpc: {port: 7000}", "engine: {grpc: {port: 7000}}", "amx: {engine: {grpc: {port: 7000}}}"],
    ids=["top", "engine", "amx.engine"],
)
def test_sections_are_found_in_each_layout(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, text), environment={}, strict=True).grpc.port == 7000


def test_empty_file_means_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, ""), environment={}) == EngineConfig()


def test_later_sources_win(tmp_path: Path) -> None:
    path = write(tmp_path, "grpc: {port: 1, host: localhost}\nhttp: {port: 1}\nlimits: {max_links: 7}")
    environment = {"AMX__GRPC__PORT": "2", "AMX__HTTP__PORT": "2", "UNRELATED": "x"}
    config = load_config(
        path, {"http.port": 3, "http.host": None, "breaker": {"open_for": "1m"}}, environment=environment
    )
    assert (config.grpc.port, config.http.port, config.limits.max_links) == (2, 3, 7)
    assert config.grpc.host == "localhost"
    assert config.breaker.open_for == 60


def test_environment_carries_lists_and_texts() -> None:
    environment = {
        "AMX__SECURITY__TOKENS": "[{token: '0123', subject: a, roles: [admin]}]",
        "AMX__SECURITY__REQUIRE_TOKEN": "true",
        "AMX__STORAGE__PATH": "0123",
        "AMX__GRPC__TLS": "null",
        "AMX__QUOTAS__DEFAULT__BURST": "5",
    }
    config = load_config(environment=environment)
    token = config.security.tokens[0].token
    assert token is not None
    assert token.get_secret_value() == "0123"
    assert config.security.require_token is True
    assert config.storage.path == "0123"
    assert config.quotas.of("any").burst == 5


def test_variables_are_substituted_in_engine_sections_only(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        aws: {access_key: "${NOT_SET_AND_NOT_OURS}"}
        engine:
          grpc: {port: "${PORT}", host: "${HOST:-::1}"}
          storage: {path: "/data/$${literal}/${NAME}.db"}
        """,
    )
    config = load_config(path, environment={"PORT": "7001", "NAME": "x"})
    assert (config.grpc.port, config.grpc.host) == (7001, "::1")
    assert config.storage.path == "/data/${literal}/x.db"


def test_variable_that_is_not_set_is_named_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, "security: {tokens: [{token: '${ENGINE_TOKEN}', subject: a}]}")
    (problem,) = problems(path)
    assert "security.tokens.0.token" in problem
    assert "ENGINE_TOKEN" in problem
    assert "${ENGINE_TOKEN:-default}" in problem


@pytest.mark.parametrize(
    ("text", "place", "suggestion"),
    [
        ("grpc: {prt: 1}", "grpc.prt", "did you mean 'port'"),
        ("grpc: {tls: {cert: a, key: b, client-ca: c}}", "grpc.tls.client-ca", "did you mean 'client_ca'"),
        ("engine: {linkz: {}}", "linkz", "did you mean 'links'"),
        ("engine: {persistence: {type: postgresql}}", "persistence", "under 'storage'"),
        ("quotas: {namespaces: {a: {brst: 1}}}", "quotas.namespaces.a.brst", "did you mean 'burst'"),
        ("security: {tokens: [{token: x, subject: a, role: admin}]}", "security.tokens.0.role", "'roles'"),
        ("http: {zzzzzzzz: 1}", "http.zzzzzzzz", "known here: enabled, host, port"),
    ],
)
def test_unknown_key_names_the_nearest_known_one(tmp_path: Path, text: str, place: str, suggestion: str) -> None:
    path = write(tmp_path, text)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}: {place}: unknown ")
    assert suggestion in problem


def test_foreign_sections_are_errors_only_when_strict(tmp_path: Path) -> None:
    path = write(tmp_path, "aws: {region: x}\ngrcp: {port: 1}")
    assert load_config(path, environment={}) == EngineConfig()
    foreign, misspelt = problems(path, strict=True)
    assert "aws: unknown section" in foreign
    assert "did you mean 'grpc'" in misspelt


def test_unknown_sections_hide_no_other_problem(tmp_path: Path) -> None:
    path = write(tmp_path, "grcp: {port: 1}\nlinks: {resume_window: soon}")
    misspelt, duration = problems(path, strict=True)
    assert "did you mean 'grpc'" in misspelt
    assert "links.resume_window" in duration


def test_keys_of_the_sdk_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path, "engine: {address: 'host:1', embedded: true, token: x, grpc: {port: 7}}")
    assert load_config(path, environment={}, strict=True).grpc.port == 7


def test_every_problem_is_reported_with_its_source(tmp_path: Path) -> None:
    path = write(tmp_path, "grpc: {port: 70000}\nlinks: {resume_window: soon}\nlimits: {max_item_bytes: 3 apples}")
    found = problems(path, {"AMX__DELIVERY__DURABLE_ATTEMPTS": "0"}, overrides={"http.port": "x"})
    text = "\n".join(found)
    assert len(found) == 5
    assert f"{path}: grpc.port: needs a whole number from 0 to 65535, not 70000" in text
    assert "links.resume_window: 'soon' is not a duration" in text
    assert "limits.max_item_bytes: '3 apples' is not a size" in text
    assert "AMX__DELIVERY__DURABLE_ATTEMPTS: delivery.durable_attempts" in text
    assert "the command line: http.port" in text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("grpc: [", "is not YAML"),
        ("- a\n- b", "holds a list"),
        ("grpc: {port: 1, port: 2}", "the key 'port' appears twice"),
        ("engine: 5", "engine: needs a mapping"),
        ("amx: 5", "amx: needs a mapping"),
        ("grpc: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str, part: str) -> None:
    assert part in problems(write(tmp_path, text))[0]


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert "nowhere.yaml: cannot be read" in problems(tmp_path / "nowhere.yaml")[0]


def test_storage_that_this_version_lacks_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(write(tmp_path, "storage: {path: 'postgresql://db/amx'}"))
    assert "cannot store in 'postgresql'" in problem


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("a/b.db", "a/b.db"),
        ("sqlite:rel.db", "rel.db"),
        ("sqlite:///var/amx.db", "/var/amx.db"),
        (":memory:", ":memory:"),
    ],
)
def test_storage_url_names_its_file(path: str, file: str) -> None:
    assert EngineConfig.read({"storage": {"path": path}}).storage.file == file


def test_secrets_appear_neither_in_errors_nor_in_representations(tmp_path: Path) -> None:
    path = write(tmp_path, "security: {tokens: [{token: hunter2, token_sha256: aa, subject: a}]}")
    assert "hunter2" not in "\n".join(problems(path))
    config = EngineConfig.read({"security": {"tokens": [{"token": "hunter2", "subject": "a"}]}})
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize(
    ("token", "part"),
    [
        ({"subject": "a"}, "exactly one of"),
        ({"subject": "a", "token": ""}, "empty token"),
        ({"subject": "a", "token_sha256": "12"}, "64 hex digits"),
    ],
)
def test_token_that_cannot_be_used_is_refused(token: dict[str, str], part: str) -> None:
    (problem,) = problems(overrides={"security.tokens": [token]})
    assert part in problem


def test_configuration_is_frozen() -> None:
    with pytest.raises(AttributeError):
        EngineConfig().grpc.port = 1  # type: ignore[misc]


def test_every_field_is_documented() -> None:
    tree = ast.parse(Path(config_module.__file__).read_text())
    models = [node for node in tree.body if isinstance(node, ast.ClassDef) and hasattr(config_module, node.name)]
    fields = 0
    for model in models:
        if not issubclass(getattr(config_module, model.name), Section):
            continue
        for node, following in pairwise([*model.body, ast.Pass()]):
            if isinstance(node, ast.AnnAssign):
                said = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                assert said, f"{model.name}.{ast.unparse(node.target)} has no description below it"
                fields += 1
    assert fields > 100


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.com", False)],
)  # fmt: skip
def test_loopback_addresses_are_told_from_others(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_quota_of_a_named_namespace_replaces_the_default() -> None:
    config = EngineConfig.read({"quotas": {"default": {"messages_per_second": 5}, "namespaces": {"a": {"burst": 3}}}})
    assert config.quotas.of("other").messages_per_second == 5
    assert config.quotas.of("a").messages_per_second == 0
