"""Mutual TLS: each service has a certificate for the name that it is called by."""

from __future__ import annotations

from tests.chart.rendering import SERVICES, environment, find, refused, render, select, workload


def test_certificates_only_where_they_are_asked_for() -> None:
    assert not select(render(), "Certificate")
    assert "ERRAND_AGENT_TLS_DIR" not in environment(render(), "agent")
    by_hand = render(mtls={"enabled": True, "certManager": False})
    assert not select(by_hand, "Certificate")
    assert not select(by_hand, "Issuer")
    assert environment(by_hand, "agent")["ERRAND_AGENT_TLS_DIR"] == "/tls"


def test_a_service_is_certified_for_the_name_that_others_call_it_by() -> None:
    manifests = render(mtls__enabled=True)
    called = {
        str(value).removeprefix("dns:///").partition(":")[0]
        for name in SERVICES
        for variable, value in environment(manifests, name).items()
        if variable.endswith("_TARGET")
    }
    certified = {host for m in select(manifests, "Certificate") for host in m["spec"].get("dnsNames", [])}
    assert len(called) == 4
    assert called <= certified


def test_pods_show_their_own_certificate() -> None:
    manifests = render(mtls__enabled=True)
    for name in SERVICES:
        spec = workload(manifests, name)["spec"]["template"]["spec"]
        (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "tls"]
        assert volume["secret"]["secretName"] == find(manifests, "Certificate", name)["spec"]["secretName"]
        assert {"name": "tls", "mountPath": "/tls", "readOnly": True} in spec["containers"][0]["volumeMounts"]


def test_the_kubelet_asks_where_no_certificate_is_needed() -> None:
    container = workload(render(mtls__enabled=True), "agent")["spec"]["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}


def test_an_authority_of_the_release_or_the_one_that_is_named() -> None:
    own = render(mtls__enabled=True)
    assert (
        find(own, "Certificate", "agent")["spec"]["issuerRef"]["name"]
        == find(own, "Issuer", "authority")["metadata"]["name"]
    )
    named = render(mtls={"enabled": True, "issuer": {"name": "company", "kind": "ClusterIssuer"}})
    assert not select(named, "Issuer")
    assert find(named, "Certificate", "agent")["spec"]["issuerRef"] == {
        "name": "company",
        "kind": "ClusterIssuer",
        "group": "cert-manager.io",
    }
    assert "mtls.duration" in refused(mtls__duration="1 year")
