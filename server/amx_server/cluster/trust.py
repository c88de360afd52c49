"""How one of several engines recognises another, and on whose behalf that one speaks.

Peers connect over Unix sockets and show a secret that the process which started them all has given to each.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable

from amx_server.security.identity import Identity

_SECRET = "x-amx-peer"
_IDENTITY = "x-amx-identity-bin"

Metadata = tuple[tuple[str, str | bytes], ...]


class PeerTrust:
    """Writes and reads the metadata of calls between engines."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def metadata(self, identity: Identity) -> Metadata:
        """What a peer needs to act for `identity`."""
        who = {
            "subject": identity.subject,
            "namespace": identity.namespace,
            "roles": list(identity.roles),
            "permissions": sorted(identity.permissions),
        }
        return ((_SECRET, self._secret.decode()), (_IDENTITY, json.dumps(who).encode()))

    def identity(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> Identity | None:
        """For whom a peer speaks; None: the caller is no peer."""
        found: dict[str, str | bytes] = {name: value for name, value in metadata or () if name in (_SECRET, _IDENTITY)}
        shown = found.get(_SECRET)
        if shown is None:
            return None
        if not hmac.compare_digest(shown.encode() if isinstance(shown, str) else shown, self._secret):
            return None
        who = json.loads(found[_IDENTITY])
        return Identity(who["subject"], who["namespace"], who["roles"], who["permissions"], peer=True)
