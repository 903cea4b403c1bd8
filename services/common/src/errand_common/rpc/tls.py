"""Mutual TLS between services: who has no certificate of the suite's own authority cannot even connect."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import grpc

from errand_common.settings import SettingsError

FILES = ("tls.key", "tls.crt", "ca.crt")


class TlsFiles:
    """A folder as cert-manager writes it: tls.key, tls.crt and ca.crt, all PEM."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Key, certificate chain and authority; raises SettingsError that names the file that is missing."""
        missing = [name for name in FILES if not (self._folder / name).is_file()]
        if missing:
            raise SettingsError(f"tls_dir: {self._folder} holds no {' and no '.join(missing)}")
        key, chain, authority = ((self._folder / name).read_bytes() for name in FILES)
        return key, chain, authority

    def server_credentials(self) -> grpc.ServerCredentials:
        """Asks every client for a certificate; a certificate that was renewed counts from the next connection on."""
        current = self.read()

        def renewed() -> grpc.ServerCertificateConfiguration:
            nonlocal current
            # Halfway through a renewal the old one holds.
            with suppress(OSError, SettingsError):
                current = self.read()
            return _configuration(current)

        return grpc.dynamic_ssl_server_credentials(_configuration(current), renewed, require_client_authentication=True)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Shows the service's own certificate and believes the authority alone."""
        key, chain, authority = self.read()
        return grpc.ssl_channel_credentials(authority, key, chain)


def _configuration(files: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
    key, chain, authority = files
    return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=authority)


_own: TlsFiles | None = None


def configure_tls(folder: Path | None) -> None:
    """What channels of this process show from now on; None is plain text. Raises SettingsError as `read` does."""
    global _own  # noqa: PLW0603 - a process is one service with one certificate
    files = TlsFiles(folder) if folder else None
    if files:
        files.read()
    _own = files


def own_files() -> TlsFiles | None:
    """The certificate of this process, where it has one."""
    return _own
