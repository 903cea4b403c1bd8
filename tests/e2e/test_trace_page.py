"""A person opens a run's trace in MLflow and reads what it did."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.browser import shown
from tests.e2e.conftest import Suite, errand
from tests.e2e.traces import whole_trace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

STEPS = (
    "chat request",
    "invoke_agent default",
    "retrieve",
    "think",
    "chat errand-tiny",
    "convert_units",
    "execute_tool convert_units",
    "think",
    "chat errand-tiny",
)


def test_the_page_of_a_run_tells_its_steps_in_order(suite: Suite, tmp_path: Path) -> None:
    run = suite.chat("Convert 3 miles to kilometers")
    whole_trace(suite, run["run_id"], lambda trace: len(trace.data.spans) >= len(STEPS))
    address = errand("trace", run["run_id"], "--data-dir", str(suite.data_dir)).strip()
    # The tree of spans, each with its time, some with tokens and cost; the list of traces behind has other words.
    in_order = r" (?:\S+ ){0,2}".join(rf"{re.escape(step)} [\d.]+m?s" for step in STEPS)
    # A busy machine may take the picture before the tree is drawn.
    pages = (shown(address, tmp_path) for _ in range(3))
    page = next((page for page in pages if re.search(in_order, page)), "") or shown(address, tmp_path)
    assert re.search(in_order, page), re.findall(r"chat request.{0,600}", page)
    assert "Convert 3 miles to kilometers" in page
    assert run["answer"] in page
    assert f"{run['usage']['prompt_tokens'] + run['usage']['completion_tokens']:,} tokens" in page
    assert (tmp_path / "page.png").stat().st_size > 10_000
