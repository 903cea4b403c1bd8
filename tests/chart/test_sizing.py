"""The simulation that sizes an installation: its formulas against each other, its fit against known rates."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from tests.chart.rendering import CHART


@pytest.fixture(scope="module")
def scaling() -> Any:
    spec = importlib.util.spec_from_file_location("scaling", CHART.parents[1] / "bench/scaling/simulate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its data classes look themselves up there.
    sys.modules["scaling"] = module
    spec.loader.exec_module(module)
    return module


def test_a_station_is_found_again_from_its_own_rates(scaling: Any) -> None:
    station = scaling.Station(demand=0.2, delay=0.1)
    loads = [{"clients": n, "p50_ms": 300 / n, "chats_per_second": station.closed(n)} for n in (1, 4, 16)]
    found = scaling.fit(loads)
    assert found.demand == pytest.approx(0.2, abs=0.002)
    assert found.demand + found.delay == pytest.approx(0.3)


def test_a_node_never_does_more_than_its_capacity(scaling: Any) -> None:
    station = scaling.Station(demand=0.25, delay=1.0)
    rates = [station.closed(clients) for clients in (1, 2, 8, 64)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(1 / 1.25)
    assert rates[-1] == pytest.approx(4, rel=0.01)


def test_simulated_traffic_takes_as_long_as_the_formula_says(scaling: Any) -> None:
    station = scaling.Station(demand=0.2, delay=0.1)
    took = scaling.simulate(station, 0.5, 20_000, seed=7)
    assert sum(took) / len(took) == pytest.approx(station.mean(0.5), rel=0.05)


def test_an_autoscaler_ends_at_what_the_load_needs(scaling: Any) -> None:
    result = scaling.burst(scaling.Station(demand=0.2, delay=0.1), 10, 3, 30)
    assert result.wanted == 30
    assert 0 < result.seconds_to_enough < 300
    assert scaling.burst(scaling.Station(demand=0.2, delay=0.1), 333, 3, 30).wanted <= 1000
