"""Flags by tenant and share, and the operator's file."""

import json
import os
from pathlib import Path

import pytest
from errand_agent import flags as flags_module
from errand_agent.domain.flags import Flag, Rule, rules_of
from errand_agent.flags import Flags

TENANTS = [f"tenant-{number}" for number in range(1000)]


def test_a_share_of_the_tenants_has_it_and_keeps_it_as_the_share_grows() -> None:
    some = {tenant for tenant in TENANTS if Rule(20).is_on("recall-facts", tenant)}
    more = {tenant for tenant in TENANTS if Rule(40).is_on("recall-facts", tenant)}
    assert 130 < len(some) < 270
    assert some < more


def test_who_is_named_has_what_is_said() -> None:
    rule = Rule(0, {"acme": True})
    assert rule.is_on("prompts", "acme")
    assert not rule.is_on("prompts", "other")


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ([], "no JSON object"),
        ({"recal-facts": {}}, "is no flag"),
        ({"prompts": {"percent": 101}}, "prompts.percent"),
        ({"prompts": {"percent": True}}, "prompts.percent"),
        ({"prompts": {"tenants": {"acme": "yes"}}}, "prompts.tenants"),
        ({"prompts": {"on": True}}, "percent and tenants"),
    ],
)
def test_what_cannot_be_meant_is_refused(stored: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rules_of(stored)


def test_everything_is_on_without_a_file() -> None:
    assert all(Flags(None).is_on(flag, "acme") for flag in Flag)


def test_the_file_is_followed_and_a_broken_one_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flags_module, "_LOOK_SECONDS", 0.0)
    path = tmp_path / "flags.json"

    def write(text: str, at: int) -> None:
        path.write_text(text)
        os.utime(path, (at, at))

    write(json.dumps({"prompts": {"percent": 0, "tenants": {"acme": True}}}), 1)
    flags = Flags(path)
    assert [flags.is_on(Flag.PROMPTS, tenant) for tenant in ("acme", "other")] == [True, False]
    assert flags.is_on(Flag.CALL_AGENTS, "other")
    write("{", 2)
    assert not flags.is_on(Flag.PROMPTS, "other")
    write(json.dumps({"call-agents": {"percent": 0}}), 3)
    assert flags.is_on(Flag.PROMPTS, "other")
    assert not flags.is_on(Flag.CALL_AGENTS, "other")
    with pytest.raises(ValueError, match=r"nothing\.json"):
        Flags(tmp_path / "nothing.json")
