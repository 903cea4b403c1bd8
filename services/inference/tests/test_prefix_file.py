"""What agents send with every question is read again at the next start, and never stands in its way."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from errand_inference.domain.chat import PromptInput, ToolDeclaration, UserMessage
from errand_inference.domain.prefixes import Prefix
from errand_inference.prefix_file import PrefixFile
from errand_inference.registry import ModelRegistry
from errand_inference.settings import InferenceSettings

TOOLS = (ToolDeclaration("get-weather", "Weather.", {"type": "object", "properties": {"city": {"type": "string"}}}),)


def prompt(instructions: str, tools: tuple[ToolDeclaration, ...] = TOOLS) -> PromptInput:
    return PromptInput((UserMessage("a question that is not kept"),), tools, instructions)


async def test_prefixes_outlive_the_process_in_a_file_that_only_it_may_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "prefixes.json"
    kept = PrefixFile(path, 16, 7)
    kept.load()
    for number in range(20):
        kept.note(Prefix.of("m", prompt(f"agent {number}")))
    kept.note(Prefix.of("m", prompt("agent 7")))
    kept.note(Prefix.of("m", prompt("no tools", ())))
    kept.note(Prefix.of("m", prompt("x" * 100_000)))
    kept.note(Prefix.of("other", prompt("other")))
    await kept.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "a question" not in path.read_text()
    again = PrefixFile(path, 16, 7)
    again.load()
    latest = [prefix.instructions for prefix in again.seen.of("m")]
    assert latest[:2] == ["agent 7", "agent 19"]
    assert len(latest) == 15
    assert [prefix.instructions for prefix in again.seen.of("other")] == ["other"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        '[{"model":"m"}]',
        '[{"model":"m","instructions":"","tools_json":"[]"}]',
        '[{"model":"m","instructions":"","tools_json":"[","day":20000}]',
        '[{"model":"m","instructions":"","tools_json":"[]","day":"soon"}]',
    ],
)
async def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prefixes.json"
    path.write_text(content)
    kept = PrefixFile(path, 16, 7)
    kept.load()
    assert list(kept.seen.of("m")) == []


async def test_a_model_reads_its_agents_prefixes_before_it_serves_and_survives_one_it_cannot_read(
    tmp_path: Path,
) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"pattern": "Hello", "output": "Hi."}]))
    settings = InferenceSettings(engine="scripted", script_file=script, model_name="m", data_dir=tmp_path)
    before = ModelRegistry(settings)
    await before.load_named()
    model = before.get("")
    before.note(model, prompt("fits"))
    before.note(model, prompt("too long " * 5000))
    await before.close()
    after = ModelRegistry(settings)
    await after.load_named()
    # The plain warm-up and the two prefixes, of which the context holds one.
    assert after.get("").engine.asked == 3  # type: ignore[attr-defined]
    await after.close()
    again = ModelRegistry(settings)
    await again.load_named()
    assert again.get("").engine.asked == 2  # type: ignore[attr-defined]
    await again.close()


async def test_what_no_agent_sends_any_more_is_forgotten_in_the_file_too(tmp_path: Path) -> None:
    path, now = tmp_path / "prefixes.json", [1000 * 86_400.0]

    def opened() -> PrefixFile:
        made = PrefixFile(path, 16, 7, clock=lambda: now[0])
        made.load()
        return made

    def known(kept: PrefixFile) -> list[str]:
        return [prefix.instructions for prefix in kept.seen.of("m")]

    kept = opened()
    for text in ("dropped agent", "used agent"):
        kept.note(Prefix.of("m", prompt(text)))
    await kept.save()
    now[0] += 7 * 86_400
    # In use: its day moves on in the file, though nothing else changed.
    kept.note(Prefix.of("m", prompt("used agent")))
    await kept.save()
    assert known(opened()) == ["used agent", "dropped agent"]
    now[0] += 86_400
    # By a service that starts now, and by one that runs.
    assert known(opened()) == ["used agent"]
    await kept.save()
    assert "dropped agent" not in path.read_text()
    assert known(kept) == ["used agent"]


async def test_a_day_from_the_future_does_not_keep_a_prefix(tmp_path: Path) -> None:
    path, now = tmp_path / "prefixes.json", [1000 * 86_400.0]
    ahead = PrefixFile(path, 16, 7, clock=lambda: now[0] + 10**9)
    ahead.note(Prefix.of("m", prompt("agent")))
    await ahead.save()
    kept = PrefixFile(path, 16, 7, clock=lambda: now[0])
    kept.load()
    now[0] += 8 * 86_400
    await kept.save()
    assert list(kept.seen.of("m")) == []


async def test_none_are_kept_where_none_may_be(tmp_path: Path) -> None:
    path = tmp_path / "prefixes.json"
    path.write_text("[]")
    kept = PrefixFile(path, 0, 7)
    kept.load()
    kept.note(Prefix.of("m", prompt("secret")))
    await kept.save()
    assert not path.exists()
