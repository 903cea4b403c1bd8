"""Mutual TLS between the services: they answer each other, and nobody who shows no certificate of theirs."""

from __future__ import annotations

import json

import pytest

from tests.cluster.authority import Authority, wanted
from tests.cluster.cluster import Release, run

pytestmark = pytest.mark.timeout(900)

# Prints for each service what happens to who calls it in plain text, with no certificate, with another authority's, and
# with one of the suite's. Policies are off in this release: certificates alone decide.
STRANGER = """
import json, sys
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
authority, *pairs = json.loads(sys.argv[1])
ways = {"none": (None, None), "foreign": pairs[0], "own": pairs[1]}
channels = {"plain": grpc.insecure_channel} | {
    way: lambda target, key=key, own=own: grpc.secure_channel(
        target, grpc.ssl_channel_credentials(authority.encode(), key and key.encode(), own and own.encode()))
    for way, (key, own) in ways.items()
}
for name, port in (("agent", 50051), ("inference", 50052), ("rag", 50053), ("tools", 50054)):
    for way, channel in channels.items():
        try:
            stub = health_pb2_grpc.HealthStub(channel(f"errand-{name}-headless:{port}"))
            stub.Check(health_pb2.HealthCheckRequest(), timeout=15)
            print(name, way, "open")
        except grpc.RpcError:
            print(name, way, "closed")
"""


def _pair(authority: Authority, spec: dict[str, object]) -> tuple[str, str]:
    data = authority.issue(spec)["stringData"]
    return data["tls.key"], data["tls.crt"]


def test_services_with_certificates_answer_each_other_and_no_stranger(encrypted: Release) -> None:
    authority, specs = Authority(), wanted(encrypted.namespace)
    run("kubectl", "create", "namespace", encrypted.namespace)
    for spec in specs:
        encrypted.kubectl("apply", "--filename", "-", text=json.dumps(authority.issue(spec)))
    took = encrypted.install("--set", "mtls.enabled=true,mtls.certManager=false,networkPolicy.enabled=false")
    assert "ok     chat: " in encrypted.helm("test", "errand", "--logs")
    encrypted.log.say(f"mutual TLS: installed in {took:.1f} s, helm test passed")

    given = [authority.certificate, _pair(Authority(), specs[0]), _pair(authority, specs[0])]
    encrypted.start_pod("stranger", STRANGER, json.dumps(given))
    said = [line.split() for line in encrypted.pod_output("stranger").splitlines()]
    found = {(service, way): state for service, way, state in said}
    encrypted.log.say(f"mutual TLS: {' '.join(f'{name}/{way}={state}' for (name, way), state in found.items())}")
    assert len(found) == 16
    assert {way for (_, way), state in found.items() if state == "open"} == {"own"}
    assert sum(state == "open" for state in found.values()) == 4
