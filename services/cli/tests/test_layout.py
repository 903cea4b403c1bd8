"""The data directory: secrets, locks, what is told when nothing runs."""

import json
import os
import stat
from pathlib import Path

import pytest
from errand_cli.layout import LaunchError, Layout, is_alive
from errand_common.testing.keys import principal
from errand_common.tokens import TokenSigner, TokenVerifier


async def test_secrets_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "suite")
    assert layout.prepare() is True
    key, pem = layout.read_admin_key(), layout.signing_key.read_bytes()
    assert layout.prepare() is False
    assert (layout.read_admin_key(), layout.signing_key.read_bytes()) == (key, pem)
    for secret in (layout.admin_key, layout.signing_key):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    token = TokenSigner.from_pem(pem, issuer="errand-gateway").sign(principal())
    assert (await TokenVerifier(str(layout.jwks)).verify(token)).tenant_id == "default"


def test_one_suite_a_folder(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    with layout.locked(), pytest.raises(LaunchError, match="already"), layout.locked():
        pass
    with layout.locked():
        assert (tmp_path / "lock").exists()


def test_what_does_not_run_is_said_with_the_cure(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    with pytest.raises(LaunchError, match="errand up"):
        layout.read_state()
    with pytest.raises(LaunchError, match="errand up"):
        layout.read_admin_key()
    layout.state_file.write_text(json.dumps({"pid": 2**22 + 1}))
    with pytest.raises(LaunchError, match="has ended"):
        layout.read_state()


def test_the_folder_comes_from_the_option_then_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Layout.of(None).root == tmp_path / ".errand"
    monkeypatch.setenv("ERRAND_DATA_DIR", str(tmp_path / "elsewhere"))
    assert Layout.of(None).root == tmp_path / "elsewhere"
    assert Layout.of(tmp_path / "given").root == tmp_path / "given"


def test_a_process_is_alive_until_it_is_gone() -> None:
    assert is_alive(os.getpid())
    assert not is_alive(2**22 + 1)
