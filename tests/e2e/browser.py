"""What a page shows to a person: Chromium renders it, scripts and all."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# The page's own clock: scripts and requests have so long, however slow the machine is.
_SCRIPT_MILLISECONDS = 30_000


def shown(url: str, folder: Path) -> str:
    """The words of a page, in order; leaves a picture of it in `folder`.

    Fails the test, never skips it, when there is no browser.
    """
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.fail("Chromium is missing: run `make browser`, or install it.")
    options = [
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *(f"--user-data-dir={folder / 'profile'}", "--window-size=1600,1000"),
        *(f"--virtual-time-budget={_SCRIPT_MILLISECONDS}", f"--screenshot={folder / 'page.png'}", "--dump-dom"),
    ]
    done = subprocess.run([browser, *options, url], capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", done.stdout, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())
