"""What a gateway's answers are taken for."""

import base64
import json
import time
from typing import Any

import httpx
import pytest
import respx
from errand_cli.doctor.findings import Finding, Level
from errand_cli.doctor.gateway import gateway

_URL = "http://gateway"


def _ready(state: str = "ready", *, needed: bool = True, latency_ms: float = 2.0) -> dict[str, Any]:
    part = {"state": state, "latency_ms": latency_ms, "needed": needed}
    return {"ready": state == "ready", "components": {"agent": part}}


def _token(at: float) -> dict[str, str]:
    body = base64.urlsafe_b64encode(json.dumps({"iat": int(at)}).encode()).decode().rstrip("=")
    return {"access_token": f"x.{body}.y"}


def _asked(ready: httpx.Response | Exception, token: httpx.Response | None = None) -> dict[str, Finding]:
    with respx.mock(assert_all_called=False) as mock:
        mock.get(f"{_URL}/readyz").mock(side_effect=[ready])
        mock.post(f"{_URL}/api/v1/token").mock(return_value=token or httpx.Response(201, json=_token(time.time())))
        return {finding.check: finding for finding in gateway(_URL, "key", logs="read the logs")}


def test_a_component_that_is_away_is_named_with_the_cure() -> None:
    found = _asked(httpx.Response(503, json=_ready("away")))
    assert found["gateway"].level is Level.WRONG
    assert found["gateway to agent"].level is Level.WRONG
    assert "read the logs" in found["gateway to agent"].cure


def test_one_that_is_not_needed_is_only_noted_as_is_a_slow_one() -> None:
    assert _asked(httpx.Response(200, json=_ready("away", needed=False)))["gateway to agent"].level is Level.NOTE
    assert _asked(httpx.Response(200, json=_ready(latency_ms=900)))["gateway to agent"].level is Level.NOTE


@pytest.mark.parametrize("answer", [httpx.ConnectError("no"), httpx.Response(200, text="<html>")])
def test_something_that_is_no_gateway_ends_the_checks(answer: httpx.Response | Exception) -> None:
    found = _asked(answer)
    assert set(found) == {"gateway"}
    assert found["gateway"].level is Level.WRONG


def test_clocks_that_differ_are_wrong() -> None:
    found = _asked(httpx.Response(200, json=_ready()), httpx.Response(200, json=_token(time.time() - 600)))
    assert found["clock"].level is Level.WRONG
    assert "NTP" in found["clock"].cure


def test_a_key_that_is_unknown_or_refused_is_wrong() -> None:
    for answer in (httpx.Response(401, json={}), httpx.Response(403, json={}), httpx.Response(200, text="<html>")):
        found = _asked(httpx.Response(200, json=_ready()), answer)
        assert found["key"].level is Level.WRONG
        assert "clock" not in found
