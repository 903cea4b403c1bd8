"""`make dashboards-pictures`: every dashboard over a busy suite, a real Prometheus and a real Postgres.

    python -m tests.e2e.pictures [--seconds 150]

Each panel's own query is asked as Grafana asks it; what comes back is drawn by matplotlib, so the figures are real and
the looks are not Grafana's. After two thirds of the time the inference service is killed, and comes back. Writes
docs/operations/dashboards/NAME.png.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
import psycopg
from errand_common.db import migrate
from errand_common.testing.postgres import new_database, running_postgres
from errand_inference.testing.provider import serving_provider
from sqlalchemy.engine import make_url

mpl.use("agg")
import matplotlib.pyplot as plt
from PIL import Image

from charts.observability.dashboards import COLUMN_UNITS, DASHBOARDS, Dashboard, Panel
from tests.e2e.conftest import Suite, serving_target, started
from tests.e2e.prometheus import Prometheus, scraping
from tests.e2e.told import Told
from tests.e2e.ways import WAYS, make_agents

FOLDER = Path(__file__).parents[2] / "docs" / "operations" / "dashboards"
TENANTS = ("acme", "globex", "initech", "umbrella")
COLUMNS, SERIES, ROWS = 3, 10, 6
PRICES = '{"*": {"input": 10, "output": 30, "cached_input": 1}}'
# Scraped each second, a rate over so long is smooth.
RATE = "20s"
# The panels tell of weeks, the suite works for minutes: its requests are set back to the twelve days before, half of
# one tenant's stay today's.
SPREAD = """
WITH numbered AS (SELECT id, row_number() OVER (PARTITION BY tenant_id ORDER BY id) AS number FROM gateway.usage)
UPDATE gateway.usage SET created_at = created_at - make_interval(days =>
  (CASE WHEN usage.tenant_id = 'globex' THEN greatest(number % 24 - 12, 0) ELSE number % 12 END)::int)
FROM numbered WHERE numbered.id = usage.id
"""


def tenant(suite: Suite, name: str) -> Suite:
    """The suite as a new tenant's owner sees it, with agents and a document of its own."""
    suite.http.post("/api/v1/admin/tenants", json={"id": name}).raise_for_status()
    wanted = {"name": "owner", "tenant_id": name, "roles": ["owner"]}
    wanted["scopes"] = ["chat", "documents", "tools", "admin"]
    key = suite.http.post("/api/v1/admin/keys", json=wanted).raise_for_status().json()["key"]
    own = replace(suite, http=httpx.Client(base_url=suite.url, headers={"X-API-Key": key}, timeout=150))
    make_agents(own)
    own.http.post("/api/v1/collections", json={"name": "scanners"}).raise_for_status()
    return own


def person(suite: Suite, first: int, until: float) -> list[bool]:
    """Asks in every way, keeps facts, documents and searches; tells which rounds went well."""
    rounds = []
    for number in itertools.takewhile(lambda _: time.monotonic() < until, itertools.count(first)):
        try:
            WAYS[number % len(WAYS)](suite, number)
            suite.http.post("/api/v1/search", json={"query": f"warranty of scanner {number % 5}"})
            suite.http.post("/api/v1/facts", json={"text": f"I scan {number % 9} pages."})
            suite.http.post("/api/v1/facts/query", json={"query": "how much do I scan?"})
            if number % 8 == 0:
                text = f"The warranty of scanner {number} is 4 years.".encode()
                suite.http.post("/api/v1/collections/scanners/documents", files={"file": (f"{number}.txt", text)})
            suite.http.get("/api/v1/runs/run_unknown")
        except (AssertionError, ValueError, StopIteration, httpx.HTTPError):
            rounds.append(False)
        else:
            rounds.append(True)
    return rounds


def busy(suite: Suite, seconds: float) -> None:
    """Every tenant asks for so long, and inference dies once."""
    until = time.monotonic() + seconds
    owners = [tenant(suite, name) for name in TENANTS]
    with ThreadPoolExecutor(len(owners)) as pool:
        done = [pool.submit(person, owner, 3 * index, until) for index, owner in enumerate(owners)]
        time.sleep(max(0.0, until - seconds / 3 - time.monotonic()))
        os.kill(int(suite.status()["inference"]["pid"]), signal.SIGKILL)
        rounds = [well for one in done for well in one.result()]
    for owner in owners:
        owner.http.close()
    print(f"{sum(rounds)} of {len(rounds)} rounds of requests went well")
    if sum(rounds) < len(rounds) / 2:
        raise SystemExit("a suite that fails is nothing to draw")


class Sources:
    """What panels ask: Prometheus of the time from `since` to now, and Postgres."""

    def __init__(self, prometheus: Prometheus, postgres: psycopg.Connection[Any], since: float) -> None:
        self._prometheus, self._postgres = prometheus, postgres
        self._since, self._until = since, time.time()

    def series(self, panel: Panel) -> list[tuple[str, list[float], list[float]]]:
        """Name, seconds and values of each line, the highest first."""
        asked = self._of_postgres(panel) if panel.sql else self._of_prometheus(panel)
        return sorted(asked, key=lambda line: -max(line[2]))

    def table(self, panel: Panel) -> tuple[list[str], list[Sequence[Any]]]:
        """Columns and rows."""
        query, _ = panel.queries[0]
        during = {"$__timeFrom()": "now() - interval '30 days'", "$__timeTo()": "now()"}
        for variable, value in during.items():
            query = query.replace(variable, value)
        found = self._postgres.execute(query.encode())
        return [column.name for column in found.description or ()], found.fetchall()

    def _of_prometheus(self, panel: Panel) -> Iterator[tuple[str, list[float], list[float]]]:
        for query, legend in panel.queries:
            asked = {"query": re.sub(r"\$__\w+", RATE, query), "start": str(self._since), "end": str(self._until)}
            for found in self._prometheus.get("query_range", step="1", **asked)["result"]:
                points = [(float(at) - self._since, float(value)) for at, value in found["values"] if value != "NaN"]
                if points:
                    seconds, values = zip(*points, strict=True)
                    yield _legend(legend, found["metric"]), list(seconds), list(values)

    def _of_postgres(self, panel: Panel) -> Iterator[tuple[str, list[float], list[float]]]:
        _, rows = self.table(panel)
        for name in sorted({row[1] for row in rows}):
            mine = [row for row in rows if row[1] == name]
            yield name, [row[0].timestamp() - self._until for row in mine], [float(row[2]) for row in mine]


def _legend(pattern: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), pattern)


def _told(unit: str, value: float) -> str:
    """A figure as Grafana tells it, about."""
    match unit:
        case "percentunit":
            return f"{100 * value:.3g}%"
        case "currencyUSD":
            return f"${value:.3g}"
        case "s":
            return f"{value:.3g} s" if value >= 1 or not value else f"{1000 * value:.3g} ms"
        case "reqps":
            return f"{value:.3g}/s"
        case "ms":
            return f"{value:.4g} ms"
        case _:
            return f"{value / 1000:.3g}k" if value >= 1000 else f"{value:.3g}"


def draw_lines(axes: Any, panel: Panel, sources: Sources) -> None:
    """Lines over time."""
    lines = sources.series(panel)[:SERIES]
    for name, seconds, values in lines:
        axes.plot(seconds, values, lw=1, label=name or panel.title, marker="." if len(values) < 30 else "")
    highest = max((max(values) for *_, values in lines), default=0) or 1
    # A line of zeros is to be seen.
    axes.set_ylim(-0.02 * highest, 1.1 * highest)
    axes.yaxis.set_major_formatter(lambda value, _: _told(panel.unit, value))
    if panel.sql:
        axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds / 86_400:.0f} d")
    if lines:
        axes.legend(fontsize=6, loc="best", framealpha=0.6)
    else:
        _no_data(axes)


def draw_bars(axes: Any, panel: Panel, sources: Sources) -> None:
    """The last value of each."""
    lines = sources.series(panel)
    bars = axes.barh([name or panel.title for name, _, _ in lines], [values[-1] for _, _, values in lines])
    axes.bar_label(bars, fmt=lambda value: _told(panel.unit, value), fontsize=6)
    axes.xaxis.set_visible(False)
    if not lines:
        _no_data(axes)


def draw_table(axes: Any, panel: Panel, sources: Sources) -> None:
    """The first rows."""
    columns, rows = sources.table(panel)
    axes.axis("off")
    if not rows:
        _no_data(axes)
        return
    cells = [[_cell(column, cell) for column, cell in zip(columns, row, strict=True)] for row in rows[:ROWS]]
    shown = axes.table(cells, colLabels=columns, loc="upper center", cellLoc="left", edges="horizontal")
    shown.auto_set_font_size(False)
    shown.set_fontsize(7)


def _cell(column: str, cell: Any) -> str:
    return cell if isinstance(cell, str) else _told(COLUMN_UNITS.get(column, "short"), float(cell))


def _no_data(axes: Any) -> None:
    axes.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=8, color="gray", transform=axes.transAxes)


DRAWN = {"timeseries": draw_lines, "stat": draw_bars, "bargauge": draw_bars, "table": draw_table}


def draw(board: Dashboard, sources: Sources) -> None:
    """One dashboard's picture."""
    rows = -(-len(board.panels) // COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(15, 2.7 * rows), squeeze=False)
    for axes in grid.flat[len(board.panels) :]:
        axes.axis("off")
    for axes, panel in zip(grid.flat, board.panels, strict=False):
        axes.set_title(panel.title, fontsize=9, loc="left")
        axes.tick_params(labelsize=6)
        axes.grid(alpha=0.3)
        DRAWN[panel.kind](axes, panel, sources)
    figure.suptitle(f"{board.title} (its panels' queries, drawn without Grafana; seconds of a busy suite)", fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.1 / rows))
    path = FOLDER / f"{board.name}.png"
    figure.savefig(path, dpi=85)
    plt.close(figure)
    with Image.open(path) as picture:
        # A third of the size, and nobody sees it.
        picture.convert("RGB").quantize(128).save(path, optimize=True)


@contextmanager
def watched(folder: Path) -> Iterator[tuple[Suite, Prometheus, str]]:
    """A suite whose gateway keeps its tables in Postgres, a Prometheus that scrapes it, that database's address."""
    with ExitStack() as stack:
        server = stack.enter_context(running_postgres())
        database = stack.enter_context(new_database(server))
        migrate(database, package="errand_gateway.storage.migrations", schema="gateway")
        told = stack.enter_context(serving_provider(Told()))
        more = {**told.settings(), "ERRAND_GATEWAY_DATABASE_URL": database, "ERRAND_GATEWAY_PRICES": PRICES}
        (folder / "suite").mkdir()
        suite = stack.enter_context(started(folder / "suite", stack.enter_context(serving_target()), more))
        prometheus = stack.enter_context(scraping(suite.metrics, folder))
        whole = make_url(server).set(database=make_url(database).database)
        yield suite, prometheus, whole.render_as_string(hide_password=False)


def main() -> None:
    """Starts what is needed, draws, and ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=150)
    seconds = parser.parse_args().seconds
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, watched(Path(name)) as (suite, prometheus, address):
        since = time.time()
        busy(suite, seconds)
        with psycopg.connect(address, autocommit=True) as postgres:
            postgres.execute(SPREAD)
            for board in DASHBOARDS:
                draw(board, Sources(prometheus, postgres, since))


if __name__ == "__main__":
    main()
