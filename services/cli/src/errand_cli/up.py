"""`errand up`: from nothing to an answering suite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
from rich.console import Console

from errand_cli.layout import LaunchError, Layout, is_alive
from errand_cli.services import Ports, choose_ports, service_specs
from errand_cli.supervisor import Supervisor

_READY_SECONDS = 180.0
_POLL_SECONDS = 0.1
console = Console(stderr=True)


def run_in_foreground(layout: Layout, port: int | None, *, announce: bool) -> None:
    """Starts the suite and supervises it until Ctrl-C or SIGTERM."""
    fresh = layout.prepare()
    with layout.locked():
        ports = choose_ports(port)
        supervisor = Supervisor(layout, ports, service_specs(layout, ports))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, supervisor.request_stop)
        supervisor.start()
        try:
            if announce:
                ready = wait_until_ready(layout, ports, supervisor.tick, lambda: supervisor.is_ending)
                if ready:
                    print_welcome(layout, layout.read_state(), show_key=fresh)
            supervisor.run()
        finally:
            supervisor.stop()


def start_detached(layout: Layout, port: int | None, *, as_json: bool) -> None:
    """Starts the suite in the background and returns when it answers; raises LaunchError."""
    fresh = layout.prepare()
    with layout.locked():
        ports = choose_ports(port)
    process = _spawn_supervisor(layout, ports)

    def check() -> None:
        if process.poll() is not None:
            raise LaunchError(f"The suite did not start; see {layout.logs / 'supervisor.log'}.")

    wait_until_ready(layout, ports, check, lambda: False)
    state = layout.read_state()
    if as_json:
        sys.stdout.write(json.dumps(summary(layout, state)) + "\n")
    else:
        print_welcome(layout, state, show_key=fresh)


def _spawn_supervisor(layout: Layout, ports: Ports) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "errand_cli",
        "supervise",
        "--data-dir",
        str(layout.root),
        "--port",
        str(ports.gateway),
    ]
    with (layout.logs / "supervisor.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own command line
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def wait_until_ready(layout: Layout, ports: Ports, between: Callable[[], None], stopped: Callable[[], bool]) -> bool:
    """Polls the gateway's /readyz, showing who is awaited; false when stopped meanwhile.

    Raises LaunchError after three minutes.
    """
    until = time.monotonic() + _READY_SECONDS
    url = f"http://127.0.0.1:{ports.gateway}/readyz"
    with console.status("starting …") as status, httpx.Client(timeout=2.0) as client:
        while time.monotonic() < until and not stopped():
            between()
            awaited = _awaited(client, url)
            if awaited is not None and not awaited:
                return True
            status.update("starting: waiting for " + (", ".join(awaited) if awaited else "gateway"))
            time.sleep(_POLL_SECONDS)
    if stopped():
        return False
    raise LaunchError(f"The suite was not ready after {_READY_SECONDS:.0f} s; the logs are in {layout.logs}.")


def _awaited(client: httpx.Client, url: str) -> list[str] | None:
    """Components that are not ready; None while the gateway does not answer."""
    try:
        response = client.get(url)
        if response.status_code == httpx.codes.OK:
            return []
        components = response.json().get("components", {})
        return sorted(name for name, part in components.items() if part.get("state") not in ("ok", "ready", "up")) or [
            "gateway"
        ]
    except (httpx.HTTPError, ValueError, AttributeError):
        return None


def summary(layout: Layout, state: dict[str, Any]) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "url": state["url"],
        "admin_key": layout.read_admin_key(),
        "mlflow_url": state["mlflow_url"],
        "pids": {service["name"]: service["pid"] for service in state["services"]},
    }


def print_welcome(layout: Layout, state: dict[str, Any], *, show_key: bool) -> None:
    """Addresses, the key on the first start, and three things to try."""
    url, key_file = state["url"], layout.admin_key
    lines = [
        f"Errand is ready: {url} (API: {url}/docs)",
        f"MLflow:          {state['mlflow_url']} (may need another half a minute)",
        f"Admin key:       {layout.read_admin_key()}" if show_key else f"Admin key:       in {key_file}",
        "",
        "Try:",
        f'  errand chat "What is 15% of 240?" --data-dir {layout.root}',
        f"  curl -s {url}/api/v1/chat -H \"X-API-Key: $(cat {key_file})\" -H 'Content-Type: application/json' \\",
        '       -d \'{"message": "What time is it in Tokyo?"}\'',
        f"  errand ingest README.md --data-dir {layout.root}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def stop(layout: Layout) -> None:
    """Ends the suite of a data directory and waits; raises LaunchError when none runs."""
    pid = int(layout.read_state()["pid"])
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 40
    with console.status("stopping …"):
        while is_alive(pid) and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
    if is_alive(pid):
        raise LaunchError(f"The suite (process {pid}) did not end in 40 s.")
