"""The ways to an engine besides plain TCP: Unix sockets, TLS, client certificates."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Answer, call, running

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificates with openssl"),
]


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority `ca.pem`, and certificates of `server` (localhost), `billing` and `stranger`."""
    folder = tmp_path_factory.mktemp("certificates")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(folder, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test CA")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name, subject in (("server", "localhost"), ("billing", "billing"), ("stranger", "stranger")):
        openssl(folder, "req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}")
        extensions = ("-extfile", "names") if name == "server" else ()
        openssl(
            folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", *extensions,
        )  # fmt: skip
    return folder


def status(address: str, **environment: str) -> Answer:
    return call("status", "--json", "--timeout", "10s", environment={"AMX_ADDRESS": address, **environment})


def test_tls_is_spoken_with_those_who_trust_the_authority(tmp_path: Path, certificates: Path) -> None:
    (tmp_path / "amx-config.yaml").write_text(
        f"grpc: {{port: 0, tls: {{cert: {certificates}/server.pem, key: {certificates}/server.key}}}}\n"
        "http: {enabled: false}\n"
        "security: {tokens: [{token: t, subject: a, roles: [viewer]}]}\n"
    )
    with running("serve", folder=tmp_path) as engine:
        address = f"https://localhost:{engine.address.rpartition(':')[2]}"
        trusting = status(address, AMX_CA=str(certificates / "ca.pem"), AMX_TOKEN="t")
        assert trusting.code == 0, trusting
        assert status(address, AMX_TOKEN="t").code == 3  # the system's authorities did not sign this
        assert status(engine.address, AMX_TOKEN="t").code == 3  # plain text


def test_client_certificate_stands_for_its_subject(tmp_path: Path, certificates: Path) -> None:
    (tmp_path / "amx-config.yaml").write_text(
        "grpc:\n  host: 0.0.0.0\n  port: 0\n"
        f"  tls: {{cert: {certificates}/server.pem, key: {certificates}/server.key,"
        f" client_ca: {certificates}/ca.pem}}\n"
        "http: {enabled: false}\n"
        "security: {tokens: [{token: unused, subject: billing, roles: [viewer]}]}\n"
    )
    with running("serve", folder=tmp_path) as engine:
        address = f"https://localhost:{engine.address.rpartition(':')[2]}"

        def as_subject(name: str) -> Answer:
            paths = {"AMX_CERT": f"{certificates}/{name}.pem", "AMX_KEY": f"{certificates}/{name}.key"}
            return status(address, AMX_CA=str(certificates / "ca.pem"), **paths)

        assert as_subject("billing").code == 0
        stranger = as_subject("stranger")
        assert stranger.code == 5
        assert "'stranger' is not configured" in stranger.err
        assert status(address, AMX_CA=str(certificates / "ca.pem")).code == 3  # no certificate, no connection


def test_certificate_that_cannot_be_read_is_named(certificates: Path) -> None:
    answer = status("https://localhost:1", AMX_CA=str(certificates / "nothing.pem"))
    assert answer.code == 2
    assert "AMX_CA" in answer.err


def test_unix_socket_is_served_beside_tcp(tmp_path: Path) -> None:
    socket = tmp_path / "amx.sock"
    settings = ("--set", "grpc.port=0", "--set", "http.enabled=false", "--set", f"grpc.unix_socket={socket}")
    with running("serve", *settings, folder=tmp_path) as engine:
        assert status(f"unix:{socket}").code == 0
        assert status(engine.address).code == 0
