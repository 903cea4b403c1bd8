"""A real Prometheus that scrapes a suite, with the rules that the chart installs."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from errand_common.testing.keys import free_port

from tests.observability.promtool import FILES, binary

_SCRAPE_SECONDS = 1
_START_SECONDS = 60


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=60)

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return self._http.get("/-/ready").is_success
        except httpx.HTTPError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """What it answers; fails the test on an error."""
        response = self._http.get(f"/api/v1/{path}", params=parameters)
        body = response.json()
        assert body["status"] == "success", f"{path} {parameters}: {body}"
        return body["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Series and their values now."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float:
        """The one series' value; 0 when there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else 0.0

    def scrapes(self) -> list[dict[str, Any]]:
        """Each target with how its last scrape went."""
        targets: list[dict[str, Any]] = self.get("targets", state="active")["activeTargets"]
        return targets

    def after_scrapes(self, count: int = 3) -> None:
        """Returns when every target was scraped so many times more."""
        before = self.value("min(count_over_time(up[1h]))")
        until = time.monotonic() + 60
        while self.value("min(count_over_time(up[1h]))") < before + count and time.monotonic() < until:
            time.sleep(0.2)

    def recorded(self, is_there: Callable[[], bool]) -> None:
        """Returns when rules have recorded what is looked for, or will not."""
        until = time.monotonic() + 60
        while not is_there() and time.monotonic() < until:
            time.sleep(0.5)

    def close(self) -> None:
        """Closes connections."""
        self._http.close()


def _rules(folder: Path) -> list[str]:
    """The chart's files; what they record every half minute, or every five, is so every few seconds."""
    recorded = folder / "recording-rules.yaml"
    recorded.write_text(re.sub(r"interval: \w+", "interval: 5s", (FILES / recorded.name).read_text()))
    return [str(recorded), str(FILES / "alerts.yaml")]


def _configuration(targets: Mapping[str, str], rules: list[str]) -> dict[str, Any]:
    """As the chart's ServiceMonitor has it: a job's name holds the release's."""
    jobs = [
        {"job_name": f"errand-{name}", "static_configs": [{"targets": [target]}]} for name, target in targets.items()
    ]
    return {
        "global": {"scrape_interval": f"{_SCRAPE_SECONDS}s", "evaluation_interval": "2s"},
        "rule_files": rules,
        "scrape_configs": jobs,
    }


@contextmanager
def scraping(targets: Mapping[str, str], folder: Path) -> Iterator[Prometheus]:
    """Runs until the end of the block; `targets` are host and port by service."""
    port = free_port()
    configuration = folder / "prometheus.yaml"
    configuration.write_text(yaml.safe_dump(_configuration(targets, _rules(folder))))
    command = [
        binary("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'series'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        try:
            until = time.monotonic() + _START_SECONDS
            while not prometheus.is_ready():
                assert process.poll() is None, (folder / "prometheus.log").read_text()
                assert time.monotonic() < until, "Prometheus does not answer"
                time.sleep(0.2)
            yield prometheus
        finally:
            prometheus.close()
            process.terminate()
            process.wait(20)
