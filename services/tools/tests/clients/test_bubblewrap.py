"""Native commands see no network, no files of this machine's users, no other processes and no secrets."""

import os
import shutil
import subprocess

import pytest
from errand_common.settings import SettingsError, load_settings
from errand_tools.clients.bubblewrap import confined
from errand_tools.settings import ToolsSettings

LOOKS = """
echo files: $(ls /home /root /etc/passwd /etc/shadow /work /run 2>/dev/null)
echo written: $(touch /usr/x /x 2>/dev/null && echo yes)
echo processes: $(ls -d /proc/[0-9]* | wc -l)
echo interfaces: $(tail -n +3 /proc/net/dev | cut -d: -f1)
echo secret: $ERRAND_SECRET
echo rights: $(grep CapEff /proc/self/status | cut -f2)
"""


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed here")
def test_what_a_command_can_reach() -> None:
    done = subprocess.run(
        confined(("/bin/sh", "-c", LOOKS)),
        env={**os.environ, "ERRAND_SECRET": "s3cr3t"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    told = dict(line.split(":", 1) for line in done.stdout.splitlines())
    assert {name: value.strip() for name, value in told.items() if name != "processes"} == {
        "files": "",
        "written": "",
        "interfaces": "lo",
        "secret": "",
        "rights": "0000000000000000",
    }, done.stderr
    # Itself, its shell and what that runs.
    assert int(told["processes"]) < 10


def _settings(monkeypatch: pytest.MonkeyPatch, command: str, **more: str) -> ToolsSettings:
    monkeypatch.setenv("ERRAND_TOOLS_MCP_STDIO_SERVERS", f'{{"git": {command}}}')
    for name, value in more.items():
        monkeypatch.setenv(f"ERRAND_TOOLS_{name}", value)
    return load_settings(ToolsSettings)


def test_commands_are_confined_unless_the_operator_says_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/bwrap")
    command = _settings(monkeypatch, '["/usr/bin/git-mcp", "-v"]').stdio_commands["git"]
    assert command[:2] == ("bwrap", "--unshare-all")
    assert command[-3:] == ("--", "/usr/bin/git-mcp", "-v")
    own = '["bwrap", "--unshare-net", "--bind", "/srv", "/srv", "git-mcp"]'
    assert _settings(monkeypatch, own).stdio_commands["git"][1:3] == ("--unshare-net", "--bind")
    bare = _settings(monkeypatch, '["/usr/bin/git-mcp"]', MCP_STDIO_SANDBOX="none")
    assert bare.stdio_commands["git"] == ("/usr/bin/git-mcp",)


@pytest.mark.parametrize(
    "command", ['["bwrap", "git-mcp"]', '["/usr/bin/bwrap", "--unshare-all", "--share-net", "git-mcp"]']
)
def test_a_bubblewrap_that_keeps_the_network_is_refused(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/bwrap")
    with pytest.raises(SettingsError, match="--unshare-net"):
        _settings(monkeypatch, command)


def test_without_bubblewrap_the_service_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SettingsError, match="need bubblewrap"):
        _settings(monkeypatch, '["/usr/bin/git-mcp"]')
    monkeypatch.delenv("ERRAND_TOOLS_MCP_STDIO_SERVERS")
    assert load_settings(ToolsSettings).stdio_commands == {}
