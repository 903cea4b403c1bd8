"""Dashboards import into Grafana and ask only for what is there."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from errand_common.db import Database, migrate
from sqlalchemy.engine import make_url

from charts.observability.dashboards import DASHBOARDS, Dashboard
from charts.observability.expressions import faults
from charts.observability.table import PROJECT

FOLDER = PROJECT / "charts" / "errand" / "files" / "dashboards"
# Of Grafana's list; an unknown one is shown as a suffix.
UNITS = {"short", "reqps", "s", "ms", "percentunit", "currencyUSD"}


def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def _panels(path: Path) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = _document(path)["panels"]
    return panels


@pytest.fixture(params=DASHBOARDS, ids=lambda board: board.name)
def path(request: pytest.FixtureRequest) -> Path:
    board: Dashboard = request.param
    return FOLDER / f"{board.name}.json"


def test_the_folder_holds_the_dashboards_and_nothing_else() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {board.name for board in DASHBOARDS}
    wanted = {"overview", "gateway", "agent", "inference", "rag", "tools", "slo", "cost"}
    assert {board.name for board in DASHBOARDS} == wanted
    assert len({_document(path)["uid"] for path in FOLDER.iterdir()}) == len(DASHBOARDS)


def test_a_dashboard_is_whole(path: Path) -> None:
    document = _document(path)
    assert document["uid"] == f"errand-{path.stem}"
    assert len(document["uid"]) <= 40
    assert document["title"]
    variables = {variable["name"]: variable["query"] for variable in document["templating"]["list"]}
    for panel in document["panels"]:
        used = panel["datasource"]["uid"].strip("${}")
        assert variables[used] == panel["datasource"]["type"], "the panel's source is chosen by a variable"
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["title"]
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


def test_panels_lie_side_by_side(path: Path) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in _panels(path):
        place = panel["gridPos"]
        covered = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not covered & cells
        assert place["x"] + place["w"] <= 24
        cells |= covered
    assert len({panel["id"] for panel in _panels(path)}) == len(_panels(path))


def test_queries_ask_for_what_is_exported(path: Path) -> None:
    queries = [target["expr"] for panel in _panels(path) for target in panel["targets"] if "expr" in target]
    assert {query: found for query in queries if (found := faults(query))} == {}


def test_each_dashboard_is_shown_to_those_who_choose() -> None:
    page = PROJECT / "docs" / "operations" / "dashboards.md"
    shown = {page.parent / picture for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text())}
    assert shown == {page.parent / "dashboards" / f"{board.name}.png" for board in DASHBOARDS}
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in shown)


async def test_queries_of_cost_run_on_the_gateway_s_tables(postgres_url: str) -> None:
    await asyncio.to_thread(migrate, postgres_url, package="errand_gateway.storage.migrations", schema="gateway")
    database = Database(postgres_url, schema="gateway")
    try:
        async with database.transaction("default") as session:
            for panel in _panels(FOLDER / "cost.json"):
                query = panel["targets"][0]["rawSql"].replace("$__timeFrom()", "now() - interval '1 day'")
                rows = await session.execute(sa.text(query.replace("$__timeTo()", "now()")))
                columns = list(rows.keys())
                assert (columns[:2] == ["time", "metric"]) == (panel["type"] == "timeseries")
                if panel["type"] == "table":
                    assert _money(panel) & set(columns) == {column for column in columns if "cost" in column}
    finally:
        await database.close()


def _money(panel: dict[str, Any]) -> set[str]:
    """The columns that a table shows as dollars; a count of requests among them would be one too."""
    config = panel["fieldConfig"]
    assert config["defaults"]["unit"] == "short"
    units = {rule["matcher"]["options"]: rule["properties"][0]["value"] for rule in config["overrides"]}
    return {column for column, unit in units.items() if unit == "currencyUSD"}


async def test_a_tenant_that_leaves_its_usual_spend_is_noted_and_no_other(
    postgres_url: str, postgres_server: str
) -> None:
    await asyncio.to_thread(migrate, postgres_url, package="errand_gateway.storage.migrations", schema="gateway")
    whole = make_url(postgres_server).set(database=make_url(postgres_url).database)
    spends = {
        # Tokens of each of the last ten days, oldest first, and of today.
        "steady": ([100] * 10, 130),
        "jumps": ([100, 90, 110] * 3 + [100], 400),
        "always-wild": ([10, 500, 20, 900, 30, 700, 15, 800, 40, 600], 900),
        "new": ([100] * 3, 5000),
    }
    with psycopg.connect(whole.render_as_string(hide_password=False), autocommit=True) as connection:
        for tenant, (days, today) in spends.items():
            for age, tokens in enumerate([today, *reversed(days)]):
                connection.execute(_INSERT, {"id": f"{tenant}-{age}", "tenant": tenant, "tokens": tokens, "age": age})
        panel = next(panel for panel in _panels(FOLDER / "cost.json") if "usual range" in panel["title"])
        found = connection.execute(panel["targets"][0]["rawSql"]).fetchall()
    assert [row[0] for row in found] == ["jumps"]
    assert [float(figure) for figure in found[0][3:]] == [400, 100]


_INSERT = """
INSERT INTO gateway.usage (id, tenant_id, key_id, request_id, action, agent, model, run_id, status, stop_reason,
  prompt_tokens, completion_tokens, cached_tokens, duration_ms, cost_micros, project, created_at)
VALUES (%(id)s, %(tenant)s, 'key', %(id)s, 'runs:create', 'default', 'tiny', '', 200, 'answer',
  %(tokens)s, 0, 0, 1, 0, '', now() - make_interval(days => %(age)s))
"""
