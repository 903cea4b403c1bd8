"""Which series and labels an expression asks for, and whether anybody exports them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import promql_parser

from charts.observability.slo import recorded_series
from charts.observability.table import exported_series

# What a scrape adds to every series; the last one comes from the chart's ServiceMonitor.
TARGET_LABELS = frozenset(
    {"job", "instance", "namespace", "pod", "container", "service", "endpoint", "app_kubernetes_io_component"}
)
# Of Prometheus itself, kube-state-metrics, the kubelet, cert-manager and the blackbox exporter.
_OTHERS = {
    "up": frozenset[str](),
    "kube_pod_status_ready": frozenset({"condition", "uid"}),
    "kubelet_volume_stats_available_bytes": frozenset({"persistentvolumeclaim"}),
    "kubelet_volume_stats_capacity_bytes": frozenset({"persistentvolumeclaim"}),
    "certmanager_certificate_expiration_timestamp_seconds": frozenset({"name", "issuer_name"}),
    "probe_ssl_earliest_cert_expiry": frozenset[str](),
}
_CHILDREN = ("expr", "lhs", "rhs", "param", "vector_selector", "vs")


def faults(expression: str) -> list[str]:
    """What is wrong with a query; empty when it parses and everything it names is exported."""
    try:
        tree = promql_parser.parse(_without_variables(expression))
    except ValueError as error:
        return [f"does not parse: {error}"]
    known = exported_series() | recorded_series() | _OTHERS
    wrong = []
    labels_at_hand = set(TARGET_LABELS) | set(_MADE_LABEL.findall(expression))
    for selector in _selectors(tree):
        if selector.name not in known:
            wrong.append(f"{selector.name} is not exported by any service")
            continue
        labels = known[selector.name] | TARGET_LABELS
        labels_at_hand |= labels
        asked = {matcher.name for matcher in selector.matchers.matchers}
        wrong += [f"{selector.name} has no label {label}" for label in sorted(asked - labels)]
    grouped = {label for labels in _GROUPINGS.findall(expression) for label in re.findall(r"\w+", labels)}
    return wrong + [f"no series here has the label {label}" for label in sorted(grouped - labels_at_hand)]


# label_replace(…, "new", "$1", …)
_MADE_LABEL = re.compile(r'"(\w+)",\s*"\$')
_GROUPINGS = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")


def _without_variables(expression: str) -> str:
    """Grafana puts durations and names in at the time of the query."""
    return re.sub(r"\$__\w+", "5m", expression)


def _selectors(node: object) -> Iterator[promql_parser.VectorSelector]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
        return
    for name in _CHILDREN:
        child = getattr(node, name, None)
        if child is not None:
            yield from _selectors(child)
    arguments = getattr(node, "args", None) or ()
    for argument in arguments:
        yield from _selectors(argument)
