"""Who may reach whom, from the rendered policies; and the doors: Ingress, HTTPRoute, ServiceMonitor."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.rendering import SERVICES, environment, find, refused, render, select

COMPONENT = "app.kubernetes.io/component"


def _callers(manifests: list[dict[str, Any]], name: str) -> set[str]:
    rules = find(manifests, "NetworkPolicy", name)["spec"]["ingress"]
    return {
        peer["podSelector"]["matchLabels"][COMPONENT]
        for rule in rules or []
        for peer in rule.get("from", [])
        if "podSelector" in peer and COMPONENT in peer["podSelector"]["matchLabels"]
    }


def test_nothing_is_open_that_nobody_needs() -> None:
    manifests = render(backup__enabled=True)
    default = find(manifests, "NetworkPolicy", "default-deny")["spec"]
    assert set(default["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in default
    assert _callers(manifests, "agent") == {"gateway"}
    assert _callers(manifests, "inference") == {"gateway", "agent", "rag"}
    assert _callers(manifests, "postgres") == {"gateway", "agent", "rag", "tools", "mlflow", "migrate", "backup"}
    assert _callers(manifests, "redis") == {"gateway", "rag"}
    assert _callers(manifests, "chroma") == {"rag", "backup"}


def test_each_target_that_a_service_is_told_is_open_to_it() -> None:
    manifests = render()
    for name in SERVICES:
        for variable in environment(manifests, name):
            if variable.endswith("_TARGET"):
                target = variable.removeprefix(f"ERRAND_{name.upper()}_").removesuffix("_TARGET").lower()
                assert name in _callers(manifests, target)
                egress = find(manifests, "NetworkPolicy", name)["spec"]["egress"]
                reached = [
                    p["podSelector"]["matchLabels"][COMPONENT] for r in egress for p in r["to"] if "podSelector" in p
                ]
                assert target in reached


def _reaches_out(name: str, **values: Any) -> bool:
    egress = find(render(**values), "NetworkPolicy", name)["spec"]["egress"]
    return any("ipBlock" in peer for rule in egress for peer in rule["to"])


def test_agents_reach_flagd_by_its_port_where_it_is_set() -> None:
    egress = find(render(agent__settings__flagd_target="flagd.ops:8015"), "NetworkPolicy", "agent")["spec"]["egress"]
    [anywhere] = [rule for rule in egress if any("ipBlock" in peer for peer in rule["to"])]
    assert anywhere["ports"] == [{"port": 8015}]


def test_only_tools_and_models_reach_the_internet_and_never_the_private_networks() -> None:
    assert [name for name in SERVICES if _reaches_out(name)] == ["inference", "tools"]
    assert not [name for name in SERVICES if _reaches_out(name, networkPolicy__internet=False)]
    egress = find(render(), "NetworkPolicy", "tools")["spec"]["egress"]
    block = next(p["ipBlock"] for r in egress for p in r["to"] if p.get("ipBlock", {}).get("cidr") == "0.0.0.0/0")
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(block["except"])


@pytest.mark.parametrize(("name", "setting"), [("agent", "webhook_hosts"), ("rag", "fetch_hosts")])
def test_those_who_are_told_hosts_reach_the_internet_too(name: str, setting: str) -> None:
    hosts: dict[str, Any] = {f"{name}__settings": {setting: ["hooks.example.com"]}}
    assert _reaches_out(name, **hosts)
    assert not _reaches_out(name, **hosts, networkPolicy__internet=False)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "agent",
            {"webhook_hosts": ["10.0.0.7:80", "hooks.example.com"], "webhook_private_networks": ["10.20.0.0/16"]},
        ),
        ("rag", {"fetch_hosts": ["10.0.0.7:8080"], "fetch_private_networks": ["10.20.0.0/16"]}),
        ("tools", {"http_allow_list": ["10.0.0.7"], "http_private_networks": ["10.20.0.0/16"]}),
    ],
)
def test_private_networks_are_open_to_the_service_whose_settings_name_them(name: str, settings: dict[str, Any]) -> None:
    policy = find(render(**{f"{name}__settings": settings, "networkPolicy__internet": False}), "NetworkPolicy", name)
    blocks = [peer["ipBlock"] for rule in policy["spec"]["egress"] for peer in rule["to"] if "ipBlock" in peer]
    assert blocks == [{"cidr": "10.20.0.0/16"}, {"cidr": "10.0.0.7/32"}]


def test_who_may_call_the_gateway_can_be_narrowed() -> None:
    everybody = find(render(), "NetworkPolicy", "gateway")["spec"]["ingress"]
    assert any("from" not in rule for rule in everybody)
    source = [{"namespaceSelector": {"matchLabels": {"team": "web"}}}]
    narrowed = find(render(networkPolicy__gatewayFrom=source), "NetworkPolicy", "gateway")["spec"]["ingress"]
    assert all("from" in rule for rule in narrowed)
    # The services still read the public keys there.
    assert any(peer.get("podSelector") for rule in narrowed for peer in rule["from"])


def test_metrics_are_open_to_those_who_are_named() -> None:
    def open_to(**values: Any) -> list[Any]:
        rules = find(render(**values), "NetworkPolicy", "agent")["spec"]["ingress"]
        return [rule for rule in rules if rule["ports"] == [{"port": 9090}]]

    assert not open_to()
    assert open_to(networkPolicy__metricsFrom=[{"namespaceSelector": {}}])


def test_policies_can_be_left_out() -> None:
    assert not select(render(networkPolicy__enabled=False), "NetworkPolicy")


@pytest.mark.parametrize("kind", ["Ingress", "HTTPRoute", "ServiceMonitor"])
def test_a_door_is_there_only_when_it_is_asked_for(kind: str) -> None:
    assert not select(render(), kind)


def test_the_ingress_lets_streams_flow() -> None:
    ingress = find(render(ingress={"enabled": True, "tlsSecret": "tls"}), "Ingress", "")
    notes = ingress["metadata"]["annotations"]
    assert notes["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert int(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"]) >= 300
    assert ingress["spec"]["tls"] == [{"hosts": ["errand.local"], "secretName": "tls"}]


def test_a_route_needs_a_gateway_to_hang_on() -> None:
    route = find(render(httpRoute={"enabled": True, "gateway": {"name": "public"}}), "HTTPRoute", "")
    assert route["spec"]["parentRefs"] == [{"name": "public"}]
    # A stream of a run may take longer than any proxy's own limit.
    assert route["spec"]["rules"][0]["timeouts"] == {"request": "0s"}
    assert "httpRoute.gateway.name" in refused(httpRoute__enabled=True)


def test_a_gateway_reaches_the_providers_where_people_log_in() -> None:
    provider = {"name": "sso", "issuer": "https://sso.example.com", "client_id": "x", "tenant_id": "t"}
    settings = {
        "login_providers": [{**provider, "default_roles": ["user"]}],
        "public_url": "https://errand.example.com",
    }
    secrets = {"login_client_secrets": {"secret": "sso", "key": "json"}}
    assert not _reaches_out("gateway")
    assert _reaches_out("gateway", gateway__settings=settings, gateway__secretSettings=secrets)
    assert "gateway.settings" in refused(gateway__settings={"login_client_secrets": {"sso": "canary"}})
