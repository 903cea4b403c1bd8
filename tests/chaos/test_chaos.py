"""The short form of `make chaos`: two kills, eight runs, no effect lost or doubled."""

from pathlib import Path

import pytest

from .chaos import Chaos, Plan


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_runs_and_effects_survive_killed_replicas(tmp_path: Path, postgres_url: str) -> None:
    plan = Plan(
        runs=8,
        replicas=2,
        kills=2,
        kill_seconds=2.0,
        down_seconds=5.0,
        think_seconds=2.0,
        heartbeat_seconds=0.5,
        dead_after_seconds=5.0,
        limit_seconds=200,
    )
    report = await Chaos(plan, tmp_path, postgres_url).run()
    print(report)
    assert report.is_whole, report
    assert report.kills == 2
    assert report.takeovers, "a replica that was killed had runs, and another one took them"
