"""Mutual TLS on real connections: who is let in, who is not, and what a renewal changes."""

import datetime
import ipaddress
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from errand_common.rpc.client import create_channel
from errand_common.rpc.server import RpcServer
from errand_common.rpc.tls import TlsFiles, configure_tls
from errand_common.settings import ServiceSettings, SettingsError
from errand_common.testing.keys import TestKeys
from grpc_health.v1 import health_pb2, health_pb2_grpc

NOW = datetime.datetime.now(datetime.UTC)


class Authority:
    """An authority that gives out certificates as cert-manager does."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "errand")])
        self._own = self._sign(self._name, self._key.public_key(), authority=True)

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool) -> x509.Certificate:
        loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(hours=1))
            .not_valid_after(NOW + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(loopback, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def write(self, folder: Path, name: str = "agent") -> Path:
        """A new certificate in the folder."""
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        own = self._sign(subject, key.public_key(), authority=False)
        pem = serialization.Encoding.PEM
        plain = serialization.NoEncryption()
        (folder / "tls.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        (folder / "tls.crt").write_bytes(own.public_bytes(pem))
        (folder / "ca.crt").write_bytes(self._own.public_bytes(pem))
        return folder


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture(autouse=True)
def plain_again() -> Iterator[None]:
    yield
    configure_tls(None)


@pytest.fixture
async def target(authority: Authority, keys: TestKeys, tmp_path: Path) -> AsyncIterator[str]:
    server = RpcServer(ServiceSettings(tls_dir=authority.write(tmp_path / "server")), keys.verifier, [])
    port = await server.start()
    await server.set_serving(True)
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def _health(target: str) -> int:
    async with create_channel(target) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        status: int = answer.status
        return status


async def test_a_service_of_the_suite_is_let_in(target: str, authority: Authority, tmp_path: Path) -> None:
    configure_tls(authority.write(tmp_path / "client"))
    assert await _health(target) == health_pb2.HealthCheckResponse.SERVING


async def test_plain_text_is_refused(target: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await _health(target)


async def test_a_certificate_of_another_authority_is_refused(target: str, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority().write(tmp_path / "stranger")
    # It believes the suite's authority, so that only the server can refuse.
    (stranger / "ca.crt").write_bytes((authority.write(tmp_path / "client") / "ca.crt").read_bytes())
    configure_tls(stranger)
    with pytest.raises(grpc.aio.AioRpcError):
        await _health(target)


async def test_no_certificate_at_all_is_refused(target: str, authority: Authority, tmp_path: Path) -> None:
    ca = (authority.write(tmp_path / "client") / "ca.crt").read_bytes()
    async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca)) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)


async def test_a_server_of_another_authority_is_not_believed(target: str, tmp_path: Path) -> None:
    configure_tls(Authority().write(tmp_path / "client"))
    with pytest.raises(grpc.aio.AioRpcError):
        await _health(target)


async def test_a_renewed_authority_is_taken_up_without_a_restart(target: str, tmp_path: Path) -> None:
    following = Authority()
    configure_tls(following.write(tmp_path / "client"))
    with pytest.raises(grpc.aio.AioRpcError):
        await _health(target)
    following.write(tmp_path / "server")
    assert await _health(target) == health_pb2.HealthCheckResponse.SERVING


def test_a_folder_without_the_files_names_them(tmp_path: Path) -> None:
    (tmp_path / "tls.key").write_text("")
    with pytest.raises(SettingsError, match=r"holds no tls\.crt and no ca\.crt"):
        TlsFiles(tmp_path).read()
    with pytest.raises(SettingsError, match="tls_dir"):
        configure_tls(tmp_path)
