"""Issues what the chart's Certificates ask for, in the form of cert-manager's Secrets, where it does not run."""

from __future__ import annotations

import datetime
import subprocess
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.chart.rendering import CHART, helm

PEM = serialization.Encoding.PEM


def wanted(namespace: str) -> list[dict[str, Any]]:
    """The services' Certificates as the chart would hand them to cert-manager."""
    command = [helm(), "template", "errand", str(CHART), "--namespace", namespace, "--set", "mtls.enabled=true"]
    rendered = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    found = [document for document in yaml.safe_load_all(rendered) if document and document["kind"] == "Certificate"]
    return [certificate["spec"] for certificate in found if not certificate["spec"].get("isCA")]


class Authority:
    """An authority of its own: what it issues, another one does not accept."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "errand")])
        self.certificate = self._sign(self._name, self._key.public_key(), [], authority=True)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, hosts: list[str], *, authority: bool = False
    ) -> str:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(PEM).decode()

    def issue(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The Secret that a Certificate of this spec leads to."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, spec["commonName"])])
        plain = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        data = {
            "tls.crt": self._sign(subject, key.public_key(), spec["dnsNames"]),
            "tls.key": plain,
            "ca.crt": self.certificate,
        }
        metadata = {"name": spec["secretName"]}
        return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata} | {
            "stringData": data
        }
