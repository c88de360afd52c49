"""Who calls, and what they may do: bearer tokens and client certificates become identities.

What each permission means is in permissions.py; where each is asked for is in api/ and runtime/.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence

from amx_server.core.config import ConfigError, EngineConfig
from amx_server.core.errors import UNAUTHENTICATED, AmxError, denied
from amx_server.security.permissions import ROLES, grants, is_permission

# Answers remembered per identity. Applications name permissions in handlers, so there are few; this bounds mischief.
_REMEMBERED = 4096


class Identity:
    """A caller: who it is, the one namespace it acts in, what it may do. Never changes."""

    __slots__ = ("_answers", "namespace", "peer", "permissions", "roles", "subject")

    def __init__(
        self,
        subject: str,
        namespace: str,
        roles: Iterable[str] = (),
        permissions: Iterable[str] = (),
        *,
        peer: bool = False,
    ) -> None:
        """peer: another engine of the same address speaks for it, and has done what comes before ownership."""
        self.subject = subject
        self.namespace = namespace
        self.roles = tuple(roles)
        self.permissions = frozenset(permissions)
        self.peer = peer
        self._answers: dict[str, bool] = {}

    def allows(self, permission: str) -> bool:
        """Whether the identity holds `permission`, directly or by a wildcard. A dictionary look-up once asked."""
        answer = self._answers.get(permission)
        if answer is None:
            answer = grants(self.permissions, permission)
            if len(self._answers) < _REMEMBERED:
                self._answers[permission] = answer
        return answer

    def require(self, permission: str, what: str) -> None:
        """Returns if the identity holds `permission`; raises AmxError PERMISSION_DENIED, which says what needs it.

        what: what is being done, as the beginning of a sentence, e.g. `registering agents`.
        """
        if not self.allows(permission):
            raise denied(permission, what[:1].upper() + what[1:])

    def __repr__(self) -> str:
        return f"Identity({self.subject!r}, namespace={self.namespace!r}, roles={self.roles!r})"


# Whoever reaches an engine that asks for no token: the developer on this machine.
ANONYMOUS = Identity("anonymous", "default", ("admin",), ROLES["admin"])


class Authenticator:
    """Turns credentials into identities."""

    def __init__(self, config: EngineConfig) -> None:
        """Raises ConfigError for roles and permissions that do not exist, and for tokens configured twice."""
        security = config.security
        roles, problems = _roles(security.roles)
        # By SHA-256 of the token: neither the look-up nor a memory dump gives the token away.
        self._identities: dict[bytes, Identity] = {}
        self._by_subject: dict[str, Identity] = {}
        for index, entry in enumerate(security.tokens):
            where = f"security.tokens.{index} ({entry.subject})"
            unknown = [role for role in entry.roles if role not in roles]
            if unknown:
                problems.append(f"{where}: unknown role '{unknown[0]}'; known roles: {', '.join(sorted(roles))}")
                continue
            permissions = frozenset[str]().union(*(roles[role] for role in entry.roles))
            identity = Identity(entry.subject, entry.namespace, entry.roles, permissions)
            if entry.token is not None:
                digest = _digest(entry.token.get_secret_value())
            else:
                digest = bytes.fromhex(entry.token_sha256 or "")
            if digest in self._identities:
                problems.append(f"{where}: the same token is configured twice; give each subject its own")
            self._identities[digest] = identity
            self._by_subject.setdefault(entry.subject, identity)
        if problems:
            raise ConfigError(problems)

        if security.require_token is not None:
            self.required = security.require_token
        else:
            # Who can reach a loopback address or a Unix socket could start the engine themselves.
            self.required = bool(security.tokens) or not config.local_only
        self.refuses_everybody = self.required and not security.tokens
        """Whether a token is required and none is known."""

    def authenticate(self, authorization: str | None, certificate_subjects: Sequence[str] = ()) -> Identity:
        """The identity that credentials stand for.

        authorization: value of the `authorization` metadata, e.g. `Bearer abc`; None: none was sent.
        certificate_subjects: common names (or alternative names) of a client certificate that TLS has verified.

        A token, when there is one, decides alone: a wrong one is refused even where none is needed. A certificate
        whose subject is configured under `security.tokens` has that entry's namespace and roles.
        Raises AmxError UNAUTHENTICATED, which says what to do.
        """
        if authorization is not None:
            return self._by_token(authorization)
        for subject in certificate_subjects:
            identity = self._by_subject.get(subject)
            if identity is not None:
                return identity
        if not self.required:
            return ANONYMOUS
        if certificate_subjects:
            raise _unauthenticated(
                f"the client certificate's subject '{certificate_subjects[0]}' is not configured;"
                " add an entry with this subject and its roles to security.tokens"
            )
        raise _unauthenticated(
            "this engine needs a token and none was sent; send the metadata 'authorization: Bearer <token>'"
            " (the SDKs and the command line take it from AMX_TOKEN) with a token configured in security.tokens"
        )

    def authenticate_metadata(
        self, metadata: Iterable[tuple[str, str | bytes]] | None, auth_context: Mapping[str, Iterable[bytes]]
    ) -> Identity:
        """The identity of a gRPC call, from its metadata and its `auth_context()`. Raises as `authenticate` does."""
        authorization: str | None = None
        for key, value in metadata or ():
            if key == "authorization":
                authorization = value.decode("latin-1") if isinstance(value, bytes) else value
                break
        names = [
            name.decode("utf-8", "replace")
            for key in ("x509_common_name", "x509_subject_alternative_name")
            for name in auth_context.get(key, ())
        ]
        return self.authenticate(authorization, names)

    def _by_token(self, authorization: str) -> Identity:
        scheme, _, token = authorization.strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _unauthenticated("the 'authorization' metadata is not of the form 'Bearer <token>'; write it so")
        presented = _digest(token)
        found: Identity | None = None
        # Compares with every token, each in constant time: how long it takes says nothing about what is configured.
        for digest, identity in self._identities.items():
            if hmac.compare_digest(digest, presented):
                found = identity
        if found is None:
            raise _unauthenticated(
                "the token is not known to this engine; use one that is configured in its security.tokens,"
                " or send none where none is needed"
            )
        return found


def _roles(configured: Mapping[str, Sequence[str]]) -> tuple[dict[str, frozenset[str]], list[str]]:
    """Every role by name, and what is wrong with the configured ones."""
    problems = [
        f"security.roles.{role}: '{permission}' is not a permission; write 'area:action', 'area:*' or '*'"
        for role, permissions in configured.items()
        for permission in permissions
        if not is_permission(permission)
    ]
    return {**ROLES, **{role: frozenset(permissions) for role, permissions in configured.items()}}, problems


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _unauthenticated(message: str) -> AmxError:
    return AmxError(UNAUTHENTICATED, "UNAUTHENTICATED", message)
