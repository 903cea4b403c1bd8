"""The supervisor with real processes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from errand_cli.layout import Layout, is_alive
from errand_cli.services import Ports, ServiceSpec
from errand_cli.supervisor import Supervisor

_PORTS = Ports(1, 2, {"agent": 3})
_SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")
_DIE = (sys.executable, "-c", "raise SystemExit(3)")
_STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout.of(tmp_path)
    made.prepare()
    return made


def _until(condition: Callable[[], bool], supervisor: Supervisor, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        supervisor.tick()
        time.sleep(0.02)
    assert condition()


def _service(supervisor: Supervisor, name: str) -> dict[str, object]:
    return next(service for service in supervisor.services() if service["name"] == name)


def test_what_died_is_started_again_and_counted(layout: Layout) -> None:
    supervisor = Supervisor(layout, _PORTS, [ServiceSpec("a", _SLEEP), ServiceSpec("b", _SLEEP)])
    supervisor.start()
    try:
        first = int(str(_service(supervisor, "a")["pid"]))
        other = _service(supervisor, "b")["pid"]
        os.kill(first, signal.SIGKILL)
        _until(lambda: _service(supervisor, "a")["restarts"] == 1, supervisor)
        assert _service(supervisor, "a")["pid"] not in (0, first)
        assert _service(supervisor, "b")["pid"] == other
        stored = json.loads(layout.state_file.read_text())
        assert stored["services"] == supervisor.services()
    finally:
        supervisor.stop()
    assert not layout.state_file.exists()
    assert not is_alive(int(str(other)))


def test_what_dies_at_once_is_started_again_ever_more_slowly(layout: Layout) -> None:
    supervisor = Supervisor(layout, _PORTS, [ServiceSpec("a", _DIE)])
    supervisor.start()
    try:
        _until(lambda: int(str(_service(supervisor, "a")["restarts"])) >= 2, supervisor)
        child = supervisor._children[0]
        assert child.pause >= 2.0
        _until(lambda: _service(supervisor, "a")["state"] == "restarting", supervisor)
    finally:
        supervisor.stop()


def test_what_ignores_sigterm_is_killed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("errand_cli.supervisor._STOP_SECONDS", 0.5)
    supervisor = Supervisor(layout, _PORTS, [ServiceSpec("a", _STUBBORN)])
    supervisor.start()
    log = layout.logs / "a.log"
    _until(lambda: log.exists() and b"up" in log.read_bytes(), supervisor)
    pid = int(str(_service(supervisor, "a")["pid"]))
    supervisor.stop()
    assert not is_alive(pid)


def test_what_hears_the_others_ends_after_them(layout: Layout) -> None:
    """Both write when they are told to end; the others take a while for it."""
    told = layout.root / "told"
    script = textwrap.dedent("""
        import signal, sys, time
        def end(*_):
            time.sleep(float(sys.argv[1]))
            with open(sys.argv[3], "a") as file:
                file.write(sys.argv[2])
            raise SystemExit
        signal.signal(signal.SIGTERM, end)
        print("up", flush=True)
        time.sleep(60)
    """)
    command = (sys.executable, "-c", script)
    specs = [
        ServiceSpec("hears", (*command, "0", "hears", str(told)), ends_last=True),
        ServiceSpec("tells", (*command, "0.5", "tells ", str(told))),
    ]
    supervisor = Supervisor(layout, _PORTS, specs)
    supervisor.start()
    logs = [layout.logs / f"{spec.name}.log" for spec in specs]
    _until(lambda: all(log.exists() and b"up" in log.read_bytes() for log in logs), supervisor)
    supervisor.stop()
    assert told.read_text() == "tells hears"


def test_no_process_outlives_a_killed_supervisor(layout: Layout) -> None:
    script = textwrap.dedent(f"""
        from pathlib import Path
        from errand_cli.layout import Layout
        from errand_cli.services import Ports, ServiceSpec
        from errand_cli.supervisor import Supervisor
        supervisor = Supervisor(Layout(Path({str(layout.root)!r})), Ports(1, 2, {{}}), [ServiceSpec("a", {_SLEEP!r})])
        supervisor.start()
        print(supervisor.services()[0]["pid"], flush=True)
        supervisor.run()
    """)
    launcher = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    pid = int(launcher.stdout.readline())
    assert is_alive(pid)
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    until = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(pid)
