"""TLS: whose certificates are trusted, and that nobody is led out of it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from folder_server import Quiet, serving

from genrep.datasets_manifest.transport import Limits, PullConfig, pull, read_remote_manifest
from genrep.errors import DatasetError


class Redirecting(Quiet):
    def do_GET(self) -> None:
        if self.path.startswith("/out/"):
            self.send_response(302)
            self.send_header("Location", f"http://{self.headers['Host']}/manifest.json")
            self.end_headers()
        else:
            super().do_GET()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that is its own authority, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form = (pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(key.private_bytes(*form) + made.public_bytes(pem))
    return path


@pytest.fixture
def address(small: Path, certificate: Path) -> Iterator[str]:
    """Where a server with that certificate offers the small dataset."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(small, context, Redirecting) as url:
        yield url


def test_an_unknown_certificate_is_refused_at_once(address: str, limits: Limits) -> None:
    with pytest.raises(DatasetError, match=r"manifest.json: its certificate is not trusted: self.signed certificate$"):
        read_remote_manifest(address, limits=limits)


def test_with_a_certificate_that_is_known_all_is_fetched(
    address: str,
    certificate: Path,
    small: Path,
    limits: Limits,
    same: Callable[[Path, Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    pull(PullConfig(source=address, out=tmp_path / "out", limits=limits))
    same(tmp_path / "out", small)
    with pytest.raises(DatasetError, match=r"it redirects from https to http://127.0.0.1:\d+/manifest.json$"):
        read_remote_manifest(f"{address}/out", limits=limits)
