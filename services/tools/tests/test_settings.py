"""What an operator may set."""

import pytest
from errand_common.http import Reach
from errand_common.settings import SettingsError, load_settings
from errand_tools.settings import ToolsSettings


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(ToolsSettings)
    assert settings.port == 50054
    assert settings.web_reach.hosts == ()
    assert settings.tool_reach == Reach(None)


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRAND_TOOLS_HTTP_ALLOW_LIST", "a.example, *.b.example,10.0.0.7:8080")
    monkeypatch.setenv("ERRAND_TOOLS_HTTP_PORTS", "443,8443")
    monkeypatch.setenv("ERRAND_TOOLS_HTTP_PRIVATE_NETWORKS", "10.20.0.0/16")
    settings = load_settings(ToolsSettings)
    assert settings.http_allow_list == ("a.example", "*.b.example", "10.0.0.7:8080")
    assert settings.http_ports == (443, 8443)
    assert settings.web_reach.private_networks == ("10.20.0.0/16",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEYS", "short"),
        ("HTTP_ALLOW_LIST", "*"),
        ("HTTP_ALLOW_LIST", "http://a.example/"),
        ("HTTP_PORTS", "https"),
        ("HTTP_PORTS", "0"),
        ("HTTP_PORTS", "65536"),
        ("HTTP_PRIVATE_NETWORKS", "10.0.0.0/33"),
        ("HTTP_PRIVATE_NETWORKS", "169.254.169.254/32"),
        ("HTTP_PRIVATE_NETWORKS", "0.0.0.0/0"),
        ("HTTP_PRIVATE_NETWORKS", "fe80::/64"),
        ("HTTP_PRIVATE_NETWORKS", "64:ff9b::/96"),
        ("HTTP_TOOL_HOSTS", "a b"),
        ("SANDBOX_PROCESSES", "0"),
        ("RUNNING_PER_TOOL", "many"),
    ],
)
def test_wrong_settings_name_their_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"ERRAND_TOOLS_{name}", value)
    with pytest.raises(SettingsError, match=f"ERRAND_TOOLS_{name}"):
        load_settings(ToolsSettings)
