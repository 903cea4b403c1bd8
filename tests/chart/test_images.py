"""What every image of ours has in common. That it starts, and its size, are checked where it is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import CHART

ROOT = CHART.parents[1]
EMPTIED = sorted(
    [*ROOT.glob("services/*/Dockerfile"), *(ROOT / "charts/images" / n / "Dockerfile" for n in ("chroma", "mlflow"))]
)
ALL = sorted([*EMPTIED, *(ROOT / "charts/images" / name / "Dockerfile" for name in ("postgres", "redis"))])
BASE = "FROM python:3.11-slim-bookworm AS base\nCOPY charts/images/base.sh /\nRUN sh /base.sh\n"
WORKFLOWS = ROOT / ".github" / "workflows"


def _name(path: Path) -> str:
    return path.parent.name


@pytest.mark.parametrize("path", ALL, ids=_name)
def test_an_image_runs_as_nobody_ends_when_told_and_says_what_it_is(path: Path) -> None:
    last = path.read_text().rpartition("\nFROM ")[2] if _name(path) != "inference" else path.read_text()
    assert "\nUSER 1000\n" in last
    assert "\nSTOPSIGNAL SIG" in last
    assert f'org.opencontainers.image.title="errand-{_name(path)}"' in last
    assert "org.opencontainers.image.licenses=" in last


@pytest.mark.parametrize("path", ALL, ids=_name)
def test_what_an_image_installs_is_pinned(path: Path) -> None:
    for command in re.findall(r"pip install (.*)", path.read_text()):
        assert re.search(r"-c \S*constraints\.txt|-r requirements/no-deps\.txt", command), command
    assert not re.search(r"^FROM (?!scratch|runtime|python:3\.11-slim-bookworm)", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", EMPTIED, ids=_name)
def test_images_share_one_emptied_base(path: Path) -> None:
    text = path.read_text()
    assert BASE in text
    # Before anything of the image's own: a layer is shared only with all that is below it.
    assert re.search(r"^FROM scratch( AS runtime)?\nCOPY --from=base / /\n", text, re.MULTILINE)


@pytest.mark.parametrize("workflow", ["images.yml", "release.yml"])
def test_every_image_is_built(workflow: str) -> None:
    jobs = yaml.safe_load((WORKFLOWS / workflow).read_text())["jobs"]
    built = {
        entry["file"] for job in jobs.values() if "strategy" in job for entry in job["strategy"]["matrix"]["include"]
    }
    assert built == {str(path.relative_to(ROOT)) for path in ALL}


def test_a_released_chart_names_the_registry_of_its_images() -> None:
    steps = yaml.safe_load((WORKFLOWS / "release.yml").read_text())["jobs"]["chart"]["steps"]
    (pattern,) = re.findall(r"s#\^(.*?)\$#", "".join(step.get("run", "") for step in steps))
    assert len(re.findall(f"^{pattern}$", (CHART / "values.yaml").read_text(), re.MULTILINE)) == 1
