"""The metric table of all services, read from the code that exports the series."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SERVICES = ("gateway", "agent", "inference", "rag", "tools")
EVERY = "every service"
_REGISTERS = re.compile(r"from errand_common\.telemetry\.metrics import (?:\([^)]*|.*)\b(counter|gauge|histogram)\b")


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table: who exports it, what it is, what it means."""

    service: str
    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...]

    def series(self) -> dict[str, frozenset[str]]:
        """The names Prometheus stores it under, each with its labels."""
        labels = frozenset(self.labels)
        if self.kind != "histogram":
            return {self.name: labels}
        return {
            f"{self.name}_bucket": labels | {"le"},
            f"{self.name}_sum": labels,
            f"{self.name}_count": labels,
        }


@cache
def metric_table() -> tuple[Metric, ...]:
    """Every metric of every service.

    Read in a process of its own: the table of this one may hold the rows of tests.
    """
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    if done.returncode:
        raise RuntimeError(f"The metric table cannot be read: {done.stderr[-2000:]}")
    return tuple(Metric(**{**row, "labels": tuple(row["labels"])}) for row in json.loads(done.stdout))


@cache
def exported_series() -> dict[str, frozenset[str]]:
    """Every series of the suite with its own labels."""
    return {name: labels for metric in metric_table() for name, labels in metric.series().items()}


def _collect() -> Iterator[Metric]:
    from errand_common.telemetry.metrics import METRICS  # noqa: PLC0415 - only the process of its own needs it

    known: set[str] = set()
    for service in ("common", *SERVICES):
        for module in _modules(PROJECT / "services" / service / "src"):
            importlib.import_module(module)
        for name in sorted(set(METRICS) - known):
            row = METRICS[name]
            yield Metric(EVERY if service == "common" else service, name, row.kind, row.meaning, row.labels)
        known = set(METRICS)


def _modules(source: Path) -> Iterator[str]:
    """The modules that register metrics."""
    for path in sorted(source.rglob("*.py")):
        if "testing" not in path.parts and _REGISTERS.search(path.read_text(encoding="utf-8")):
            yield ".".join(path.relative_to(source).with_suffix("").parts)


_HEAD = """# Metrics

Made by `make docs` from the code that exports them. The gateway answers at `/metrics` on its own port; every service at
`/metrics` on `ERRAND_<SERVICE>_METRICS_PORT` (0, the default, turns it off). Durations are in seconds unless the name
says otherwise. Labels have few values each; no label carries an id or a user's text, but for agents' names, of which
the first 50 keep theirs and later ones are `other`. A histogram is stored as `_bucket` (with `le`), `_sum` and
`_count`; to scrapers that ask for OpenMetrics its points carry the `trace_id` of a request.
"""


def page() -> str:
    """docs/operations/metrics.md."""
    parts = [_HEAD]
    for service in (EVERY, *SERVICES):
        parts += [
            f"\n## {service[0].upper()}{service[1:]}\n",
            "| metric | kind | labels | meaning |",
            "|---|---|---|---|",
        ]
        for metric in (row for row in metric_table() if row.service == service):
            labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
            parts.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(metric) for metric in _collect()]))
