"""Tokens, certificates, roles and permissions."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from amx_server.core.config import ConfigError, EngineConfig
from amx_server.core.errors import PERMISSION_DENIED, UNAUTHENTICATED, AmxError
from amx_server.security.identity import ANONYMOUS, Authenticator, Identity
from amx_server.security.permissions import PERMISSIONS, ROLES, grants, is_permission

WORKER = {"token": "w-secret", "subject": "billing", "namespace": "eu", "roles": ["worker"]}


def authenticator(host: str = "127.0.0.1", **security: Any) -> Authenticator:
    return Authenticator(EngineConfig.read({"grpc": {"host": host}, "security": security}))


def refusal(subject: Authenticator, authorization: str | None, certificates: list[str] | None = None) -> str:
    with pytest.raises(AmxError) as caught:
        subject.authenticate(authorization, certificates or [])
    assert (caught.value.code, caught.value.reason) == (UNAUTHENTICATED, "UNAUTHENTICATED")
    return caught.value.message


def test_token_stands_for_its_subject_namespace_and_roles() -> None:
    identity = authenticator(tokens=[WORKER]).authenticate("Bearer w-secret")
    assert (identity.subject, identity.namespace, identity.roles) == ("billing", "eu", ("worker",))
    assert identity.allows("agents:register")
    assert not identity.allows("agents:write")


def test_token_may_be_configured_by_its_digest() -> None:
    digest = hashlib.sha256(b"w-secret").hexdigest().upper()
    subject = authenticator(tokens=[{"token_sha256": digest, "subject": "a", "roles": ["viewer"]}])
    assert subject.authenticate("bearer  w-secret ").subject == "a"


def test_wrong_token_is_refused_even_where_none_is_needed() -> None:
    subject = authenticator()
    assert not subject.required
    assert "not known to this engine" in refusal(subject, "Bearer nonsense")


def test_refusals_never_repeat_the_token() -> None:
    assert "tops3cret" not in refusal(authenticator(tokens=[WORKER]), "Bearer tops3cret")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "w-secret", "Basic dTpw"])
def test_other_schemes_are_refused_with_the_right_form(authorization: str) -> None:
    assert "Bearer <token>" in refusal(authenticator(tokens=[WORKER]), authorization)


def test_loopback_without_tokens_needs_none() -> None:
    identity = authenticator().authenticate(None)
    assert identity is ANONYMOUS
    assert identity.namespace == "default"
    assert identity.allows("anything:at-all")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "engine.example"])
def test_other_addresses_need_a_token(host: str) -> None:
    message = refusal(authenticator(host), None)
    assert "security.tokens" in message
    assert "AMX_TOKEN" in message


def test_configured_tokens_are_enforced_on_loopback_too() -> None:
    assert authenticator(tokens=[WORKER]).required


def test_operator_may_decide_either_way() -> None:
    assert authenticator(require_token=True).required
    assert not authenticator("0.0.0.0", tokens=[WORKER], require_token=False).required


def test_who_needs_a_token_and_knows_none_refuses_everybody() -> None:
    assert authenticator("0.0.0.0").refuses_everybody
    assert authenticator(require_token=True).refuses_everybody
    assert not authenticator("0.0.0.0", tokens=[WORKER]).refuses_everybody
    assert not authenticator().refuses_everybody


def test_client_certificate_stands_for_a_configured_subject() -> None:
    subject = authenticator("0.0.0.0", tokens=[WORKER])
    assert subject.authenticate(None, ["unknown", "billing"]).namespace == "eu"
    assert "'stranger' is not configured" in refusal(subject, None, ["stranger"])


def test_metadata_and_certificates_of_a_call_are_read() -> None:
    subject = authenticator("0.0.0.0", tokens=[WORKER])
    assert subject.authenticate_metadata([("a", "b"), ("authorization", "Bearer w-secret")], {}).subject == "billing"
    context = {"x509_common_name": [b"billing"]}
    assert subject.authenticate_metadata(None, context).subject == "billing"


def test_token_wins_over_certificate() -> None:
    other = {"token": "o", "subject": "other", "roles": ["viewer"]}
    subject = authenticator(tokens=[WORKER, other])
    assert subject.authenticate("Bearer o", ["billing"]).subject == "other"


@pytest.mark.parametrize(
    ("security", "part"),
    [
        ({"tokens": [{**WORKER, "roles": ["wroker"]}]}, "unknown role 'wroker'; known roles: admin, client"),
        ({"tokens": [WORKER, {**WORKER, "subject": "b"}]}, "configured twice"),
        ({"roles": {"odd": ["a b"]}}, "'a b' is not a permission"),
    ],
)
def test_configuration_that_makes_no_sense_is_refused(security: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match="security") as caught:
        authenticator(**security)
    assert part in caught.value.message


def test_configured_roles_add_to_and_replace_built_in_ones() -> None:
    subject = authenticator(
        roles={"orders": ["orders:*"], "viewer": ["engine:read"]},
        tokens=[{"token": "t", "subject": "a", "roles": ["orders", "viewer"]}],
    )
    identity = subject.authenticate("Bearer t")
    assert identity.allows("orders:refund:large")
    assert identity.allows("engine:read")
    assert not identity.allows("agents:read")


@pytest.mark.parametrize(
    ("granted", "permission", "answer"),
    [
        ("*", "a:b", True),
        ("a:*", "a:b", True),
        ("a:*", "a:b:c", True),
        ("a:*", "a", False),
        ("a:*", "ab:c", False),
        ("a:b", "a:b", True),
        ("a:b", "a:bc", False),
        ("a:b:*", "a:b:c", True),
        ("a:b:*", "a:c:d", False),
    ],
)
def test_wildcards_grant_what_is_below_them(granted: str, permission: str, answer: bool) -> None:
    assert grants([granted], permission) is answer
    identity = Identity("a", "default", (), [granted])
    assert identity.allows(permission) is answer
    assert identity.allows(permission) is answer  # remembered


def test_missing_permission_is_named_with_what_needs_it() -> None:
    identity = Identity("a", "default", (), ["agents:read"])
    identity.require("agents:read", "listing agents")
    with pytest.raises(AmxError) as caught:
        identity.require("agents:write", "switching versions")
    assert caught.value.code == PERMISSION_DENIED
    assert caught.value.metadata == {"permission": "agents:write"}
    assert "Switching versions needs the permission 'agents:write'" in caught.value.message


def test_answers_are_remembered_within_bounds() -> None:
    identity = Identity("a", "default", (), ["a:*"])
    for number in range(10_000):
        assert identity.allows(f"a:{number}")
    assert len(identity._answers) <= 4096


def test_built_in_roles_grant_known_permissions_only() -> None:
    for role, permissions in ROLES.items():
        for permission in permissions - {"*"}:
            assert permission in PERMISSIONS, (role, permission)
    assert all(is_permission(permission) for permission in PERMISSIONS)
    assert not any(permission.endswith((":write", ":register", ":send")) for permission in ROLES["viewer"])
