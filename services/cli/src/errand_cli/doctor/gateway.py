"""A gateway, near or far: its components, the key, the clock."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import httpx

from errand_cli.doctor.findings import Finding, note, ok, wrong

_ANSWER_SECONDS = 10.0
_CLOCK_SECONDS = 30
# A request of the gateway to a component that takes longer than this is no longer quick.
_SLOW_MS = 500.0
# What comes of an address where nothing, or something else, answers.
_NO_GATEWAY = (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError)


def gateway(url: str, key: str, *, logs: str) -> Iterator[Finding]:
    """All checks of a gateway; `logs` says where its logs are read."""
    with httpx.Client(timeout=_ANSWER_SECONDS) as client:
        try:
            client.base_url = url
            ready = client.get("/readyz")
            components = ready.json()["components"]
        except _NO_GATEWAY as error:
            yield wrong("gateway", f"{url} does not answer ({type(error).__name__})", f"is the address right? {logs}")
            return
        yield _readiness(url, ready.status_code, logs)
        for name, component in components.items():
            yield _component(name, component, logs)
        try:
            yield from _key_and_clock(client, key)
        except _NO_GATEWAY as error:
            yield wrong("key", f"{url} gave no token ({type(error).__name__})", f"is the key copied whole? {logs}")


def _readiness(url: str, status: int, logs: str) -> Finding:
    if status != httpx.codes.OK:
        return wrong("gateway", f"{url} answers, but is not ready", f"see the components below; {logs}")
    return ok("gateway", f"{url} is ready")


def _component(name: str, component: dict[str, object], logs: str) -> Finding:
    check, milliseconds = f"gateway to {name}", float(str(component["latency_ms"]))
    if component["state"] != "ready":
        report = wrong if component["needed"] else note
        return report(check, f"{name} is {component['state']}", f"start it, or read why it does not answer: {logs}")
    if milliseconds > _SLOW_MS:
        return note(check, f"{milliseconds:.0f} ms", f"{name} is overloaded or far away")
    return ok(check, f"{milliseconds:.0f} ms")


def _key_and_clock(client: httpx.Client, key: str) -> Iterator[Finding]:
    if not key:
        yield note("key", "no key was given", "set ERRAND_API_KEY or give --key")
        return
    before = time.time()
    answer = client.post("/api/v1/token", headers={"X-API-Key": key})
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        yield wrong("key", "the gateway does not know this key", "make another with `errand keys create NAME`")
        return
    if answer.is_error:
        yield wrong("key", f"HTTP {answer.status_code}: {answer.text[:200]}", "read the message")
        return
    yield ok("key", "accepted")
    yield _clock(_issued_at(answer.json()["access_token"]) - (before + time.time()) / 2)


def _issued_at(token: str) -> float:
    body = token.split(".")[1]
    return float(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["iat"])


def _clock(difference: float) -> Finding:
    if abs(difference) > _CLOCK_SECONDS:
        detail = f"this machine and the gateway differ by {abs(difference):.0f} s"
        return wrong("clock", detail, "set both clocks by NTP: internal tokens live for minutes")
    return ok("clock", f"within {max(1, round(abs(difference)))} s of the gateway's")
