"""How engines of one address recognise each other, and on whose behalf they speak."""

from __future__ import annotations

from amx_server.cluster.trust import PeerTrust
from amx_server.security.identity import Identity

ADA = Identity("ada", "tenant-7", ("client",), ("messages:send", "memory:read"))


def test_peer_speaks_for_somebody_else() -> None:
    known = PeerTrust("secret").identity(PeerTrust("secret").metadata(ADA))
    assert known is not None
    assert (known.subject, known.namespace, known.roles) == ("ada", "tenant-7", ("client",))
    assert known.permissions == ADA.permissions
    assert known.peer and not ADA.peer


def test_who_does_not_know_the_secret_is_no_peer() -> None:
    metadata = dict(PeerTrust("guess").metadata(ADA))
    assert PeerTrust("secret").identity(metadata.items()) is None
    del metadata["x-amx-peer"]
    assert PeerTrust("secret").identity(metadata.items()) is None
    assert PeerTrust("secret").identity(None) is None
