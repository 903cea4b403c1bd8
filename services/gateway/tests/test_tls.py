"""HTTPS with an own certificate, which may be renewed while the gateway runs."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from errand_common.testing.keys import TestKeys, free_port
from errand_gateway.settings import GatewaySettings
from errand_gateway.testing.backend import FakeBackend
from pydantic import ValidationError

from .test_process import start, until_ready


def write_certificate(folder: Path, name: str) -> None:
    """A new key and a certificate for 127.0.0.1 that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def client(folder: Path, port: int) -> httpx.AsyncClient:
    """A client that trusts the certificate that is in the folder now."""
    trust = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    return httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trust, timeout=20)


async def test_https_and_a_renewed_certificate(tmp_path: Path, backend: FakeBackend, keys: TestKeys) -> None:
    write_certificate(tmp_path, "first")
    port = free_port()
    process = await start(
        tmp_path / "data", backend, keys, port,
        TLS_CERTIFICATE_FILE=str(tmp_path / "tls.crt"), TLS_KEY_FILE=str(tmp_path / "tls.key"), TLS_RENEW_SECONDS="0.2",
    )  # fmt: skip
    try:
        async with client(tmp_path, port) as http:
            await until_ready(http)
            assert (await http.get("/healthz")).headers["strict-transport-security"] == "max-age=31536000"
        write_certificate(tmp_path, "second")
        async with asyncio.timeout(20):
            while True:
                try:
                    async with client(tmp_path, port) as http:
                        assert (await http.get("/healthz")).status_code == 200
                        break
                except httpx.ConnectError:
                    await asyncio.sleep(0.1)
    finally:
        process.terminate()
        await process.communicate()


def test_one_file_alone_is_refused(tmp_path: Path) -> None:
    write_certificate(tmp_path, "lonely")
    with pytest.raises(ValidationError, match="tls_key_file"):
        GatewaySettings(tls_certificate_file=tmp_path / "tls.crt")
